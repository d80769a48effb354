"""Removes damaged lines from a journal, so the search can resume without them."""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from reskeras.errors import RequestError
from reskeras.files import replacing
from tuning.record.entries import (
    KINDS,
    Entry,
    EpochRecord,
    Started,
    TrialRecord,
    Unreadable,
    kind_of,
)
from tuning.record.journal import DamagedLineError, read_line, write_line

_KIND = re.compile(rb'"kind": "([a-z ]+)"')
_NUMBER = re.compile(rb'"number": (\d+)')
_STATUS = re.compile(rb'"status": "(completed|stopped)"')
_SIGNS = {"repeat": "final", "status": "trial", "reason": "dropped", "epoch": "epoch"}
"""Fields that reveal the kind of a line whose kind is unreadable, in this order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Damaged:
    """A damaged line, and what is still readable of it."""

    place: int
    """Line number, counted from 1."""
    kind: str | None
    number: int | None
    status: Literal["completed", "stopped"] | None
    """Whether a trial ended with a score."""


def repair(path: Path) -> list[str]:
    """Rewrites a journal atomically without its damaged lines, and keeps the old one.

    All other lines stay. A trial whose last line is damaged ends with its last epoch if the line
    still says that it had a score; otherwise it has failed. A trial known only from the damaged
    line is left out. So is a final training or a conclusion, which the search then repeats.

    Args:
        path: the journal of a search that is not running.

    Returns:
        What was left out, a line each. Empty, and nothing changes, if no line is damaged.

    Raises:
        RequestError: the first line, which holds the settings of the search, is damaged, or the
            file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    whole, _, _ = raw.rpartition(b"\n")
    lines = list(_lines(whole, path))
    damaged = [line for line in lines if isinstance(line, _Damaged)]
    if not damaged:
        return []
    header = lines[0]
    if not isinstance(header, dict):
        raise RequestError(
            f"{path}:1: the line with the settings of the search is damaged; start over with "
            "--fresh"
        )
    entries: list[Entry | _Damaged] = [line for line in lines[1:] if not isinstance(line, dict)]
    fixed = _Repair(entries, header["objective"])
    kept = fixed.run()
    aside = next(
        old
        for n in itertools.count(1)
        if not (old := path.with_name(f"{path.name}.damaged{n}")).exists()
    )
    aside.write_bytes(raw)
    with replacing(path, durable=True) as partial, open(partial, "wb") as file:
        file.write(write_line("search", header))
        for entry in kept:
            file.write(write_line(kind_of(entry), dataclasses.asdict(entry)))
    return [*fixed.left_out, f"the damaged journal is kept as {aside}"]


def _lines(whole: bytes, path: Path) -> Iterator[Entry | dict[str, Any] | _Damaged]:
    for place, line in enumerate(whole.split(b"\n"), start=1):
        try:
            yield read_line(line)
        except DamagedLineError:
            yield _look_at(place, line)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RequestError(
                f"{path}:{place}: not a line of a journal of this version ({error}); "
                "start over with --fresh"
            ) from error


def _look_at(place: int, line: bytes) -> _Damaged:
    kind, number, status = (pattern.search(line) for pattern in (_KIND, _NUMBER, _STATUS))
    known = kind[1].decode() if kind else ""
    if known not in KINDS:
        known = next((k for sign, k in _SIGNS.items() if f'"{sign}": '.encode() in line), "")
    return _Damaged(
        place=place,
        kind=known or None,
        number=int(number[1]) if number else None,
        status=status[1].decode() if status else None,  # type: ignore[arg-type]
    )


class _Repair:
    """Goes through the lines of a journal once and makes the remaining ones consistent."""

    def __init__(self, entries: list[Entry | _Damaged], objective: str) -> None:
        self._entries, self._objective = entries, objective
        self.left_out: list[str] = []
        self._started = {e.number for e in entries if isinstance(e, Started)}
        self._ended = {e.number: e for e in entries if isinstance(e, TrialRecord)}
        self._kept: list[Entry] = []
        self._running: dict[int, Started] = {}
        self._last: dict[int, EpochRecord] = {}
        """The last epoch of each trial so far."""

    def run(self) -> list[Entry]:
        """The entries of the repaired journal."""
        for place, entry in enumerate(self._entries):
            if isinstance(entry, _Damaged):
                self._replace(entry, self._entries[place + 1 :])
            else:
                self._keep(entry)
        return self._kept

    def _keep(self, entry: Entry) -> None:
        match entry:
            case Started():
                self._running[entry.number] = entry
            case EpochRecord() if entry.number not in self._running:
                return  # of a trial that ended above, because its last line seemed damaged
            case EpochRecord():
                self._last[entry.number] = entry
            case TrialRecord():
                if self._running.pop(entry.number, None) is None:
                    return
                self._add_last_epoch(entry)
            case _:
                pass
        self._kept.append(entry)

    def _add_last_epoch(self, record: TrialRecord) -> None:
        """An oracle knows a trial by its epochs, the last of which may have been damaged."""
        last = self._last.get(record.number)
        if record.score is not None and (last is None or last.epoch < record.epochs):
            self._kept.append(
                EpochRecord(
                    number=record.number,
                    epoch=record.epochs,
                    metrics=record.metrics,
                    seconds=0.0,
                    time=record.time,
                )
            )

    def _replace(self, damaged: _Damaged, later: list[Entry | _Damaged]) -> None:
        """Replaces a damaged line by what can be known, and describes what is left out."""
        kind, number = damaged.kind, damaged.number
        missing = self._missing(later)
        if kind in ("started", None) and missing is not None:
            self._begin(damaged, missing)
        elif kind == "trial" and number in self._running:
            self._end(damaged, number, self._running[number])
        elif kind == "dropped":
            self._kept.append(Unreadable(number=None))
            self._say(damaged, "a point that was not run")
        elif kind == "epoch":
            self._say(damaged, f"an epoch of trial {number}")
        else:
            self._say(damaged, f"a line of the kind {kind!r}" if kind else "a line")

    def _missing(self, later: list[Entry | _Damaged]) -> int | None:
        """The number of the trial that must have started here: numbers have no gaps."""
        before = max(
            (e.number or 0 for e in self._kept if isinstance(e, Started | Unreadable)), default=0
        )
        coming = {
            entry.number
            for entry in later
            if isinstance(entry, Started | EpochRecord | TrialRecord) and entry.number > before
        }
        return before + 1 if before + 1 not in self._started and coming else None

    def _begin(self, damaged: _Damaged, number: int) -> None:
        record = self._ended.get(number)
        if record is not None:
            self._keep(Started(number=number, values=record.values, time=record.time))
            self._say(damaged, f"when trial {number} started")
            return
        entry = Unreadable(number=number)
        self._kept.append(entry)
        self._say(damaged, f"trial {number}")

    def _end(self, damaged: _Damaged, number: int, started: Started) -> None:
        last = self._last.get(number)
        if last is None or damaged.status is None:
            record = TrialRecord(
                number=number,
                values=started.values,
                status="failed",
                error="its line in the journal was damaged",
                time=started.time,
            )
            self._say(damaged, f"the end of trial {number}, which counts as failed")
        else:
            record = TrialRecord(
                number=number,
                values=started.values,
                status=damaged.status,
                score=last.scores[self._objective],
                metrics=last.scores,
                epochs=last.epoch,
                parent=None,
                time=last.time,
            )
            self._say(damaged, f"the end of trial {number}, whose last epoch is its score")
        self._keep(record)

    def _say(self, damaged: _Damaged, what: str) -> None:
        self.left_out.append(f"line {damaged.place}: {what}")
