"""Scores over time and learning curves, as data for plotly."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import (
    BLUE,
    GRAY,
    HIGHLIGHT,
    INK,
    PAPER,
    ROSE,
    SKY,
)
from reskeras.tasks import write_score
from tuning.insight.findings import Findings
from tuning.insight.scales import limits
from tuning.record.entries import EpochRecord, FinalEpoch, TrialRecord
from tuning.record.ranking import by_rank
from tuning.report.style import (
    Figure,
    Noted,
    heights_of,
    hover_text,
    plotly_figure,
    scatter,
    score_axis,
    thinned,
    trial_text,
)

_POINTS, _CURVES = 2000, 200
"""At most this many trials over time and learning curves are drawn."""


def over_time(found: Findings) -> Noted:
    """Each trial at the time it ended, and the best score so far as a line."""
    low, high = limits(heights_of(found, found.scored))
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
        texts = [hover_text(found, record) for record in records]
        return scatter(
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
            best is None or by_rank([best, record], found.objective)[0] is record
        ):
            best = record
            steps.append(record)
    heights = [*heights_of(found, steps), *heights_of(found, steps[-1:])]
    ends = [*(found.elapsed(record.time) / length for record in steps), last / length]
    traces = [
        scatter(
            "lines",
            "best so far",
            ends,
            heights,
            None,
            line={"shape": "hv", "color": INK, "width": 1.6},
        )
    ]
    shown, note = thinned(found.scored, _POINTS, "trials")
    whole = [
        record for record in shown if record.status == "completed" and record is not found.winner
    ]
    early = [
        record for record in shown if record.status != "completed" and record is not found.winner
    ]
    failed = [record for record in found.ranked if record.number not in known][:_POINTS]
    if whole:
        traces.append(points("trial", whole, heights_of(found, whole), "circle"))
    if early:
        outline = {"color": SKY, "width": 1.2}
        traces.append(
            points(
                "stopped early",
                early,
                heights_of(found, early),
                "circle",
                color=PAPER,
                line=outline,
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
            points("winner", [found.winner], heights_of(found, [found.winner]), "star", **star)
        )
    return plotly_figure(
        traces,
        {"title": {"text": unit, "font": {"size": 12}}, "rangemode": "tozero"},
        score_axis(found, low, high),
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
    shown, note = thinned(
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
        return scatter(
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
        (trial_text(found, record), points[record.number])
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
            lines("winner", [(trial_text(found, found.winner), points[winner])], HIGHLIGHT, 2.4)
        )
    across: Figure = {"title": {"text": "epochs trained in total", "font": {"size": 12}}}
    if max(epoch for curve in every for epoch, _ in curve) <= 15:
        across["dtick"] = 1
    return plotly_figure(traces, across, score_axis(found, low, high)), note
