"""Lines of measured values over something, with what theory expects beside them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from reskeras.drawing.palette import (
    BLUE,
    BODY,
    FAINT,
    GRAY,
    GREEN,
    HAIR,
    INK,
    ROSE,
    SAND,
    SMALL,
    VIOLET,
)

_COLORS = (BLUE.edge, ROSE.edge, GREEN.edge, VIOLET.edge, SAND.edge)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Measured values, and what theory says of them."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """The lower end of what single networks have, shaded up to `high`."""
    high: Sequence[float] | None = None
    theory: Sequence[float] | None = None
    """Dashed, in the same color; NaN where there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log: bool = False
    """Whether y has a logarithmic scale."""


def lines_figure(panels: Sequence[Panel]) -> Any:
    """Draws panels side by side; returns a `matplotlib.figure.Figure`."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.3 * len(panels), 3.4), dpi=100, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, line in enumerate(panel.lines):
            color = _COLORS[number % len(_COLORS)]
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.15, linewidth=0)
            axes.plot(line.x, line.y, color=color, marker="o", markersize=3, linewidth=1.2,
                      label=line.label)  # fmt: skip
            if line.theory is not None:
                axes.plot(line.x, line.theory, color=color, linewidth=1.2, linestyle=(0, (4, 3)))
        if panel.log:
            axes.set_yscale("log")
        if all(float(x).is_integer() for line in panel.lines for x in line.x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(panel.title, fontsize=BODY, color=INK, loc="left")
        axes.set_xlabel(panel.x, fontsize=SMALL, color=GRAY)
        axes.set_ylabel(panel.y, fontsize=SMALL, color=GRAY)
        axes.grid(color=HAIR, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", colors=GRAY, labelsize=SMALL, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(FAINT)
        handles, _ = axes.get_legend_handles_labels()
        if any(line.theory is not None for line in panel.lines):
            handles.append(Line2D([], [], color=GRAY, linestyle=(0, (4, 3)), label="theory"))
        if len(handles) > 1:
            axes.legend(handles=handles, fontsize=SMALL, frameon=False, labelcolor=INK)
    return figure
