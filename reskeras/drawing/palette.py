"""Colors and type of every picture: network drawings, report figures, and the report page."""

from typing import NamedTuple

BODY, SMALL, TITLE = 8.0, 7.0, 12.0
"""Sizes of type, in points."""

# matplotlib ships this font, so text has the same width on every machine. If the reader of an SVG
# lacks it, the fallbacks in matplotlib's list of sans-serif fonts are no wider.
FONT = ("DejaVu Sans", "sans-serif")

INK, GRAY, FAINT, HAIR, PAPER = "#1f2933", "#66717d", "#c3cad1", "#e8ebee", "#ffffff"
HIGHLIGHT = "#b4430f"
"""The winner of a search; the block that is shown layer by layer."""
SKY = "#6d93bd"
"""Trials that are not the center of attention: stopped early, or one of many."""
RAMP = ("#b1cbe8", "#3a6796", "#14283d")
"""Colors of scores, the best the darkest; one hue, so that colorblind readers can read them."""


class Paint(NamedTuple):
    """Colors of a solid: the face toward the reader, the top, the right side, and the edges."""

    front: str
    top: str
    side: str
    edge: str


BLUE = Paint("#cfe0f3", "#e6effa", "#b1cbe8", "#3a6796")
GREEN = Paint("#cde7d9", "#e3f2ea", "#aed5c1", "#36795a")
SAND = Paint("#f4e7cb", "#faf3e4", "#e6d2a8", "#8f6d2b")
STEEL = Paint("#e3e6ea", "#f0f2f4", "#cfd4da", "#66717d")
ROSE = Paint("#f3d5d0", "#f9e8e5", "#e5b7b0", "#a1564b")
VIOLET = Paint("#ded5ee", "#ece6f6", "#c7b9e1", "#65508f")
