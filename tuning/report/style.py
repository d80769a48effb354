"""What the figures of report.html share: heights of scores, colors, texts, plotly's layout."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import (
    FAINT,
    FONT,
    GRAY,
    HAIR,
    INK,
    PAPER,
    RAMP,
    ROSE,
)
from reskeras.errors import in_a_line
from reskeras.tasks import write_score
from tuning.insight.findings import Findings
from tuning.insight.scales import marks
from tuning.record.entries import TrialRecord

Figure = dict[str, Any]
Noted = tuple[Figure, str]
"""A figure, and a note about it."""


def heights_of(found: Findings, records: Sequence[TrialRecord]) -> Any:
    """The heights of trials' scores."""
    return found.scale.height(np.array([record.score for record in records], dtype=float))


def place_of(found: Findings, record: TrialRecord, low: float, high: float) -> float | None:
    """Where a score is between two heights, from 0 to 1; None without a score."""
    if record.status == "failed" or record.score is None or not math.isfinite(record.score):
        return None
    return brief((max(low, float(heights_of(found, [record])[0])) - low) / (high - low))


def thinned(ranked: Sequence[TrialRecord], most: int, what: str) -> tuple[list[TrialRecord], str]:
    """The best ones and an even selection of the others, and the note about it."""
    if len(ranked) <= most:
        return list(ranked), ""
    best, rest = ranked[: most // 2], ranked[most // 2 :]
    chosen = [rest[place] for place in np.linspace(0, len(rest) - 1, most - len(best)).astype(int)]
    note = (
        f"{most:,} of {len(ranked):,} {what} are drawn: "
        f"the best {len(best):,} and an even selection of the others."
    )
    return [*best, *chosen], note


def scatter(
    mode: str,
    name: str,
    xs: Iterable[Any],
    ys: Iterable[Any],
    texts: Sequence[Any] | None,
    **look: Any,
) -> Figure:
    """A trace of plotly; `look` is anything else that plotly knows of it. None lifts the pen."""
    hover = (
        {"hoverinfo": "skip"}
        if texts is None
        else {"text": list(texts), "hovertemplate": "%{text}<extra></extra>"}
    )
    x, y = ([None if value is None else brief(value) for value in values] for values in (xs, ys))
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, **hover, **look}


def score_axis(found: Findings, low: float, high: float) -> Figure:
    """The y axis of the objective."""
    room, written = 0.06 * (high - low), marks(found.scale, low, high)
    return {
        "title": {"text": found.objective, "standoff": 14, "font": {"size": 12}},
        "tickvals": [brief(height) for height, _ in written],
        "ticktext": [text for _, text in written],
        "range": [brief(low - 2.2 * room), brief(high + 1.4 * room)],
    }


def plotly_figure(traces: list[Figure], x: Figure, y: Figure) -> Figure:
    """A figure with the style of this page."""
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


def shade(share: float | None) -> str:
    """The color of a score."""
    if share is None:
        return ROSE.edge
    step = min(int(2 * share), 1)
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in RAMP[step : step + 2]]
    return "#" + "".join(
        f"{round(a + (2 * share - step) * (b - a)):02x}" for a, b in zip(*ends, strict=True)
    )


def hover_text(found: Findings, record: TrialRecord) -> str:
    """A trial in two lines, in plotly's HTML."""
    fate = (
        f"failed: {in_a_line(record.error)[:80]}"
        if record.status == "failed"
        else write_score(found.objective, record.score)
    )
    name, _, values = trial_text(found, record).partition("<br>")
    return f"{name}: {html.escape(fate)}<br>{values}"


def trial_text(found: Findings, record: TrialRecord) -> str:
    """A trial's number and values."""
    return f"trial {record.number}<br>{html.escape(found.titles[record.number])}"


def brief(number: float) -> float:
    """A number without digits that nobody sees."""
    return float(f"{number:.5g}")
