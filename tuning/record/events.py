"""What happens in a search, and who is told."""

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

if TYPE_CHECKING:  # these need Keras; who only listens does not
    from reskeras.data import ImageData
    from reskeras.training.state import Epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, as listeners see it."""

    name: str
    search_id: str
    directory: Path
    space: Space
    data: ImageData
    oracle: str
    objective: str
    trials: int | None
    """At most so many; None where time alone ends the search."""
    epochs: int
    seed: int
    done: tuple[TrialRecord, ...] = ()
    """Trials that earlier sessions finished."""
    left_out: tuple[str, ...] = ()
    """What a repair of the journal left out, a line each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that is about to run."""

    number: int
    values: Mapping[str, Any]
    recipe: Recipe | None
    """None where the values do not make a valid spec; the trial then fails at once."""
    first_epoch: int
    parent: int | None
    """The trial whose weights it goes on from."""
    repeat: int | None = None
    """In final trainings, which are no trials of their own, counts those of one network; None in a trial."""

    @property
    def final(self) -> bool:
        """Whether this is a final training of an earlier trial's network."""
        return self.repeat is not None

    @property
    def key(self) -> str:
        """Names it among the trials of a search."""
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
    """What a search found."""

    directory: Path
    objective: str
    trials: tuple[TrialRecord, ...]
    """Best first; failed ones last."""
    best: TrialRecord
    """The best trial; where there were final trainings, the one whose mean score was best."""
    finals: tuple[Final, ...]
    """The final trainings, where they were asked for: the winner's first."""
    test: Mapping[str, float] | None
    """The kept model on the test split; None where the data have none."""

    dropped: Mapping[str, int]
    """How many points were not run, by the reason."""
    importances: Mapping[str, float]
    """What `tuning.insight.importance.importances` says of the trials."""
    exhausted: str | None = None
    """Why there are fewer trials than were asked for, in a sentence, where the space had no more."""

    @property
    def final(self) -> TrialRecord | None:
        """The final training whose model is best.keras; None where the search's own best is."""
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
    """How a search ended; an interrupted one can go on."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Listener:
    """Told what happens in a search; every method may be left out."""

    def search_started(self, search: Search) -> None:
        """Before the first trial."""

    def trial_started(self, trial: Trial) -> None:
        """Before a trial's network is built."""

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        """After each epoch."""

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        """After a trial; the record is None when the search was interrupted in it."""

    def search_ended(self, ending: Ending, result: Result | None) -> None:
        """At the end; there is a result only where the search finished."""
