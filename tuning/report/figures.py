"""The figures of report.html as data, for plotly and for the page's parallel coordinates."""

import collections
import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import (
    BLUE,
    FAINT,
    FONT,
    GRAY,
    HAIR,
    HIGHLIGHT,
    INK,
    PAPER,
    RAMP,
    ROSE,
    SKY,
)
from reskeras.errors import in_a_line
from reskeras.tasks import write_score
from tuning.insight.findings import Findings
from tuning.insight.importance import strip
from tuning.insight.scales import limits, marks
from tuning.record.journal import EpochRecord, FinalEpoch, TrialRecord
from tuning.record.ranking import leaderboard
from tuning.space import Range, Space

_POINTS, _LINES, _CURVES, _ROWS = 2000, 500, 200, 40
"""Most trials over time, parallel coordinates, learning curves, rows of the lineage."""

Figure = dict[str, Any]
Noted = tuple[Figure, str]
"""A figure, and a note about it."""


def over_time(found: Findings) -> Noted:
    """Each trial at the time it ended, and the best score so far as a line."""
    low, high = limits(_heights(found, found.scored))
    known = {record.number for record in found.scored}
    last = max(found.elapsed(record.time) for record in found.journal.trials)
    unit, length = next(
        (u for u in (("hours", 3600), ("minutes", 60)) if last > 2 * u[1]), ("seconds", 1)
    )

    def points(
        name: str, records: Sequence[TrialRecord], ys: Iterable[float], symbol: str, **look: Any
    ) -> Figure:
        xs, heights = [found.elapsed(record.time) / length for record in records], list(ys)
        # Trials far below the rest are in a row of their own.
        symbols = [symbol if y >= low or symbol == "x-thin" else "triangle-down" for y in heights]
        shown = heights if symbol == "x-thin" else [max(low, y) for y in heights]
        texts = [_hover(found, record) for record in records]
        return _trace(
            "markers",
            name,
            xs,
            shown,
            texts,
            marker={"size": 7, "color": BLUE.edge, "symbol": symbols, **look},
        )

    best: TrialRecord | None = None
    steps: list[TrialRecord] = []
    for record in found.journal.trials:
        if record.number in known and (
            best is None or leaderboard([best, record], found.objective)[0] is record
        ):
            best = record
            steps.append(record)
    heights = [*_heights(found, steps), *_heights(found, steps[-1:])]
    ends = [*(found.elapsed(record.time) / length for record in steps), last / length]
    traces = [
        _trace(
            "lines",
            "best so far",
            ends,
            heights,
            None,
            line={"shape": "hv", "color": INK, "width": 1.6},
        )
    ]
    shown, note = _thinned(found.scored, _POINTS, "trials")
    whole = [
        record for record in shown if record.status == "completed" and record is not found.winner
    ]
    early = [
        record for record in shown if record.status != "completed" and record is not found.winner
    ]
    failed = [record for record in found.ranked if record.number not in known][:_POINTS]
    if whole:
        traces.append(points("trial", whole, _heights(found, whole), "circle"))
    if early:
        outline = {"color": SKY, "width": 1.2}
        traces.append(
            points(
                "stopped early", early, _heights(found, early), "circle", color=PAPER, line=outline
            )
        )
    if failed:
        below = [low - 0.09 * (high - low)] * len(failed)
        traces.append(
            points("failed", failed, below, "x-thin", line={"color": ROSE.edge, "width": 1.6})
        )
    if found.winner is not None:
        star = {"size": 14, "color": HIGHLIGHT, "line": {"color": PAPER, "width": 1}}
        traces.append(
            points("winner", [found.winner], _heights(found, [found.winner]), "star", **star)
        )
    return _figure(
        traces,
        {"title": {"text": unit, "font": {"size": 12}}, "rangemode": "tozero"},
        _score_axis(found, low, high),
    ), note


