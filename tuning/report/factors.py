"""factors.svg: the score by each factor, after the tuning playbook's isolation plots."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reskeras.drawing.palette import (
    BLUE,
    BODY,
    FAINT,
    FONT,
    GRAY,
    HAIR,
    HIGHLIGHT,
    INK,
    PAPER,
    ROSE,
    SMALL,
    TITLE,
)
from reskeras.drawing.plot import save
from reskeras.errors import RequestError
from tuning.insight.importance import importances, scored, searched, strip
from tuning.insight.scales import ScoreScale, limits, marks, scale_of
from tuning.record.entries import TrialRecord
from tuning.record.ranking import by_rank
from tuning.settings import sign
from tuning.space import Range, Space

Array = npt.NDArray[np.float64]

_WIDE, _TALL = 8.64, 2.5
"""Width of the picture (that of a README) and height of a row of panels, in inches."""

_CROWD = 1000
"""More trials than this are an image inside the SVG, which would have many megabytes."""

_FEW = 4
"""Fewer trials than this have no middle half."""

_WHOLE: dict[str, Any] = {
    "linestyle": "none",
    "color": BLUE.edge,
    "alpha": 0.85,
    "markersize": 4.8,
    "markeredgewidth": 0,
}
_STOPPED: dict[str, Any] = {
    "linestyle": "none",
    "color": PAPER,
    "markersize": 4.2,
    "markeredgewidth": 0.8,
    "markeredgecolor": "#8aa9c9",
}
_FAILED: dict[str, Any] = {"linestyle": "none", "marker": "|", "markersize": 7, "color": ROSE.edge}
_STAR: dict[str, Any] = {"linestyle": "none", "marker": "*", "color": HIGHLIGHT}


def factor_plot(
    records: Sequence[TrialRecord],
    space: Space,
    objective: str,
    path: str | os.PathLike[str],
    known: Mapping[str, float] | None = None,
) -> Path:
    """Draws the score by each factor into an .svg or .png file, whose path it returns.

    One panel per factor, the most important first: every trial as a point (hollow if it was stopped
    early), medians with the middle half of the trials, failed trials as ticks at the bottom, the
    best as a star. Accuracies are at the logarithm of their error, losses at their logarithm;
    better is higher. Trials far below the rest are triangles at the lower edge. The same trials
    give the same bytes with the same matplotlib.

    Args:
        records: trials of one search.
        space: the space that was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.
        path: where to write it.
        known: the importances of these trials; None computes them.

    Raises:
        RequestError: another suffix, a missing folder, a file that cannot be written, or no trial
            has a score.
    """
    if not scored(records):
        raise RequestError(f"{path}: nothing to draw: no trial has a score")
    if known is None:
        known = importances(records, space, objective)
    return save(path, lambda: factor_figure(records, space, objective, known))


def factor_figure(
    records: Sequence[TrialRecord], space: Space, objective: str, known: Mapping[str, float]
) -> Any:
    """The picture of `factor_plot` as a `matplotlib.figure.Figure`."""
    from matplotlib.figure import Figure

    trials = scored(records)
    paths = list(known) or list(space.vary)
    across = min(2, len(paths))
    down = math.ceil(len(paths) / across)
    tall = 0.95 + _TALL * down
    page = Figure(figsize=(_WIDE, tall), dpi=100)
    grid = page.subplots(down, across, squeeze=False, sharey=True)
    page.subplots_adjust(
        left=0.085, right=0.985, top=1 - 0.9 / tall, bottom=0.62 / tall, wspace=0.06, hspace=0.4
    )
    page.text(
        0.014, 1 - 0.2 / tall, "What each factor did", **_font(TITLE, INK, bold=True), va="center"
    )
    facts = [
        f"{objective} (better is higher)" if sign(objective) < 0 else objective,
        f"{len(trials)} trials",
    ]
    if failed := len(records) - len(trials):
        facts.append(f"{failed} failed")
    if not known:
        facts.append("importance of factors unknown")
    page.text(0.014, 1 - 0.43 / tall, "  ·  ".join(facts), **_font(BODY, GRAY), va="center")
    scale = scale_of(objective, np.array([record.score for record in trials]))
    heights = scale.height(np.array([record.score for record in trials]))
    low, high = limits(heights)
    values = [searched(record, space) for record in records]
    for axes, factor in zip(grid.flat, paths, strict=False):
        _panel(axes, records, values, space, objective, factor, scale, low)
        _title(axes, space, factor, known.get(factor))
    for axes in list(grid.flat)[len(paths) :]:
        axes.set_axis_off()
    room = 0.06 * (high - low)
    grid[0, 0].set_ylim(low - 2.2 * room, high + 1.4 * room)
    kept = marks(scale, low, high)
    grid[0, 0].set_yticks([height for height, _ in kept], [written for _, written in kept])
    _legend(page, trials, failed=bool(failed), below=bool((heights < low).any()))
    return page


def _panel(
    axes: Any,
    records: Sequence[TrialRecord],
    every: Sequence[Mapping[str, Any]],
    space: Space,
    objective: str,
    path: str,
    scale: ScoreScale,
    low: float,
) -> None:
    """Draws one factor; `every` has the searched values of each record."""
    points = [
        (record, found[path]) for record, found in zip(records, every, strict=True) if path in found
    ]
    known = {record.number for record in scored(records)}
    shown = [(record, value) for record, value in points if record.number in known]
    lost = [value for record, value in points if record.number not in known]
    heights = scale.height(np.array([record.score for record, _ in shown]))
    values = [value for _, value in shown]
    item, places = space.vary[path], strip(space, path)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=HAIR, linewidth=0.7)
    if places is not None:
        order = {str(value): place for place, value in enumerate(places)}
        x = np.array([order[str(value)] for value in values], dtype=float)
        _bars(axes, x, heights, low)
        # Side by side by age, so that none hides another and the picture is reproducible.
        x = x + np.array([_aside(place, x) for place in range(len(x))])
        axes.set_xlim(-0.6, len(places) - 0.4)
        axes.set_xticks(range(len(places)), [_wrapped(value) for value in places])
        below = np.array([order[str(value)] for value in lost], dtype=float)
        ticks = below + np.array([_aside(place, below) for place in range(len(below))])
    else:
        x = np.array(values, dtype=float)
        assert isinstance(item, Range)
        if item.log:
            axes.set_xscale("log")
        _band(axes, x, heights, log=item.log, low=low)
        axes.set_xlim(*_room(item))
        _numbers_below(axes, item, whole=space.is_whole(path))
        ticks = np.array(lost, dtype=float)
    best = by_rank(scored(records), objective)[0]
    _dots(axes, x, heights, [record for record, _ in shown], best.number, low)
    axes.plot(
        ticks, np.full(len(ticks), 0.035), transform=axes.get_xaxis_transform(), zorder=4, **_FAILED
    )
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    axes.tick_params(
        colors=FAINT, labelcolor=INK, labelsize=SMALL, length=3, labelfontfamily=FONT[0]
    )
    axes.tick_params(which="minor", color=FAINT, length=2)


def _dots(
    axes: Any, x: Array, heights: Array, records: Sequence[TrialRecord], best: int, low: float
) -> None:
    """Draws the trials; `best` is the number of the best one."""
    crowd = len(records) > _CROWD
    small = {"markersize": 2.4, "alpha": 0.4} if crowd else {}
    star = np.array([record.number == best for record in records], dtype=bool)
    whole = np.array([record.status == "completed" for record in records], dtype=bool)
    for below in (False, True):
        for look, those in ((_WHOLE | small, whole), (_STOPPED | small, ~whole)):
            here = those & ~star & ((heights < low) == below)
            axes.plot(
                x[here],
                np.maximum(heights[here], low),
                marker="v" if below else "o",
                zorder=3,
                rasterized=crowd,
                **look,
            )
    axes.plot(
        x[star],
        heights[star],
        markersize=12,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=5,
        **_STAR,
    )


def _bars(axes: Any, x: Array, heights: Array, low: float) -> None:
    for place in np.unique(x):
        here = np.maximum(heights[x == place], low)
        if len(here) < _FEW:
            continue
        first, middle, third = np.quantile(here, [0.25, 0.5, 0.75])
        axes.fill_between(
            [place - 0.34, place + 0.34], first, third, color=BLUE.front, linewidth=0, zorder=1
        )
        axes.plot(
            [place - 0.34, place + 0.34],
            [middle, middle],
            color=INK,
            linewidth=1.4,
            zorder=_line_order(x),
            solid_capstyle="butt",
        )


def _band(axes: Any, x: Array, heights: Array, *, log: bool, low: float) -> None:
    """Draws medians and middle halves of bins with equally many trials."""
    bins = min(6, len(x) // 5)
    if bins < 3:
        return
    order = np.argsort(x, kind="stable")
    parts = np.array_split(order, bins)
    places = np.array([np.median(np.log(x[part]) if log else x[part]) for part in parts])
    spread = np.array(
        [np.quantile(np.maximum(heights[part], low), [0.25, 0.5, 0.75]) for part in parts]
    ).T
    places = np.exp(places) if log else places
    axes.fill_between(places, spread[0], spread[2], color=BLUE.front, linewidth=0, zorder=1)
    axes.plot(places, spread[1], color=INK, linewidth=1.4, zorder=_line_order(x))


def _line_order(x: Array) -> int:
    """Medians are behind the trials, unless a crowd of trials would hide them."""
    return 4 if len(x) > _CROWD else 2


def _title(axes: Any, space: Space, path: str, importance: float | None) -> None:
    axes.set_title(space.short_names()[path], loc="left", pad=7, **_font(9, INK, bold=True))
    notes = (
        []
        if importance is None
        else [
            f"{100 * importance:.0f} % of importance" if importance >= 0.005 else "hardly matters"
        ]
    )
    if (condition := space.condition(path)) is not None:
        notes.append(f"{', '.join(condition[1])} only")
    axes.set_title(
        "  ·  ".join(notes),
        loc="right",
        pad=7,
        **_font(BODY, HIGHLIGHT if (importance or 0) >= 0.25 else GRAY),
    )


def _legend(page: Any, trials: Sequence[TrialRecord], *, failed: bool, below: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], marker="o", label="trial", **_WHOLE)]
    if any(record.status != "completed" for record in trials):
        handles.append(Line2D([], [], marker="o", label="stopped early", **_STOPPED))
    if below:
        handles.append(Line2D([], [], marker="v", label="far below", **_WHOLE))
    if failed:
        handles.append(Line2D([], [], label="failed", **_FAILED))
    handles += [
        Line2D([], [], markersize=9, markeredgewidth=0, label="best", **_STAR),
        Line2D([], [], color=INK, linewidth=1.4, label="median"),
        Patch(facecolor=BLUE.front, label="middle half"),
    ]
    font = {"family": list(FONT), "size": SMALL}
    page.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        prop=font,
        labelcolor=GRAY,
        handletextpad=0.4,
        bbox_to_anchor=(0.53, 0.0),
    )


def _numbers_below(axes: Any, item: Range, *, whole: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    if item.log:
        decades = math.log10(item.high / item.low)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades <= 3 else (1,)))
        axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=whole))


def _room(item: Range) -> tuple[float, float]:
    if item.log:
        margin = (item.high / item.low) ** 0.03
        return item.low / margin, item.high * margin
    margin = 0.03 * (item.high - item.low)
    return item.low - margin, item.high + margin


def _aside(place: int, x: Array) -> float:
    """Offset of a point in its strip: the golden ratio spreads any number of points evenly."""
    earlier = int((x[:place] == x[place]).sum())
    return 0.56 * (((earlier + 1) * 0.6180339887) % 1 - 0.5)


def _wrapped(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "\n".join(textwrap.wrap(text.replace("_", "_ "), 12)).replace("_ ", "_")


def _font(size: float, color: str, *, bold: bool = False) -> dict[str, Any]:
    return {
        "fontsize": size,
        "color": color,
        "fontfamily": list(FONT),
        "fontweight": "bold" if bold else "normal",
        "parse_math": False,
    }
