"""Rungs that increase depth and epochs together: trained shallow networks grow into deeper ones."""

import functools
import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any

import keras_tuner
from keras_tuner.engine import hyperparameters as kt

from reskeras.errors import RequestError
from reskeras.nets.growth import why_not_grow
from reskeras.spec import Recipe
from tuning.oracles.base import Values
from tuning.oracles.tpe import ParzenEstimator, Seen, TpeOracle
from tuning.space import Space, sample

FACTOR = 3
"""One in this many is promoted, and trained this many times as long."""
MOST_RUNGS = 4


class _Rung:
    """The trials that share one depth and one number of epochs.

    Attributes:
        epochs: total epochs of its trials, counted from the start of the first ancestor.
        depths: by path.
        losses: of ended trials, in order of ending; infinite for failed ones.
        ranked: the same, sorted.
        waiting: those of `ranked` that neither were promoted nor failed.
    """

    def __init__(self, epochs: int, depths: Values) -> None:
        self.epochs, self.depths = epochs, depths
        self.losses: dict[str, float] = {}
        self.ranked: list[tuple[float, int]] = []
        self.waiting: list[tuple[float, int]] = []

    def end(self, trial: str, loss: float) -> None:
        """Takes a trial that ended."""
        self.losses[trial] = loss
        insort(self.ranked, (loss, int(trial)))
        if loss < math.inf:
            insort(self.waiting, (loss, int(trial)))

    def promote(self) -> int | None:
        """The number of the best waiting trial, if it is in the best third of all ended here."""
        if self.waiting and bisect_left(self.ranked, self.waiting[0]) < len(self.ranked) // FACTOR:
            return self.waiting.pop(0)[1]
        return None


class NestedOracle(TpeOracle):
    """Successive halving over depth, with nested function classes.

    The networks of a rung contain those of the rung below. Points start at the smallest depth with
    few epochs. A trial in the best third of its rung is promoted, as in asynchronous successive
    halving (arXiv 1810.05934): a new trial has the parent's values and the next depth, starts from
    the parent's weights, grown (arXiv 1511.05641), and trains three times as many epochs in total.
    TPE suggests new points by the scores of the first rung. Points whose networks cannot grow have
    a random depth, which their promotions keep.

    Args:
        space: what varies; every path that ends in `blocks` is a depth.
        epochs: the epochs of the last rung.

    Raises:
        RequestError: no depth varies, or there are too few epochs for two rungs.
    """

    structural = promotes = True

    def __init__(self, *, space: Space, epochs: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._searched, self._rungs = space, _rungs(self.hyperparameters.space, epochs)
        self._depths = [hp for hp in self.hyperparameters.space if hp.name in self._rungs[0].depths]
        self._estimator = ParzenEstimator(
            [hp for hp in self.hyperparameters.space if hp not in self._depths]
        )
        self._rung_of: dict[str, int] = {}
        self._grows = functools.lru_cache(maxsize=4096)(self._can_grow)

    def end_trial(self, trial: Any) -> None:
        """Keras Tuner's."""
        super().end_trial(trial)
        self._rungs[self._rung_of[trial.trial_id]].end(
            trial.trial_id, self._reports[trial.trial_id][1]
        )

    def _suggest(self, trial_id: str) -> Values | None:
        for number in range(len(self._rungs) - 1, 0, -1):
            if (promoted := self._rungs[number - 1].promote()) is not None:
                self._rung_of[trial_id] = number
                return self._promotion(self.start_order[promoted], self._rungs[number])
        values = self._new_point()
        if values is None:
            return None
        self._rung_of[trial_id] = 0
        return values | {"tuner/epochs": self._rungs[0].epochs, "tuner/initial_epoch": 0}

    def _promotion(self, parent: str, rung: _Rung) -> Values:
        values = self._at_depth(rung, self.trials[parent].hyperparameters.values)
        lineage = {
            "tuner/trial_id": parent,
            "tuner/initial_epoch": self._reports[parent][0],
            "tuner/epochs": rung.epochs,
        }
        return values | lineage

    def _candidates(self) -> Iterator[Values]:
        for values in super()._candidates():
            # The model suggests everything but the depth.
            yield self._at_depth(
                self._rungs[0], {hp.name: self._draw(hp) for hp in self._depths} | values
            )

    def _at_depth(self, rung: _Rung, values: Values) -> Values:
        """The values with a rung's depth, unless their network cannot grow."""
        others = {
            path: value
            for path, value in values.items()
            if path not in rung.depths and not path.startswith(("train.", "tuner/"))
        }
        return values | rung.depths if self._grows(tuple(sorted(others.items()))) else values

    def _can_grow(self, values: tuple[tuple[str, Any], ...]) -> bool:
        try:
            models = [self._recipe(dict(values) | rung.depths).spec for rung in self._rungs]
        except RequestError:
            return False  # not a valid network; the trial will fail with the reason
        return all(
            why_not_grow(shallow, deep) is None for shallow, deep in itertools.pairwise(models)
        )

    def _recipe(self, values: Values) -> Recipe:
        hyperparameters = keras_tuner.HyperParameters()
        hyperparameters.values = values
        return sample(hyperparameters, self._searched)

    def _seen(self) -> list[Seen]:
        rung = self._rungs[0]
        if bisect_left(rung.ranked, (math.inf, -1)) < self._first:
            return []
        best = [self.start_order[number] for _, number in rung.ranked[:100]]
        latest = itertools.islice(reversed(rung.losses), 300)
        running = [
            trial.trial_id
            for trial in self.ongoing_trials.values()
            if self._rung_of[trial.trial_id] == 0
        ]
        return self._look([*best, *latest, *running], rung.losses)


def _rungs(space: Sequence[Any], epochs: int) -> list[_Rung]:
    depths = {
        hp.name: numbers
        for hp in space
        if hp.name.split(".")[-1] == "blocks" and len(numbers := _numbers(hp)) > 1
    }
    if not depths:
        raise RequestError(
            "the nested oracle grows networks, but no depth varies: "
            "the space lacks a range such as stages.*.blocks: {low: 1, high: 3}"
        )
    count = min(MOST_RUNGS, max(map(len, depths.values())), epochs)
    if count < 2:
        raise RequestError(
            f"the nested oracle needs at least 2 epochs, some at each of two depths (got {epochs})"
        )
    return [
        _Rung(
            max(place + 1, round(epochs / FACTOR ** (count - 1 - place))),
            {
                path: numbers[round(place * (len(numbers) - 1) / (count - 1))]
                for path, numbers in depths.items()
            },
        )
        for place in range(count)
    ]


def _numbers(hp: Any) -> list[int]:
    """The possible depths of a hyperparameter, ascending."""
    match hp:
        case kt.Int():
            return list(range(hp.min_value, hp.max_value + 1, hp.step or 1))
        case kt.Choice() if isinstance(hp.values[0], int):
            return sorted(hp.values)
        case _:
            return []
