"""Suggestions by Optuna's tree-structured Parzen estimator (Bergstra 2011; arXiv 2304.11127)."""

import dataclasses
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from keras_tuner.engine import hyperparameters as kt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuning.oracles.base import Journaled, Values, fill
from tuning.oracles.rules import HalvingRule

STARTUP = 5
"""Random points, in addition to the start points, before the estimator is used."""
REDRAWS = 5
"""Suggestions that repeat a trial before a random point is taken instead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a trial.

    Attributes:
        values: the trial's values.
        state: COMPLETE trials are compared by their losses. PRUNED ones rank after them: the later
            they were stopped the better, and those without a loss last. RUNNING ones repel
            suggestions (the constant liar).
        epoch, loss: the last ones.
    """

    values: Mapping[str, Any]
    state: TrialState
    epoch: int = 0
    loss: float = math.inf


class ParzenEstimator:
    """Multivariate TPE over a Keras Tuner space.

    If a hyperparameter depends on another, the space is decomposed into groups of hyperparameters
    that are active together, each with its own estimator (Optuna's `group`). Values with a step,
    and lists of numbers, are ranks.

    Args:
        space: the hyperparameters to suggest, each after those it depends on.
    """

    def __init__(self, space: Sequence[Any]) -> None:
        self._axes = {hp.name: _Axis(hp) for hp in space}
        self._space = space
        self._group = any(hp.conditions for hp in space)

    def suggest(self, seen: Sequence[Seen], *, seed: int) -> Values:
        """The values of the active hyperparameters; a pure function of its arguments."""
        # Users of a search need not see the library's log ("A new study created").
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed,
                multivariate=True,
                group=self._group,
                constant_liar=True,
                n_startup_trials=0,
            )
        study = optuna.create_study(sampler=sampler)
        study.add_trials([self._frozen(trial) for trial in seen])
        trial = study.ask()
        return fill(self._space, lambda hp: self._axes[hp.name].draw(trial))

    def _frozen(self, trial: Seen) -> FrozenTrial:
        axes = [axis for name, axis in self._axes.items() if name in trial.values]
        return create_trial(
            params={axis.name: axis.parameter(trial.values[axis.name]) for axis in axes},
            distributions={axis.name: axis.distribution for axis in axes},
            state=trial.state,
            value=trial.loss if trial.state is TrialState.COMPLETE else None,
            intermediate_values={trial.epoch: trial.loss}
            if trial.state is TrialState.PRUNED and trial.loss < math.inf
            else None,
        )


class _Axis:
    """One hyperparameter as an Optuna distribution."""

    def __init__(self, hp: Any) -> None:
        self.name: str = hp.name
        self._ranks: list[Any] | None = None
        self.distribution: BaseDistribution
        match hp:
            case kt.Choice(ordered=False):
                self.distribution = CategoricalDistribution(hp.values)
            case kt.Float(step=None):
                self.distribution = FloatDistribution(
                    hp.min_value, hp.max_value, log=hp.sampling == "log"
                )
            case kt.Int(step=None | 1):
                self.distribution = IntDistribution(
                    hp.min_value, hp.max_value, log=hp.sampling == "log"
                )
            case _:
                self._ranks = sorted(hp.values)
                self.distribution = IntDistribution(0, len(self._ranks) - 1)

    def parameter(self, value: Any) -> Any:
        """Converts Keras Tuner's value to Optuna's; a base between steps goes to the nearest."""
        ranks = self._ranks
        return (
            value
            if ranks is None
            else min(range(len(ranks)), key=lambda rank: abs(ranks[rank] - value))
        )

    def draw(self, trial: optuna.Trial) -> Any:
        """Draws a value for Keras Tuner."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(self.name, choices)
            case FloatDistribution(low=low, high=high, log=log):
                return trial.suggest_float(self.name, low, high, log=log)
            case IntDistribution(low=low, high=high, log=log):
                number = trial.suggest_int(self.name, low, high, log=log)
                return number if self._ranks is None else self._ranks[number]
            case other:
                raise TypeError(f"unexpected distribution: {other!r}")


class TpeOracle(Journaled):
    """TPE over the scores of the best 100 and the latest 300 trials.

    Five random points come first, after the start points.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._first = STARTUP + len(self._start)
        self._estimator = ParzenEstimator(self.hyperparameters.space)

    def _modeled(self) -> Iterator[Values]:
        seen = self._seen()
        for attempt in range(REDRAWS if seen else 0):
            yield self._estimator.suggest(seen, seed=self._derive_seed(attempt))

    def _seen(self) -> list[Seen]:
        """The trials that the estimator is fitted to; none while they are too few."""
        if self._scored() < self._first:
            return []
        running = [trial.trial_id for trial in self.ongoing_trials.values()]
        return self._look(
            [*self._history(), *running],
            {trial: self._reports[trial][1] for trial in self._history()},
        )

    def _look(self, trials: Iterable[str], losses: Mapping[str, float]) -> list[Seen]:
        """Trials in starting order; those without a loss here rank last, or are running."""
        return [
            self._look_at(trial, losses.get(trial, math.inf))
            for trial in sorted(set(trials), key=int)
        ]

    def _look_at(self, trial_id: str, loss: float) -> Seen:
        trial, (epoch, last) = self.trials[trial_id], self._reports.get(trial_id, (0, math.inf))
        if loss < math.inf and trial.status != "FAILED":
            return Seen(values=trial.hyperparameters.values, state=TrialState.COMPLETE, loss=loss)
        state = TrialState.RUNNING if trial.status == "RUNNING" else TrialState.PRUNED
        return Seen(values=trial.hyperparameters.values, state=state, epoch=epoch, loss=last)


class AshaOracle(TpeOracle):
    """ASHA (arXiv 1810.05934) with TPE's suggestions, as in BOHB (arXiv 1807.01774).

    Trials stop in place.

    TPE compares scores at the highest rung that has d + 3 of them (d hyperparameters, as in BOHB;
    at least five). Trials that ended below rank after them. Until there are enough, points are
    random. TPE sees the best 100 of the rung, and the latest 300 of all trials.

    Args:
        halving: the rule that stops trials, with its rungs.
    """

    def __init__(self, *, halving: HalvingRule, **settings: Any) -> None:
        super().__init__(rule=halving, **settings)
        self._rungs = list(halving.rungs.values())
        self._enough = max(STARTUP, len(self.hyperparameters.space) + 3)

    def _seen(self) -> list[Seen]:
        rung = next(
            (rung for rung in reversed(self._rungs) if len(rung.losses) >= self._enough), None
        )
        if rung is None:
            return []
        running = [trial.trial_id for trial in self.ongoing_trials.values()]
        return self._look(
            [*self.end_order[-300:], *(trial for _, trial in rung.ranked[:100]), *running],
            rung.losses,
        )
