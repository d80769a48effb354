"""Events of a search, and its listeners."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reskeras.spec import Recipe
from tuning.record.entries import Final, TrialRecord, final_key, trial_key
from tuning.record.ranking import by_rank
from tuning.space import Space

if TYPE_CHECKING:  # These need Keras, which listeners do not.
    from reskeras.data import ImageData
    from reskeras.training.state import Epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search, as its listeners see it."""

    name: str
    search_id: str
    directory: Path
    space: Space
    data: ImageData
    oracle: str
    objective: str
    trials: int | None
    """The most trials; None if only time ends the search."""
    epochs: int
    seed: int
    done: tuple[TrialRecord, ...] = ()
    """Trials that earlier sessions finished."""
    left_out: tuple[str, ...] = ()
    """What a repair left out of the journal, a line each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that is about to run."""

    number: int
    values: Mapping[str, Any]
    recipe: Recipe | None
    """None if the values do not make a valid spec; the trial then fails at once."""
    first_epoch: int
    parent: int | None
    """The trial whose weights it starts from."""
    repeat: int | None = None
    """Number of a final training among those of its network, from 0; None for a trial."""

    @property
    def final(self) -> bool:
        """Whether this is a final training of an earlier trial's network."""
        return self.repeat is not None

    @property
    def key(self) -> str:
        """Its name within the search."""
        return (
            trial_key(self.number)
            if self.repeat is None
            else final_key(self.number, self._epochs, self.repeat)
        )

    @property
    def _epochs(self) -> int:
        return self.recipe.train.epochs if self.recipe is not None else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a search."""

    directory: Path
    objective: str
    trials: tuple[TrialRecord, ...]
    """Best first; failed ones last."""
    best: TrialRecord
    """The best trial; after final trainings, the one with the best mean score."""
    finals: tuple[Final, ...]
    """The final trainings, if any; the winner's first."""
    test: Mapping[str, float] | None
    """Scores of the kept model on the test split; None if the data have none."""

    dropped: Mapping[str, int]
    """Number of points that were not run, by reason."""
    importances: Mapping[str, float]
    """Importances of the trials; see `tuning.insight.importance.importances`."""
    exhausted: str | None = None
    """A sentence if the space had fewer points than trials were asked for; otherwise None."""
    failure: str | None = None
    """A sentence if the kept model could be scored, but not evaluated; otherwise None."""

    @property
    def final(self) -> TrialRecord | None:
        """The final training whose model is best.keras; None if it is a trial's."""
        scored = [
            final.record
            for final in self.finals
            if final.record.number == self.best.number and final.record.score is not None
        ]
        return by_rank(scored, self.objective)[0] if scored else None

    @property
    def kept(self) -> TrialRecord:
        """The training whose model is best.keras."""
        return self.final or self.best


class Ending(enum.Enum):
    """How a search ended. An interrupted search can resume."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Listener:
    """Receives the events of a search. Every method is optional."""

    def search_started(self, search: Search) -> None:
        """Called before the first trial."""

    def trial_started(self, trial: Trial) -> None:
        """Called before a trial's network is built."""

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        """Called after each epoch."""

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        """Called after a trial; the record is None if the search was interrupted during it."""

    def search_ended(self, ending: Ending, result: Result | None) -> None:
        """Called at the end; the result is None unless the search finished."""
