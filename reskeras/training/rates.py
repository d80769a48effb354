"""The learning-rate range test (arXiv 1506.01186, Section 3.3): which rates a network learns at."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from reskeras.data.images import ImageData
from reskeras.errors import RequestError
from reskeras.spec import Recipe
from reskeras.training.train import Training, build_initial

FEWEST_STEPS, MOST_STEPS = 100, 200
"""An epoch between these limits is one test."""
_SMOOTHING = 0.8
"""Decay per step of the average loss."""
_LAG = round(_SMOOTHING / (1 - _SMOOTHING))
"""Steps by which the average follows the losses: the mean age of what it averages."""
_DIVERGED = 4.0
"""Times the lowest loss at which a test ends, as in S. Gugger, "How Do You Find A Good Learning
Rate" (2018)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RateTest:
    """The result of a range test: one entry for each step."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """The loss of each batch before its step."""
    smoothed: tuple[float, ...]
    """Their exponential moving average, corrected for its start at zero."""
    low: float
    """Start of the suggested range: where the loss falls fastest per factor of the rate."""
    high: float
    """End of the range: the last rate at which the loss still falls."""
    suggested: float
    """The rate to train at, if one is to do: the geometric mean of the two."""
    diverged: bool
    """Whether the loss rose so far that the test ended before the highest rate."""


def suggest(rates: Sequence[float], losses: Sequence[float]) -> RateTest:
    """Reads a range from the losses at log-spaced rates.

    The range starts where the averaged loss falls fastest (S. Gugger, as above) and ends where it
    is lowest, the last rate at which it still falls (arXiv 1506.01186, Section 3.3). Both places
    are those of the average less its lag.

    Args:
        rates: log-spaced and ascending.
        losses: of the batch before the step with each rate; the last may be infinite or NaN.

    Raises:
        RuntimeError: the loss falls at none of the rates.
    """
    smoothed = _smoothed(losses)
    finite = np.array([loss for loss in smoothed if math.isfinite(loss)])
    lowest = int(finite.argmin()) if len(finite) else 0
    if lowest == 0:
        raise RuntimeError(
            f"the loss falls at no learning rate from {rates[0]:.1g} to {rates[-1]:.1g}"
        )
    # Over several steps, because that of one is mostly the noise of its batch; nor from the first
    # ones, where the average is over few.
    window, skipped = min(2 * _LAG, lowest), min(len(finite) // 10, lowest // 2)
    falls = finite[skipped : lowest - window + 1] - finite[skipped + window : lowest + 1]
    middle = skipped + int(falls.argmax()) + window // 2 if len(falls) else lowest // 2
    end = max(1, lowest - _LAG)
    start = min(max(0, middle - _LAG), end - 1)
    low, high = rates[start], rates[end]
    return RateTest(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        low=low,
        high=high,
        suggested=math.sqrt(low * high),
        diverged=_diverged(losses),
    )


def _smoothed(losses: Sequence[float]) -> list[float]:
    average, found = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        found.append(average / (1 - _SMOOTHING**step))
    return found


def _diverged(losses: Sequence[float]) -> bool:
    smoothed = _smoothed(losses)
    return not math.isfinite(smoothed[-1]) or smoothed[-1] > _DIVERGED * min(smoothed)


def range_test(
    recipe: Recipe,
    data: ImageData,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int | None = None,
    programs: Any = None,
) -> RateTest:
    """Trains with a rate that grows by the same factor at each step, until the loss diverges.

    The rates are log-spaced, as in J. Howard and S. Gugger's fastai (arXiv 2002.04688). The
    weights start as those of a training do, and the network is not kept. Nothing is frozen, and the
    recipe's own rates and schedule do not matter.

    Args:
        recipe: a network that fits the data, and how to train it.
        data: its split `train` is used; the steps run through it as often as they need.
        low: the first learning rate.
        high: the last learning rate.
        steps: how many batches; None is an epoch, but at least `FEWEST_STEPS` and at most
            `MOST_STEPS`.
        programs: as for `Training`.

    Raises:
        RequestError: as `train`, or the rates do not ascend from above 0.
        RuntimeError: the loss falls at none of the rates.
    """
    if not 0 < low < high < math.inf:
        raise RequestError(f"a range test needs 0 < low < high (got {low:g} and {high:g})")
    spec = dataclasses.replace(recipe.train, freeze=0, stop_early=None)
    model, taken = build_initial(recipe)
    training = Training(model, data, spec, programs=programs, taken=taken.layers)
    epoch = math.ceil(data.sizes["train"] / spec.batch_size)
    steps = steps or min(max(epoch, FEWEST_STEPS), MOST_STEPS)
    schedule = keras.optimizers.schedules.ExponentialDecay(low, steps - 1, high / low)
    losses: list[float] = []
    for loss in training.losses(schedule, steps):
        losses.append(loss)
        if _diverged(losses):
            break
    return suggest(np.geomspace(low, high, steps)[: len(losses)].tolist(), losses)
