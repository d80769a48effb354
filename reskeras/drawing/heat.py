"""Tables of numbers as colors."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from reskeras.drawing.palette import BODY, GRAY, INK, SMALL


@dataclasses.dataclass(frozen=True, kw_only=True)
class Map:
    """Numbers [R,C]; NaN is left white."""

    title: str
    x: str
    y: str
    values: Any
    rows: Sequence[str]
    columns: Sequence[str]
    log: bool = False
    """Whether colors have a logarithmic scale; numbers that are not positive are left white."""


def heat_figure(maps: Sequence[Map]) -> Any:
    """Draws maps side by side, each with its own scale; returns a `matplotlib.figure.Figure`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.9 * len(maps), 3.4), dpi=100, layout="constrained")
    for axes, one in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        shown = axes.imshow(
            one.values,
            cmap="Blues",
            norm="log" if one.log else "linear",
            interpolation="nearest",
            aspect="auto",
        )
        axes.set_title(one.title, fontsize=BODY, color=INK, loc="left")
        axes.set_xlabel(one.x, fontsize=SMALL, color=GRAY)
        axes.set_ylabel(one.y, fontsize=SMALL, color=GRAY)
        axes.set_xticks(range(len(one.columns)), one.columns)
        axes.set_yticks(range(len(one.rows)), one.rows)
        axes.tick_params(colors=GRAY, labelsize=SMALL, length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ax=axes, shrink=0.8)
        bar.ax.tick_params(labelsize=SMALL, colors=GRAY, length=0)
        bar.outline.set_visible(False)
    return figure
