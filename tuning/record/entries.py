"""Entries of a journal: one type for each kind of line."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Dated:
    time: float = dataclasses.field(default_factory=time.time, compare=False)
    """When it happened, in seconds since 1970."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Started(_Dated):
    """A trial started."""

    number: int
    """Counted from 1."""
    values: Mapping[str, Any]
    """Keras Tuner's values, by path."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped(_Dated):
    """A point that the oracle suggested and that was not run."""

    values: Mapping[str, Any]
    reason: str
    twin: int | None = None
    """The trial that it would have repeated."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unreadable(_Dated):
    """Replaces a suggestion whose damaged line a repair left out."""

    number: int | None
    """Number of the trial that it started; None for a point that was dropped."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochRecord(_Dated):
    """An epoch of a trial ended."""

    number: int
    epoch: int
    """Total number of epochs so far, counted from 1."""
    metrics: Mapping[str, float]
    seconds: float
    kept: Mapping[str, float] | None = None
    """As in `reskeras.training.state.Epoch`."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The metrics of the weights that a trial that ends here keeps."""
        return self.metrics if self.kept is None else self.kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord(_Dated):
    """A trial ended."""

    number: int
    """Counted from 1."""
    values: Mapping[str, Any]
    """Keras Tuner's values, by path."""
    status: Literal["completed", "stopped", "failed"]
    """`stopped`: ended early because others were better."""
    score: float | None = None
    """The objective of the weights that are kept: after the last epoch, or after the best one."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    params: int = 0
    seconds: float = 0.0
    peak_memory: int | None = None
    """Peak memory in bytes of its process, or of its GPU; None if the machine does not report
    it."""
    parent: int | None = None
    """Number of the trial whose weights it started from."""
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalEpoch:
    """An epoch of a final training ended."""

    repeat: int
    """As in `Final`."""
    epochs: int
    """As in `Final`."""
    record: EpochRecord
    """Has the number of the trial whose network is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Final:
    """A final training ended."""

    repeat: int
    """Counted from 0: trainings of one network with different seeds."""
    epochs: int
    """The number of epochs that was asked for."""
    record: TrialRecord
    """Has the number of the trial whose network is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalPlan:
    """The final trainings that were asked for: epochs, number of networks, and seeds for each."""

    epochs: int
    """0 for no final training."""
    top: int
    seeds: int

    def covers(self, final: Final | FinalEpoch) -> bool:
        """Whether a final training is part of this plan; earlier sessions may have had others."""
        return final.epochs == self.epochs and final.repeat < self.seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conclusion(_Dated):
    """The outcome of a search: the winner, and its scores on the test split."""

    winner: int
    """Number of the winning trial; with final trainings, the one with the best mean score."""
    plan: FinalPlan
    """The final trainings that were asked for."""
    test: Mapping[str, float] | None
    """Scores of the kept model; None if the data have no test split."""


Entry = Started | Dropped | Unreadable | EpochRecord | TrialRecord | FinalEpoch | Final | Conclusion

KINDS: dict[str, type[Any]] = {
    "started": Started,
    "dropped": Dropped,
    "unreadable": Unreadable,
    "epoch": EpochRecord,
    "trial": TrialRecord,
    "final epoch": FinalEpoch,
    "final": Final,
    "conclusion": Conclusion,
}
"""The word for each kind of entry in a line."""

_PARTS: dict[type[Any], tuple[str, type[Any]]] = {
    FinalEpoch: ("record", EpochRecord),
    Final: ("record", TrialRecord),
    Conclusion: ("plan", FinalPlan),
}
"""Entry fields that hold a value of their own type."""


def kind_of(entry: Entry) -> str:
    """The word for the kind of an entry."""
    return next(kind for kind, cls in KINDS.items() if isinstance(entry, cls))


def parse_entry(kind: str, fields: dict[str, Any]) -> Entry:
    """Builds an entry from the fields of its line.

    Raises:
        KeyError, TypeError: the fields are not those of this kind.
    """
    cls = KINDS[kind]
    if cls in _PARTS:
        name, part = _PARTS[cls]
        fields = fields | {name: part(**fields[name])}
    entry: Entry = cls(**fields)
    return entry


def trial_key(number: int) -> str:
    """The name of a trial within its search."""
    return f"trial-{number:04}"


def final_key(number: int, epochs: int, repeat: int) -> str:
    """The name of a final training of a trial's network; see `Final`."""
    return f"{trial_key(number)}-final-{epochs}-{repeat}"