def curves(found: Findings) -> Noted | None:
    """The objective after each epoch of trials and final trainings; None if none has two epochs."""
    points: dict[int, list[tuple[int, float]]] = {}
    finals: dict[tuple[int, int, int], list[tuple[int, float]]] = {
        (final.record.number, final.epochs, final.repeat): [] for final in found.finals
    }
    for entry in found.journal.history:
        match entry:
            case EpochRecord() if math.isfinite(
                score := entry.metrics.get(found.objective, math.nan)
            ):
                points.setdefault(entry.number, []).append((entry.epoch, score))
            case FinalEpoch() if (
                key := (entry.record.number, entry.epochs, entry.repeat)
            ) in finals:
                if math.isfinite(score := entry.record.metrics.get(found.objective, math.nan)):
                    finals[key].append((entry.record.epoch, score))
            case _:
                pass
    for record in found.journal.trials:
        before, own = points.get(record.parent or 0), points.get(record.number)
        if before and own and before[-1][0] < own[0][0]:
            own.insert(0, before[-1])  # it continued from there
    shown, note = _thinned(
        [record for record in found.ranked if record.number in points], _CURVES, "curves"
    )
    every = [points[record.number] for record in shown] + list(finals.values())
    if max(map(len, every), default=0) < 2:
        return None
    low, high = limits(
        found.scale.height(np.array([score for curve in every for _, score in curve]))
    )

    def lines(
        name: str,
        named: Sequence[tuple[str, list[tuple[int, float]]]],
        color: str,
        wide: float,
        **more: Any,
    ) -> Figure:
        # One trace for all of them; None lifts the pen.
        xs = [x for _, curve in named for x in (*(epoch for epoch, _ in curve), None)]
        ys = [
            y
            for _, curve in named
            for y in (*found.scale.height(np.array([score for _, score in curve])), None)
        ]
        texts = [
            text
            for who, curve in named
            for text in (
                *(
                    f"{who}<br>epoch {epoch}: {write_score(found.objective, score)}"
                    for epoch, score in curve
                ),
                None,
            )
        ]
        dash = more.pop("dash", "solid")
        marker = {"size": 2.5 + 1.2 * wide, "color": color}
        return _trace(
            "lines+markers",
            name,
            xs,
            ys,
            texts,
            line={"color": color, "width": wide, "dash": dash},
            marker=marker,
            **more,
        )

    rest = [
        (_name(found, record), points[record.number])
        for record in shown
        if record is not found.winner
    ]
    traces = [lines("trial", rest, SKY, 1, opacity=0.8 if len(rest) < 60 else 0.4)] if rest else []
    winner = found.winner.number if found.winner else 0
    for name, color, its in (
        ("final trainings of others", GRAY, False),
        ("final trainings of the winner", HIGHLIGHT, True),
    ):
        named = [
            (f"trial {key[0]}, final training {key[2] + 1}", curve)
            for key, curve in finals.items()
            if (key[0] == winner) == its
        ]
        if named:
            traces.append(lines(name, named, color, 1.5, dash="dash"))
    if found.winner is not None and winner in points:
        traces.append(
            lines("winner", [(_name(found, found.winner), points[winner])], HIGHLIGHT, 2.4)
        )
    across: Figure = {"title": {"text": "epochs trained in total", "font": {"size": 12}}}
    if max(epoch for curve in every for epoch, _ in curve) <= 15:
        across["dtick"] = 1
    return _figure(traces, across, _score_axis(found, low, high)), note


