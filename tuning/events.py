"""What happens in a search, and who is told."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reskeras.spec import Recipe
from tuning.journal import TrialRecord
from tuning.space import Space

if TYPE_CHECKING:  # these need Keras; who only listens does not
    from reskeras.data import ImageData
    from reskeras.train import Epoch


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
    trials: int
    epochs: int
    seed: int
    done: tuple[TrialRecord, ...] = ()
    """Trials that earlier sittings finished."""


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
    final: bool = False
    """Whether this is the winner's final training, which is not a trial of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a search found."""

    directory: Path
    trials: tuple[TrialRecord, ...]
    """Best first; failed ones last."""
    best: TrialRecord
    final: TrialRecord | None
    """The winner's final training, where one was asked for."""
    test: Mapping[str, float] | None
    """The kept model on the test split; None where the data have none."""

    @property
    def kept(self) -> TrialRecord:
        """The training whose model is best.keras: the final one, unless none was asked for or it failed."""
        return self.final if self.final is not None and self.final.status == "completed" else self.best


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
