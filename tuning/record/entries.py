"""What a journal says: one value for each kind of line."""

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
    """A trial began."""

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
    """Stands where a repair left out a suggestion whose line was damaged."""

    number: int | None
    """Of the trial that it started; None for a point that was dropped."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochRecord(_Dated):
    """An epoch of a trial ended."""

    number: int
    epoch: int
    """Trained in all, counted from 1."""
    metrics: Mapping[str, float]
    seconds: float


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
    """The objective after the last epoch."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    params: int = 0
    seconds: float = 0.0
    peak_memory: int | None = None
    """The most bytes that its process, or its GPU, held meanwhile; None where the machine does not
    report it."""
    parent: int | None = None
    """The trial whose weights it started from."""
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalEpoch:
    """An epoch of a final training ended."""

    repeat: int
    """As in `Final`."""
    epochs: int
    """As in `Final`."""
    record: EpochRecord
    """Under the number of the trial whose network is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Final:
    """A final training ended."""

    repeat: int
    """Counted from 0: trainings of one network that differ in their seed."""
    epochs: int
    """That were asked for."""
    record: TrialRecord
    """Under the number of the trial whose network is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalPlan:
    """Final trainings: for how many epochs, of how many of the best networks, how often each."""

    epochs: int
    """0 is no final training."""
    top: int
    seeds: int

    def covers(self, final: Final | FinalEpoch) -> bool:
        """Whether a final training is one of those asked for; earlier sessions may have had others."""
        return final.epochs == self.epochs and final.repeat < self.seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conclusion(_Dated):
    """What a search left when it ended: who won, and the one look at the test split."""

    winner: int
    """Number of the trial that won; after final trainings, the one with the best mean score."""
    plan: FinalPlan
    """The final trainings that were asked for."""
    test: Mapping[str, float] | None
    """Scores of the model that was kept; None where the data have no test split."""


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
"""What a line calls each kind of entry."""

_PARTS: dict[type[Any], tuple[str, type[Any]]] = {
    FinalEpoch: ("record", EpochRecord),
    Final: ("record", TrialRecord),
    Conclusion: ("plan", FinalPlan),
}
"""The field of an entry that is a value of its own."""


def parse_entry(kind: str, fields: dict[str, Any]) -> Entry:
    """An entry from the fields of its line.

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
    """The name of a trial among those of its search."""
    return f"trial-{number:04}"


def final_key(number: int, epochs: int, repeat: int) -> str:
    """The name of a final training of a trial's network; see `Final`."""
    return f"{trial_key(number)}-final-{epochs}-{repeat}"
