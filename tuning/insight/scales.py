"""How scores become heights in a picture: better is higher, good scores get most space."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reskeras.tasks import Unit, metric_of
from tuning.settings import sign

Array = npt.NDArray[np.float64]


class ScoreScale(NamedTuple):
    """Accuracies by the logarithm of their error, losses by their logarithm; better is higher."""

    height: Callable[[Array], Array]
    marks: Sequence[float]
    """Scores that can be labels of the axis."""
    write: Callable[[float], str]


def scale_of(objective: str, scores: Array) -> ScoreScale:
    """The scale of a search: linear if accuracies leave 0 to 1 or losses are not positive."""
    if metric_of(objective).unit is Unit.SHARE and ((scores >= 0) & (scores <= 1)).all():
        errors = 1 - scores
        # No error at all is as far above the next best as half of that one's error.
        least = float(errors[errors > 1e-9].min(initial=1.0)) / 2
        tenths = [1 - digit * 10.0**-power for power in range(1, 7) for digit in (5, 3, 2, 1)]
        round_ones = set(np.round([0.0, 0.2, 0.3, 0.4, 0.5, 0.6, *tenths], 9))
        perfect = [1.0] if (errors <= 1e-9).any() else []
        return ScoreScale(
            lambda s: -np.log10(np.maximum(1 - s, least)),
            # Without those that would all be at the height of `least`.
            [*sorted(mark for mark in round_ones if 1 - mark > least), *perfect],
            lambda s: f"{100 * s:.6g} %",
        )
    if sign(objective) < 0 and (scores > 0).all():
        few = [digit * 10.0**power for power in range(-7, 8) for digit in (5, 3, 2, 1)]
        return ScoreScale(lambda s: -np.log10(s), few, lambda s: f"{s:.6g}")
    low, high = float(scores.min()), float(scores.max())
    from matplotlib.ticker import MaxNLocator

    return ScoreScale(
        lambda s: sign(objective) * s,
        list(MaxNLocator(6).tick_values(low, high)),
        lambda s: f"{s:.6g}",
    )


def limits(heights: Array) -> tuple[float, float]:
    """From the lowest height to the best, without outliers.

    An outlier is over three times as far below the best as the median is.
    """
    high, middle = float(heights.max()), float(np.median(heights))
    low = float(heights.min())
    if high > middle:
        low = max(low, high - 3 * (high - middle))
    return (low, high) if high > low else (low - 0.1, high + 0.1)


def marks(scale: ScoreScale, low: float, high: float) -> list[tuple[float, str]]:
    """As many round scores as fit on an axis, best first: heights and labels."""
    kept: list[tuple[float, str]] = []
    for mark in (
        scale.marks
        if scale.height(np.array([0.1]))[0] > scale.height(np.array([0.2]))[0]
        else reversed(scale.marks)
    ):
        height = float(scale.height(np.array([mark]))[0])
        if low - 0.02 * (high - low) <= height <= high + 0.08 * (high - low) and all(
            abs(height - other) > 0.09 * (high - low) for other, _ in kept
        ):
            kept.append((height, scale.write(mark)))
    return kept
