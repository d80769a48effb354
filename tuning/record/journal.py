"""The truth about a search: an append-only file of JSON lines, each on disk before the search goes on.

Its lines are what happened, in order: a trial started with these values, an epoch of it ended, the trial ended, a point was dropped
unseen. Told to a new oracle in this order, they bring it to where the old one was.
"""

import contextlib
import dataclasses
import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import filelock

from reskeras.errors import RequestError


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
    """The most bytes that its process held meanwhile, or its GPU; None where the machine does not say."""
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
    """Under the number of the trial that is trained to the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Final:
    """A final training ended."""

    repeat: int
    """Counted from 0: trainings of one network that differ in their seed."""
    epochs: int
    """That were asked for."""
    record: TrialRecord
    """Under the number of the trial that is trained to the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conclusion(_Dated):
    """What a search left when it ended: who won, and the one look at the test split."""

    winner: int
    """Number of the trial that won; where there were final trainings, of the one whose mean score was best."""
    plan: str
    """What final trainings were asked for."""
    test: Mapping[str, float] | None
    """Of the model that was kept, the final one where there is one; None where the data have no test split."""


Entry = Started | Dropped | EpochRecord | TrialRecord | FinalEpoch | Final | Conclusion
_KINDS: dict[str, type[Any]] = {
    "started": Started,
    "dropped": Dropped,
    "epoch": EpochRecord,
    "trial": TrialRecord,
    "final epoch": FinalEpoch,
    "final": Final,
    "conclusion": Conclusion,
}


def trial_key(number: int) -> str:
    """Names a trial among those of its search."""
    return f"trial-{number:04}"


def final_key(number: int, epochs: int, repeat: int) -> str:
    """Names a final training of a trial's network; see `Final`."""
    return f"{trial_key(number)}-final-{epochs}-{repeat}"


class Journal:
    """Reads and appends to the journal of one search.

    Attributes:
        header: what was searched: settings that must be the same when the search goes on, but for `search_id` and what is below
            `about`.
        history: what happened before this sitting, in order.
        trials: the trials that ended, in order.
        finals: the final trainings that ended, in order.
        conclusions: how the sittings that came to an end ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.history: list[Entry] = []
        self.trials: list[TrialRecord] = []
        self.finals: list[Final] = []
        self.conclusions: list[Conclusion] = []
        self._final_epochs: dict[tuple[int, int, int], int] = {}
        if path.exists():
            self._read()

    def begin(self, header: Mapping[str, Any]) -> None:
        """Starts a new journal, or checks that an old one is of the same search.

        Raises:
            RequestError: it is of another search; the message names the differences.
        """
        settings: dict[str, Any] = json.loads(json.dumps(header))
        if not self.header:
            self.header = settings
            self._append("search", settings)
            return
        if "about" not in self.header:
            raise RequestError(
                f"{self.path}:1: a journal of an older version; give this search another name, or begin anew with --fresh"
            )
        old, new = _leaves(self.header), _leaves(settings)
        differences = [
            f"  {path}: it has {_brief(old.get(path))}, now {_brief(new.get(path))}"
            for path in dict.fromkeys([*new, *old])
            if path != "search_id"
            and not path.startswith("about.")
            and old.get(path) != new.get(path)
        ]
        if differences:
            listed = "\n".join(differences)
            raise RequestError(
                f"{self.path.parent} holds another search:\n{listed}\n"
                "give this one a name of its own with --name, or begin anew with --fresh"
            )

    def add(self, entry: Entry) -> None:
        """Appends what happened, and returns when it is on disk.

        Raises:
            RuntimeError: the disk is full, or cannot be written for another reason; the journal is as it was.
        """
        kind = next(kind for kind, cls in _KINDS.items() if isinstance(entry, cls))
        self._append(kind, dataclasses.asdict(entry))
        self._take(entry)

    def final_epoch(self, number: int, epochs: int, repeat: int) -> int:
        """The last epoch that is known of a final training, counted from 1; 0 where none is."""
        return self._final_epochs.get((number, epochs, repeat), 0)

    def _take(self, entry: Entry) -> None:
        match entry:
            case FinalEpoch():
                self._final_epochs[entry.record.number, entry.epochs, entry.repeat] = (
                    entry.record.epoch
                )
            case TrialRecord():
                self.trials.append(entry)
            case Final():
                self.finals.append(entry)
            case Conclusion():
                self.conclusions.append(entry)
            case _:
                pass

    def _append(self, kind: str, value: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"kind": kind, **value}).encode() + b"\n"
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab", buffering=0) as file:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(
                OSError
            ):  # it may not even be readable any more; a torn line is cut when it is read
                os.truncate(self.path, before)
            raise RuntimeError(
                f"{self.path}: {error.strerror}; what is written so far is intact, and the same command goes on once that is mended"
            ) from error

    def _read(self) -> None:
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise RequestError(f"{self.path}: {error.strerror}") from error
        whole, _, torn = raw.rpartition(b"\n")
        if torn:
            # The process died while it wrote the last line; that trial did not end.
            with open(self.path, "r+b") as file:
                file.truncate(len(raw) - len(torn))
        running: set[int] = set()
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = _entry(json.loads(line))
                if not isinstance(entry, dict):
                    _check_order(entry, running, bool(self.header))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RequestError(
                    f"{self.path}:{number}: not a line of a journal of this version: {error}; "
                    "give the search another name, or begin anew with --fresh"
                ) from error
            if isinstance(entry, dict):
                self.header = entry
            else:
                self.history.append(entry)
                self._take(entry)


def read_on(path: Path, offset: int) -> tuple[list[Entry | dict[str, Any]], int]:
    """What was appended to a journal that may be written to meanwhile.

    Args:
        path: of the journal.
        offset: where to begin, in bytes; 0, or what an earlier call returned.

    Returns:
        The whole lines from there (the header as a dictionary), and where they end.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        whole, end, _ = file.read().rpartition(b"\n")
    return [_entry(json.loads(line)) for line in whole.splitlines()], offset + len(whole) + len(end)


def begun(directory: Path) -> float:
    """When a search began, in seconds since 1970; 0 where its journal does not tell."""
    with (
        contextlib.suppress(OSError, ValueError, KeyError, TypeError),
        open(directory / "journal.jsonl", "rb") as file,
    ):
        return float(json.loads(file.readline())["about"]["started"])
    return 0.0


def lock_of(directory: Path) -> filelock.FileLock:
    """What a process holds while it writes to a search; beside its folder, which `--fresh` renames."""
    return filelock.FileLock(directory.with_name(f".{directory.name}.lock"))


def _entry(told: dict[str, Any]) -> Entry | dict[str, Any]:
    kind = told.pop("kind")
    if kind == "search":
        return told
    if kind == "final":
        told["record"] = TrialRecord(**told["record"])
    if kind == "final epoch":
        told["record"] = EpochRecord(**told["record"])
    entry: Entry = _KINDS[kind](**told)
    return entry


def _check_order(entry: Entry, running: set[int], begun: bool) -> None:
    if not begun:
        raise ValueError("the line that says what is searched is missing")
    match entry:
        case Started():
            running.add(entry.number)
        case EpochRecord() | TrialRecord() if entry.number not in running:
            raise ValueError(f"trial {entry.number} is not running here")
        case TrialRecord():
            running.remove(entry.number)
        case _:
            pass


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else None
    )
    if items is None:
        return {path: value}
    return {
        place: leaf
        for key, item in items
        for place, leaf in _leaves(item, f"{path}.{key}" if path else str(key)).items()
    }


def _brief(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
