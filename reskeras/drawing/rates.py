"""A learning-rate range test as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reskeras.drawing.palette import BLUE, FAINT, FONT, GRAY, GREEN, HIGHLIGHT, INK, SMALL
from reskeras.drawing.plot import save
from reskeras.words import three_digits


def rates_plot(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggested: tuple[float, float],
    path: str | os.PathLike[str],
) -> Path:
    """Draws loss over learning rate into an .svg or .png file, whose path it returns.

    Args:
        rates: the rate of each step.
        losses: the loss of each step.
        smoothed: their average.
        suggested: the ends of the range that is shaded.
        path: the file.

    Raises:
        RequestError: another suffix, a missing folder, or a file that cannot be written.
    """
    return save(path, lambda: _figure(rates, losses, smoothed, suggested))


def _figure(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggested: tuple[float, float],
) -> Any:
    from matplotlib.figure import Figure

    page = Figure(figsize=(5.4, 3.2), dpi=100)
    page.subplots_adjust(left=0.1, right=0.98, top=0.9, bottom=0.15)
    axes = page.subplots()
    axes.axvspan(*suggested, color=GREEN.front, linewidth=0)
    axes.plot(rates, losses, color=BLUE.side, linewidth=0.8, label="each batch")
    axes.plot(rates, smoothed, color=BLUE.edge, linewidth=1.6, label="average")
    axes.set_xscale("log")
    # A loss that diverges would press what matters flat.
    bottom, top = min(*losses, *smoothed), max(smoothed[: _lowest(smoothed) + 1])
    margin = 0.3 * (top - bottom)
    axes.set_ylim(bottom - margin / 3, top + margin)
    text: dict[str, Any] = {"fontsize": SMALL, "fontfamily": list(FONT)}
    axes.set_xlabel("learning rate", color=GRAY, **text)
    axes.set_ylabel("loss", color=GRAY, **text)
    low, high = map(three_digits, suggested)
    axes.set_title(f"range {low} to {high}", color=HIGHLIGHT, loc="left", **text)
    axes.tick_params(
        which="both", colors=FAINT, labelcolor=INK, labelsize=SMALL, length=3,
        labelfontfamily=FONT[0],
    )  # fmt: skip
    axes.legend(
        frameon=False, loc="lower left", prop={"family": list(FONT), "size": SMALL}, labelcolor=INK
    )
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    return page


def _lowest(values: Sequence[float]) -> int:
    return min(range(len(values)), key=values.__getitem__)
