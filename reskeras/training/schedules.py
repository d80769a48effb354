"""Learning rates over the steps of a training, as a training spec describes them."""

from typing import Any

import keras
import numpy as np

from reskeras.spec import TrainSpec


def make_schedule(spec: TrainSpec, last: int, *, start: int = 0) -> Any:
    """The learning rate of each step of an optimizer: a number, or a function of the step.

    The rate is a function of the step in the whole training alone, so a training in parts has the
    rates of one in one go.

    Args:
        spec: the training.
        last: the number of steps (batches) of the whole training, of `spec.epochs` epochs.
        start: the step of the whole training at which the optimizer starts to count.

    Returns:
        Keras' own schedule where it has one: that can be saved with a model.
    """
    warm = round(spec.warmup * last / spec.epochs)
    schedule = _main(spec, warm, max(1, last - warm))
    same = not warm and (not start or spec.schedule == "constant")
    return schedule if same else _Part(schedule, warm, start)


def rate_to_save(spec: TrainSpec, schedule: Any) -> Any:
    """A schedule, or the highest rate instead of one that Keras alone could not load."""
    return spec.learning_rate if isinstance(schedule, _Part | _OneCycle) else schedule


def _main(spec: TrainSpec, warm: int, steps: int) -> Any:
    """The schedule of the steps after the warm-up."""
    schedules, rate = keras.optimizers.schedules, spec.learning_rate
    match spec.schedule:
        case "constant":
            return rate
        case "cosine":
            return schedules.CosineDecay(rate, steps)
        case "linear":
            return schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
        case "step":
            # Keras lowers the rate after a boundary.
            places = [round(share * (warm + steps)) - warm - 1 for share in spec.milestones]
            rates = [rate * spec.step_factor**n for n in range(len(places) + 1)]
            return schedules.PiecewiseConstantDecay(places, rates)
        case "one_cycle":
            return _OneCycle(rate, steps)


class _OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The "1cycle" policy (arXiv 1803.09820), linear in each of its three parts; Keras has none."""

    def __init__(self, rate: float, steps: int) -> None:
        self._places = np.array([0, 0.45, 0.9, 1], "float32") * steps
        self._rates = np.array([0.1, 1, 0.1, 0.001], "float32") * rate

    def __call__(self, step: Any) -> Any:
        ops = keras.ops
        step = ops.minimum(ops.cast(step, "float32"), self._places[-1])
        found = 0.0 * step
        for number in range(3):
            (low, high), (first, last) = (part[number:][:2] for part in (self._places, self._rates))
            inside = first + (last - first) * (step - low) / (high - low)
            found = ops.where(step >= low, inside, found)
        return found

    def get_config(self) -> Any:
        return {}  # never read: see `rate_to_save`


class _Part(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule behind a linear warm-up, seen from a later step of the training."""

    def __init__(self, schedule: Any, warm: int, start: int) -> None:
        self._schedule, self._warm, self._start = schedule, warm, start

    def __call__(self, step: Any) -> Any:
        ops = keras.ops
        step = ops.cast(step, "float32") + self._start
        after = ops.maximum(step - self._warm, 0.0)
        rate = self._schedule(after) if callable(self._schedule) else self._schedule
        if not self._warm:
            return rate
        # The first step does not have the rate 0, which would waste it.
        return rate * ops.minimum((step + 1) / self._warm, 1.0)

    def get_config(self) -> Any:
        return {}  # never read: see `rate_to_save`
