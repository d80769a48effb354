"""Keras Tuner's own oracles, with fixes for faults that would hurt a search."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras_tuner import oracles as kt
from sklearn.exceptions import ConvergenceWarning

from tuning.oracles.base import Journaled, Values, is_active


class RandomOracle(Journaled):
    """Independent draws without repetition."""


class GridOracle(Journaled):
    """Every combination; ranges of floats have ten steps.

    The base's value of a hyperparameter comes first, then the others in ascending order. Keras
    Tuner's own grid waits for trials to end before it continues.
    """

    structural = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._points = self._combinations(0, {})

    def _suggest(self, trial_id: str) -> Values | None:
        return next(self._points, None)

    def _combinations(self, place: int, values: Values) -> Iterator[Values]:
        if place == len(self.hyperparameters.space):
            yield values
            return
        hp = self.hyperparameters.space[place]
        if not is_active(hp, values):
            yield from self._combinations(place + 1, values)
            return
        others = set(hp.values) - {hp.default}
        ordered = (
            [value for value in hp.values if value in others]
            if isinstance(hp.default, str)
            else sorted(others)
        )
        for value in (hp.default, *ordered):
            yield from self._combinations(place + 1, values | {hp.name: value})


class BayesianOracle(Journaled, kt.BayesianOptimizationOracle):  # type: ignore[misc]
    """A Gaussian process over the best 100 and the latest 100 trials.

    Each suggestion takes seconds.

    Failed trials count as the worst of the completed ones, running trials as their mean (the
    constant liar of Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization").
    Keras Tuner's own leaves out the former, and asks the previous suggestion's process about the
    latter. Instead of a point that was tried, a random one is suggested.
    """

    def _modeled(self) -> Iterator[Values]:
        if self._scored() < self.num_initial_points:
            return
        self.gpr = self._make_gpr()
        self._random_state = np.random.RandomState(self._derive_seed("restarts"))
        with warnings.catch_warnings():
            # A length scale at its bound means that a dimension does not matter yet, which is usual
            # after a handful of trials.
            warnings.simplefilter("ignore", ConvergenceWarning)
            values: Values = kt.BayesianOptimizationOracle.populate_space(self, "")["values"]
        yield values

    def _vectorize_trials(self) -> tuple[Any, Any]:
        ended = self._history(best=100, latest=100)
        losses = {
            trial: self._reports[trial][1]
            for trial in ended
            if self.trials[trial].status == "COMPLETED"
        }
        worst, mean = max(losses.values()), float(np.mean(list(losses.values())))
        running = sorted(trial.trial_id for trial in self.ongoing_trials.values())
        y = [losses.get(trial, worst) for trial in ended] + [mean for _ in running]
        x = []
        for trial in (*ended, *running):
            values = self.trials[trial].hyperparameters.values
            x.append(
                [
                    hp.value_to_prob(values.get(hp.name, hp.default))
                    for hp in self.hyperparameters.space
                ]
            )
        return np.array(x), np.array(y)


class _Bracket:
    """One successive halving of Hyperband.

    Attributes:
        number: how often it halves; 0 trains to the end at once.
        rounds: the trials of each round.
        promoted: the trials that have a successor in another round.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.rounds: list[list[str]] = [[] for _ in range(number + 1)]
        self.promoted: set[str] = set()


class HyperbandOracle(Journaled, kt.HyperbandOracle):  # type: ignore[misc]
    """Many short trials, of which the best continue training (arXiv 1603.06560); endless brackets.

    A failed trial counts as a losing one. If a round cannot be filled (too many trials failed, or
    the space is exhausted), the missing trials count as losing too. Keras Tuner's own silently
    abandons such a bracket after its first round.
    """

    structural = promotes = True

    def __init__(self, *, epochs: int, **settings: Any) -> None:
        super().__init__(max_epochs=epochs, factor=3, hyperband_iterations=None, **settings)
        self._open: list[_Bracket] = []
        self._opened = 0

    def _suggest(self, trial_id: str) -> Values | None:
        for bracket in list(self._open):
            if (values := self._go_on(bracket, trial_id)) is not None:
                return values
            if not any(
                self.trials[trial].status == "RUNNING"
                for trials in bracket.rounds
                for trial in trials
            ):
                self._open.remove(bracket)
        # The one with the most halvings comes first.
        brackets: int = self._get_num_brackets()
        bracket = _Bracket(brackets - 1 - self._opened % brackets)
        if (values := self._begin(bracket, trial_id)) is not None:
            self._open.append(bracket)
            self._opened += 1
        return values

    def _begin(self, bracket: _Bracket, trial_id: str) -> Values | None:
        """A new trial in the first round."""
        values = None
        if len(bracket.rounds[0]) < self._get_size(bracket.number, 0):
            values = self._new_point()
        if values is None:
            return None
        bracket.rounds[0].append(trial_id)
        return values | self._stamp(bracket, 0)

    def _go_on(self, bracket: _Bracket, trial_id: str) -> Values | None:
        if (values := self._begin(bracket, trial_id)) is not None:
            return values
        closed = True  # the previous round gets no more trials
        for number in range(1, bracket.number + 1):
            past, size = bracket.rounds[number - 1], self._get_size(bracket.number, number)
            past_size = self._get_size(bracket.number, number - 1)
            ended = [trial for trial in past if self.trials[trial].status != "RUNNING"]
            left = [trial for trial in ended if trial not in bracket.promoted]
            survivors = [trial for trial in left if self.trials[trial].status == "COMPLETED"]
            missing = past_size - len(past) if closed else 0
            if (
                survivors
                and len(bracket.rounds[number]) < size
                and len(left) + missing > past_size - size
            ):
                parent = min(survivors, key=lambda trial: (self._reports[trial][1], trial))
                bracket.promoted.add(parent)
                bracket.rounds[number].append(trial_id)
                lineage = {
                    "tuner/trial_id": parent,
                    "tuner/initial_epoch": self._reports[parent][0],
                }
                return {
                    **self.trials[parent].hyperparameters.values,
                    **self._stamp(bracket, number),
                    **lineage,
                }
            closed = (
                closed
                and len(ended) == len(past)
                and (not survivors or len(bracket.rounds[number]) == size)
            )
        return None

    def _stamp(self, bracket: _Bracket, number: int) -> Values:
        return {
            "tuner/epochs": self._get_epochs(bracket.number, number),
            "tuner/initial_epoch": 0,
            "tuner/bracket": bracket.number,
            "tuner/round": number,
        }
