"""Which trial started from whose weights, as data for plotly."""

from collections.abc import Mapping, Sequence

from reskeras.drawing.palette import (
    FAINT,
    HIGHLIGHT,
    PAPER,
)
from reskeras.tasks import write_score
from tuning.insight.findings import Findings
from tuning.insight.scales import limits
from tuning.record.entries import TrialRecord
from tuning.report.style import (
    Noted,
    heights_of,
    hover_text,
    place_of,
    plotly_figure,
    scatter,
    shade,
)

_ROWS = 40
"""At most this many rows are drawn."""


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
        traces.append(scatter("lines", "", xs, ys, None, line=look))
    low, high = limits(heights_of(found, found.scored))
    won, numbers = found.winner.number if found.winner else 0, list(place)
    marker = {
        "size": [15 if n == won else 9 for n in numbers],
        "symbol": ["star" if n == won else "circle" for n in numbers],
        "color": [
            HIGHLIGHT if n == won else shade(place_of(found, records[n], low, high))
            for n in numbers
        ],
        "line": {"color": PAPER, "width": 1},
        "opacity": 1,
    }
    labels = [_label(found, records[n]) for n in numbers]
    nodes = scatter(
        "markers+text",
        "",
        [place[n][0] for n in numbers],
        [-place[n][1] for n in numbers],
        labels,
        marker=marker,
    )
    hovers = {
        "hovertext": [hover_text(found, records[n]) for n in numbers],
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
    figure = plotly_figure(
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
