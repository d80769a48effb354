"""The base class of all oracles."""

import copy
import math
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras_tuner

from reskeras.errors import RequestError
from tuning.oracles.rules import Rule
from tuning.space.recipes import derive_seed

Values = dict[str, Any]


class SharedSpace(keras_tuner.HyperParameters):  # type: ignore[misc]
    """Hyperparameters whose copies have their own values but share the space."""

    def copy(self) -> "SharedSpace":
        """The same space with a copy of the values."""
        other = copy.copy(self)
        other.values = dict(self.values)
        other._name_scopes, other._conditions, other.active_scopes, other.inactive_scopes = (
            [],
            [],
            [],
            [],
        )
        return other


class Journaled(keras_tuner.Oracle):  # type: ignore[misc]
    """An oracle whose state is the search's journal.

    Replaying its trials restores the oracle (see `recall`).

    Keras Tuner's own state files are not replaced atomically, miss the first trial, and cannot
    restore a grid. Its seeds overlap: two searches with neighboring seeds draw mostly the same
    trials. Here, suggestion n is a pure function of the seed, of n, and of the reports of the
    trials so far.

    The score of a trial is the objective after its last epoch, the score of the weights it leaves.
    Keras Tuner takes the best epoch. Internally a score is a loss, negated if more is better. A
    failed trial has an infinite loss.

    Args:
        seed: the seed of the suggestions.
        start: points to suggest first: values of all active hyperparameters.
        rule: stops trials before their last epoch.
        settings: Keras Tuner's `objective`, `hyperparameters` and others.
    """

    structural = False
    """Whether a suggestion is part of a plan that a replay must follow, such as a grid."""
    promotes = False
    """Whether new trials continue from the weights of ended ones, so every trial must leave its
    state."""

    def __init__(
        self, *, seed: int, start: Sequence[Values] = (), rule: Rule | None = None, **settings: Any
    ) -> None:
        super().__init__(seed=derive_seed(seed, "oracle"), **settings)
        self.verbose = 0
        # Keras Tuner would consider a space exhausted after 20 draws of points that were tried.
        self._max_collisions = 1000
        self._user_seed = seed
        self._start = list(start)
        self._rule = rule
        self._recalled: Values | None = None
        self._generator = random.Random()
        self._reports: dict[str, tuple[int, float]] = {}
        """The last epoch and loss of each trial."""
        self._ranked: list[tuple[float, int]] = []
        """The loss and number of each ended trial, sorted."""

    def recall(self, values: Mapping[str, Any]) -> None:
        """Makes the next `create_trial` repeat a suggestion of an earlier session.

        That call raises RequestError if the oracle's own plan leads to another suggestion.
        """
        self._recalled = dict(values)

    def create_trial(self, tuner_id: str) -> Any:
        """Returns the next trial, as Keras Tuner defines it.

        It is RUNNING, IDLE (wait until a running trial ends) or STOPPED (no more trials).
        """
        trial = super().create_trial(tuner_id)
        self.tuner_ids.discard(tuner_id)  # every trial may come from a different worker name
        recalled, self._recalled = self._recalled, None
        if recalled is not None and (
            trial.status != "RUNNING" or trial.hyperparameters.values != recalled
        ):
            suggested = trial.hyperparameters.values if trial.status == "RUNNING" else "nothing"
            raise RequestError(
                f"the oracle no longer suggests what trial {int(trial.trial_id) + 1} ran (then "
                f"{recalled}, now {suggested}; "
                "another version of Keras Tuner or reskeras?); choose another name with --name, "
                "or start over with --fresh"
            )
        return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Any:
        """Takes the objective after an epoch (`step`, from 1), as Keras Tuner defines it.

        Returns:
            The trial; its status is STOPPED if it should end here.
        """
        trial = self.trials[trial_id]
        if trial.status != "RUNNING":
            return trial
        loss = self._loss(metrics[self.objective.name])
        self._reports[trial_id] = step, loss
        if self._rule is not None and self._rule.stops(trial_id, step, loss):
            trial = copy.copy(trial)
            trial.status = "STOPPED"
        return trial

    def end_trial(self, trial: Any) -> None:
        """Ends a trial as COMPLETED (also if it was stopped) or FAILED (also without a score)."""
        super().end_trial(trial)
        ended = self.trials[trial.trial_id]
        # Without the traces of the conditions it went through
        ended.hyperparameters = ended.hyperparameters.copy()
        if ended.status != "COMPLETED":
            self._reports[ended.trial_id] = (
                self._reports.get(ended.trial_id, (0, 0.0))[0],
                math.inf,
            )
        insort(self._ranked, (self._reports[ended.trial_id][1], int(ended.trial_id)))
        if self._rule is not None:
            self._rule.end(ended.trial_id, completed=ended.status == "COMPLETED")

    def score_trial(self, trial: Any) -> None:
        """Keras Tuner's hook: the score of a completed trial; NaN makes it fail."""
        epoch, loss = self._reports.get(trial.trial_id, (0, math.inf))
        trial.best_step = epoch
        trial.score = (
            (-loss if self.objective.direction == "max" else loss)
            if math.isfinite(loss)
            else math.nan
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Keras Tuner's hook: the values of the next trial.

        A call that returns none must leave no trace, because no journal records it.
        """
        if self._recalled is not None and not self.structural:
            return {"status": "RUNNING", "values": dict(self._recalled)}
        self._generator = random.Random(self._derive_seed())
        values = self._suggest(trial_id)
        if values is not None:
            return {"status": "RUNNING", "values": values}
        return {"status": "IDLE" if self.promotes and self.ongoing_trials else "STOPPED"}

    def _suggest(self, trial_id: str) -> Values | None:
        """The values of the next trial; None if there are none."""
        return self._new_point()

    def _new_point(self) -> Values | None:
        """The first candidate that has not been tried."""
        return next((values for values in self._candidates() if not self._duplicate(values)), None)

    def _candidates(self) -> Iterator[Values]:
        while self._start:
            yield self._start.pop(0)
        yield from self._modeled()
        for _ in range(self._max_collisions):
            yield fill(self.hyperparameters.space, self._draw)

    def _modeled(self) -> Iterable[Values]:
        """Yields points suggested by a model of past trials; none while it knows too little."""
        return ()

    def _draw(self, hp: Any) -> Any:
        return hp.prob_to_value(self._generator.random())

    def _derive_seed(self, *names: object) -> int:
        """The seed of the next suggestion."""
        return derive_seed(self._user_seed, "oracle", len(self.trials), *names)

    def _scored(self) -> int:
        """How many trials ended with a score."""
        return bisect_left(self._ranked, (math.inf, -1))

    def _loss(self, score: float) -> float:
        loss = -float(score) if self.objective.direction == "max" else float(score)
        return math.inf if math.isnan(loss) else loss

    def _history(self, best: int = 100, latest: int = 300) -> list[str]:
        """The best and the latest ended trials in starting order: a bounded input for models."""
        ended = set(self.end_order[-latest:]) | {
            self.start_order[number] for _, number in self._ranked[:best]
        }
        return sorted(ended, key=int)

    def _compute_values_hash(self, values: Mapping[str, Any]) -> Any:
        return super()._compute_values_hash(
            {path: value for path, value in values.items() if not path.startswith("tuner/")}
        )

    def _check_consecutive_failures(self) -> None:
        """Does nothing: the search handles failures. Keras Tuner's would raise."""

    def save(self) -> None:
        """Does nothing: the journal is the state."""

    def _save_trial(self, trial: Any) -> None:
        """Does nothing: the journal is the state."""


def fill(space: Iterable[Any], value_of: Callable[[Any], Any]) -> Values:
    """Draws values for the hyperparameters that are active given the earlier values."""
    values: Values = {}
    for hp in space:
        if is_active(hp, values):
            values[hp.name] = value_of(hp)
    return values


def is_active(hp: Any, values: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter is active given these values."""
    return all(condition.is_active(values) for condition in hp.conditions)