def lineage(found: Findings) -> Noted | None:
    """Which trial started from whose weights, as trees from left to right; None if none did."""
    records = {record.number: record for record in found.ranked}
    children: dict[int, list[int]] = {}
    for record in found.ranked:
        if record.parent in records:
            children.setdefault(record.parent, []).append(record.number)
    if not children:
        return None
    rank = {number: place for place, number in enumerate(records)}
    families = [
        _family(number, children) for number in children if records[number].parent not in records
    ]
    families.sort(key=lambda family: min(rank[number] for number in family))
    place: dict[int, tuple[int, int]] = {}
    row = drawn = 0
    for family in families:
        leaves = sum(number not in children for number in family)
        if not row or row + leaves <= _ROWS:
            row, drawn = _lay_out(family[0], children, place, row), drawn + 1
    way, number = set(), found.winner.number if found.winner else None
    while number in place:
        way.add(number)
        number = records[number].parent
    traces = []
    for marked, look in (
        (False, {"color": FAINT, "width": 1.4}),
        (True, {"color": HIGHLIGHT, "width": 2}),
    ):
        pairs = [
            (old, new)
            for old, heirs in children.items()
            if old in place
            for new in heirs
            if (new in way) == marked
        ]
        xs = [
            x
            for old, new in pairs
            for x in (
                place[old][0],
                place[old][0] + 0.02,
                place[new][0] - 0.02,
                place[new][0],
                None,
            )
        ]
        ys = [
            y
            for old, new in pairs
            for y in (-place[old][1], -place[new][1], -place[new][1], -place[new][1], None)
        ]
        traces.append(_trace("lines", "", xs, ys, None, line=look))
    low, high = limits(_heights(found, found.scored))
    won, numbers = found.winner.number if found.winner else 0, list(place)
    marker = {
        "size": [15 if n == won else 9 for n in numbers],
        "symbol": ["star" if n == won else "circle" for n in numbers],
        "color": [
            HIGHLIGHT if n == won else _shade(_share(found, records[n], low, high)) for n in numbers
        ],
        "line": {"color": PAPER, "width": 1},
        "opacity": 1,
    }
    labels = [_label(found, records[n]) for n in numbers]
    nodes = _trace(
        "markers+text",
        "",
        [place[n][0] for n in numbers],
        [-place[n][1] for n in numbers],
        labels,
        marker=marker,
    )
    hovers = {
        "hovertext": [_hover(found, records[n]) for n in numbers],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    traces.append(
        {
            **nodes,
            **hovers,
            "customdata": numbers,
            "textposition": "top right",
            "textfont": {"size": 11},
        }
    )
    generations = max(x for x, _ in place.values()) + 1
    ticks = [
        _epochs_of([records[n] for n in place if place[n][0] == x], x) for x in range(generations)
    ]
    across = {
        "tickvals": list(range(generations)),
        "ticktext": ticks,
        "side": "top",
        "showline": False,
        "ticks": "",
    }
    figure = _figure(
        traces,
        {**across, "range": [-0.08, generations - 0.2]},
        {"visible": False, "range": [0.6 - row, 1.1]},
    )
    for trace in traces:
        trace["showlegend"] = False
    figure["layout"] |= {
        "height": 56 + 30 * row,
        "margin": {"l": 10, "r": 10, "t": 34, "b": 4},
        "minWidth": 190 * generations,
    }
    alone = sum(record.parent is None and record.number not in children for record in found.ranked)
    note = f"Not shown: trials outside these families ({alone:,})." if alone else ""
    return figure, note + (
        f" Only the best {drawn} of {len(families)} families are shown."
        if drawn < len(families)
        else ""
    )


def parallel(found: Findings) -> Noted:
    """Axes of factors and objective, and a line per trial: number, color, places from 0 to 1."""
    shown, note = _thinned(found.ranked, _LINES, "trials")
    short, places, axes = found.space.short_names(), [], []
    for path in found.space.vary:
        positions, ticks = _axis(
            path, [found.values[record.number].get(path) for record in shown], found.space
        )
        places.append(positions)
        axes.append({"name": short[path], "ticks": ticks, "lacks": ""})
    low, high = limits(_heights(found, found.scored))
    low -= 0.04 * (high - low)
    scores = [_share(found, record, low, high) for record in shown]
    places.append(scores)
    written = marks(found.scale, low, high)
    ticks = [
        (_brief((height - low) / (high - low)), text)
        for height, text in written
        if low + 0.05 * (high - low) <= height <= high
    ]
    axes.append(
        {"name": found.objective, "ticks": ticks, "lacks": "failed" if None in scores else ""}
    )
    colors = [_shade(score) for score in scores]
    lines = [[record.number, *rest] for record, *rest in zip(shown, colors, *places, strict=True)]
    return {"axes": axes, "lines": lines}, note


# Places


def _heights(found: Findings, records: Sequence[TrialRecord]) -> Any:
    return found.scale.height(np.array([record.score for record in records], dtype=float))


def _share(found: Findings, record: TrialRecord, low: float, high: float) -> float | None:
    """Where a score is between two heights, from 0 to 1; None without a score."""
    if record.status == "failed" or record.score is None or not math.isfinite(record.score):
        return None
    return _brief((max(low, float(_heights(found, [record])[0])) - low) / (high - low))


def _axis(
    path: str, values: Sequence[Any], space: Space
) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Places of the values at a path, and places and texts of the labels."""
    if (places := strip(space, path)) is not None:
        order = {str(value): place for place, value in enumerate(places)}
        seen: collections.Counter[str] = collections.Counter()
        found: list[float | None] = []
        for value in values:
            seen[str(value)] += 1
            aside = 0.5 * ((seen[str(value)] * 0.6180339887) % 1 - 0.5)  # as in factors.svg
            found.append(
                None if value is None else _brief((order[str(value)] + 0.5 + aside) / len(places))
            )
        return found, [
            (_brief((place + 0.5) / len(places)), str(value)) for place, value in enumerate(places)
        ]
    item = space.vary[path]
    assert isinstance(item, Range)
    bend: Callable[[float], float] = math.log if item.log else float
    low, high = bend(item.low), bend(item.high)
    ticks: list[tuple[float, str]] = []
    for value in [item.low, item.high, *_round_numbers(item)]:
        if item.low <= value <= item.high and all(
            abs((bend(value) - low) / (high - low) - at) > 0.09 for at, _ in ticks
        ):
            ticks.append((_brief((bend(value) - low) / (high - low)), f"{value:.6g}"))
    return [
        None if value is None else _brief((bend(value) - low) / (high - low)) for value in values
    ], sorted(ticks)


def _round_numbers(item: Range) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    if item.log:
        decades = range(math.floor(math.log10(item.low)), math.ceil(math.log10(item.high)) + 1)
        return [digit * 10.0**decade for digit in (1, 3) for decade in decades]
    return [float(value) for value in MaxNLocator(5).tick_values(item.low, item.high)]


def _family(root: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    family = [root]
    for number in family:
        family += children.get(number, ())
    return family


def _lay_out(
    root: int, children: Mapping[int, Sequence[int]], place: dict[int, tuple[int, int]], row: int
) -> int:
    """Places each member of a family by generation and row; returns the next row."""
    waiting = [(root, 0)]
    while waiting:
        number, generation = waiting.pop()
        place[number] = (generation, row)
        heirs = children.get(number, ())
        row += not heirs
        waiting += [(heir, generation + 1) for heir in reversed(heirs)]
    return row


def _thinned(ranked: Sequence[TrialRecord], most: int, what: str) -> tuple[list[TrialRecord], str]:
    """The best ones and an even selection of the others, and the note about it."""
    if len(ranked) <= most:
        return list(ranked), ""
    best, rest = ranked[: most // 2], ranked[most // 2 :]
    chosen = [rest[place] for place in np.linspace(0, len(rest) - 1, most - len(best)).astype(int)]
    return (
        [
            *best,
            *chosen,
        ],
        f"{most:,} of {len(ranked):,} {what} are drawn: "
        f"the best {len(best):,} and an even selection of the others.",
    )


# Style


def _trace(
    mode: str,
    name: str,
    xs: Iterable[Any],
    ys: Iterable[Any],
    texts: Sequence[Any] | None,
    **look: Any,
) -> Figure:
    hover = (
        {"hoverinfo": "skip"}
        if texts is None
        else {"text": list(texts), "hovertemplate": "%{text}<extra></extra>"}
    )
    x, y = ([None if value is None else _brief(value) for value in values] for values in (xs, ys))
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, **hover, **look}


def _score_axis(found: Findings, low: float, high: float) -> Figure:
    room, written = 0.06 * (high - low), marks(found.scale, low, high)
    return {
        "title": {"text": found.objective, "standoff": 14, "font": {"size": 12}},
        "tickvals": [_brief(height) for height, _ in written],
        "ticktext": [text for _, text in written],
        "range": [_brief(low - 2.2 * room), _brief(high + 1.4 * room)],
    }


def _figure(traces: list[Figure], x: Figure, y: Figure) -> Figure:
    line = {
        "showline": True,
        "linecolor": FAINT,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": FAINT,
        "automargin": True,
    }
    layout = {
        "font": {"family": ", ".join(FONT), "size": 12, "color": GRAY},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "xaxis": {**line, "showgrid": False, **x},
        "yaxis": {**line, "gridcolor": HAIR, **y},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"l": 60, "r": 16, "t": 34, "b": 48},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": PAPER,
            "bordercolor": FAINT,
            "font": {"color": INK, "size": 12},
            "align": "left",
        },
        "height": 400,
    }
    return {"data": traces, "layout": layout}


def _shade(share: float | None) -> str:
    """The color of a score."""
    if share is None:
        return ROSE.edge
    step = min(int(2 * share), 1)
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in RAMP[step : step + 2]]
    return "#" + "".join(
        f"{round(a + (2 * share - step) * (b - a)):02x}" for a, b in zip(*ends, strict=True)
    )


def _hover(found: Findings, record: TrialRecord) -> str:
    """A trial in two lines, in plotly's HTML."""
    fate = (
        f"failed: {in_a_line(record.error)[:80]}"
        if record.status == "failed"
        else write_score(found.objective, record.score)
    )
    name, _, values = _name(found, record).partition("<br>")
    return f"{name}: {html.escape(fate)}<br>{values}"


def _name(found: Findings, record: TrialRecord) -> str:
    return f"trial {record.number}<br>{html.escape(found.titles[record.number])}"


def _label(found: Findings, record: TrialRecord) -> str:
    fate = "failed" if record.status == "failed" else write_score(found.objective, record.score)
    depth = f" · depth {found.costs[record.number][0]}" if record.number in found.costs else ""
    return f"<b>{record.number}</b>  {fate}{depth}"


def _epochs_of(records: Sequence[TrialRecord], generation: int) -> str:
    epochs = {record.epochs for record in records if record.epochs}
    if not epochs:
        return f"generation {generation + 1}"
    low, high = min(epochs), max(epochs)
    return f"{low} to {high} epochs" if low < high else f"{low} epoch{'s' if low > 1 else ''}"


def _brief(number: float) -> float:
    """A number without digits that nobody sees."""
    return float(f"{number:.5g}")
