"""Parallel coordinates, as data for page.html."""

import collections
import math
from collections.abc import Callable, Sequence
from typing import Any

from tuning.insight.findings import Findings
from tuning.insight.importance import strip
from tuning.insight.scales import limits, marks
from tuning.report.style import Noted, brief, heights_of, place_of, shade, thinned
from tuning.space import Range, Space

_LINES = 500
"""At most this many trials are drawn."""


def parallel(found: Findings) -> Noted:
    """Axes of factors and objective, and a line per trial: number, color, places from 0 to 1."""
    shown, note = thinned(found.ranked, _LINES, "trials")
    short, places, axes = found.space.short_names(), [], []
    for path in found.space.vary:
        positions, ticks = _axis(
            path, [found.values[record.number].get(path) for record in shown], found.space
        )
        places.append(positions)
        axes.append({"name": short[path], "ticks": ticks, "lacks": ""})
    low, high = limits(heights_of(found, found.scored))
    low -= 0.04 * (high - low)
    scores = [place_of(found, record, low, high) for record in shown]
    places.append(scores)
    written = marks(found.scale, low, high)
    ticks = [
        (brief((height - low) / (high - low)), text)
        for height, text in written
        if low + 0.05 * (high - low) <= height <= high
    ]
    axes.append(
        {"name": found.objective, "ticks": ticks, "lacks": "failed" if None in scores else ""}
    )
    colors = [shade(score) for score in scores]
    lines = [[record.number, *rest] for record, *rest in zip(shown, colors, *places, strict=True)]
    return {"axes": axes, "lines": lines}, note


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
                None if value is None else brief((order[str(value)] + 0.5 + aside) / len(places))
            )
        return found, [
            (brief((place + 0.5) / len(places)), str(value)) for place, value in enumerate(places)
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
            ticks.append((brief((bend(value) - low) / (high - low)), f"{value:.6g}"))
    return [
        None if value is None else brief((bend(value) - low) / (high - low)) for value in values
    ], sorted(ticks)


def _round_numbers(item: Range) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    if item.log:
        decades = range(math.floor(math.log10(item.low)), math.ceil(math.log10(item.high)) + 1)
        return [digit * 10.0**decade for digit in (1, 3) for decade in decades]
    return [float(value) for value in MaxNLocator(5).tick_values(item.low, item.high)]
