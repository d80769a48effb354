"""The source of truth for a search: an append-only file of JSON lines.

Each line is on disk before the search continues. The lines are what happened, in order: a trial
started with these values, one of its epochs ended, the trial ended, a point was dropped. Replaying
them to a new oracle in this order restores the old one's state. Each line ends with a checksum of
the rest, which reveals damage; `tuning.record.repair` leaves out damaged lines.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
from pydantic import BaseModel, ValidationError

from reskeras.errors import RequestError
from tuning.record.entries import (
    Conclusion,
    Entry,
    EpochRecord,
    Final,
    FinalEpoch,
    Started,
    TrialRecord,
    kind_of,
    parse_entry,
)

_CHECKSUM = re.compile(rb', "crc": "([0-9a-f]{8})"\}$')


class _Data(BaseModel):
    name: str
    source: str
    class_names: list[str]
    peak: float | None = None
    image_shape: list[int]
    classes: int
    sizes: dict[str, int]


class _About(BaseModel):
    name: str
    started: float
    epochs: int
    command: list[str]
    data: _Data


class _Header(BaseModel):
    """The settings of a search in its first line."""

    search_id: str
    space: dict[str, Any]
    data: str
    oracle: str
    objective: str
    seed: int
    about: _About


class DamagedLineError(ValueError):
    """A line does not match its checksum."""


class Journal:
    """Reads the journal of a search and appends to it.

    Attributes:
        header: the settings of the search. A search that resumes must have the same, apart from
            `search_id` and everything below `about`.
        history: what happened before this session, in order.
        trials: the trials that ended, in order.
        finals: the final trainings that ended, in order.
        conclusions: how the finished sessions ended.

    Raises:
        RequestError: the file cannot be read, is damaged, or is not a journal of this version.
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
        """Starts a new journal, or checks that an old one belongs to the same search.

        Raises:
            RequestError: it belongs to another search; the message names the differences.
        """
        settings: dict[str, Any] = json.loads(json.dumps(header))
        if not self.header:
            self.header = settings
            self._append("search", settings)
            return
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
                "choose another name with --name, or start over with --fresh"
            )

    def add(self, entry: Entry) -> None:
        """Appends an entry and returns once it is on disk.

        Raises:
            RuntimeError: the disk is full or cannot be written; the journal is unchanged.
        """
        self._append(kind_of(entry), dataclasses.asdict(entry))
        self._take(entry)

    def final_epoch(self, number: int, epochs: int, repeat: int) -> int:
        """The last known epoch of a final training, counted from 1; 0 if there is none."""
        return self._final_epochs.get((number, epochs, repeat), 0)

    def _take(self, entry: Entry) -> None:
        match entry:
            case FinalEpoch():
                key = (entry.record.number, entry.epochs, entry.repeat)
                self._final_epochs[key] = entry.record.epoch
            case TrialRecord():
                self.trials.append(entry)
            case Final():
                self.finals.append(entry)
            case Conclusion():
                self.conclusions.append(entry)
            case _:
                pass

    def _append(self, kind: str, fields: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = write_line(kind, fields)
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab", buffering=0) as file:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as error:
            # The file may not even be readable anymore. A torn line is cut when it is read.
            with contextlib.suppress(OSError):
                os.truncate(self.path, before)
            raise RuntimeError(
                f"{self.path}: {error.strerror}; what is written so far is intact. Fix this, then "
                "run the same command to resume"
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
                entry = read_line(line)
                if not isinstance(entry, dict):
                    check_order(entry, running, begun=bool(self.header))
            except DamagedLineError as error:
                what = "start over with --fresh" if number == 1 else "--repair leaves it out"
                raise RequestError(f"{self.path}:{number}: this line is damaged; {what}") from error
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RequestError(
                    f"{self.path}:{number}: not a line of a journal of this version ({error}); "
                    "choose another name with --name, or start over with --fresh"
                ) from error
            if isinstance(entry, dict):
                self.header = _checked(entry, self.path)
            else:
                self.history.append(entry)
                self._take(entry)


def write_line(kind: str, fields: Mapping[str, Any]) -> bytes:
    """A line of a journal, with its checksum and line break."""
    body = json.dumps({"kind": kind, **fields}).encode()
    return body[:-1] + f', "crc": "{zlib.crc32(body):08x}"}}\n'.encode()


def read_line(line: bytes) -> Entry | dict[str, Any]:
    """Parses a line into its entry; the header into a dictionary.

    Raises:
        DamagedLineError: the line does not match its checksum. ValueError, TypeError, KeyError,
            AttributeError: it is not a line of this version.
    """
    found = _CHECKSUM.search(line)
    if found is None:
        # A line of an older version is whole. One that cannot be parsed is damaged.
        try:
            json.loads(line)
        except ValueError as error:
            raise DamagedLineError from error
        if b'"crc"' in line:
            raise DamagedLineError
        raise ValueError("it has no checksum")
    body = line[: found.start()] + b"}"
    if zlib.crc32(body) != int(found[1], 16):
        raise DamagedLineError
    fields = json.loads(body)
    kind = fields.pop("kind")
    return fields if kind == "search" else parse_entry(kind, fields)


def read_on(path: Path, offset: int) -> tuple[list[Entry | dict[str, Any]], int]:
    """Reads what was appended to a journal, which another process may be writing.

    Args:
        path: the journal's file.
        offset: where to start, in bytes: 0, or what an earlier call returned.

    Returns:
        The whole lines from there (the header as a dictionary), and the offset of their end.

    Raises:
        RequestError: a line is damaged.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        whole, end, _ = file.read().rpartition(b"\n")
    try:
        return [read_line(line) for line in whole.splitlines()], offset + len(whole) + len(end)
    except DamagedLineError as error:
        raise RequestError(
            f"{path}: a line is damaged; `reskeras tune --repair` with the search's other options "
            "leaves it out"
        ) from error


def read_header(path: Path) -> dict[str, Any] | None:
    """The first line of a journal; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            header = read_line(file.readline().rstrip(b"\n"))
        return _checked(header, path) if isinstance(header, dict) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def begun(directory: Path) -> float:
    """When a search started, in seconds since 1970; 0 if its journal does not say."""
    header = read_header(directory / "journal.jsonl")
    return float(header["about"]["started"]) if header is not None else 0.0


def lock_of(directory: Path) -> filelock.FileLock:
    """The lock of a search's writer. It lies beside the folder, which `--fresh` renames."""
    return filelock.FileLock(directory.with_name(f".{directory.name}.lock"))


def check_order(entry: Entry, running: set[int], *, begun: bool) -> None:
    """Tracks which trials run; raises ValueError for an entry that cannot occur here."""
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


def _checked(header: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        _Header.model_validate(header, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"{path}:1: {place}: {first['msg'][0].lower()}{first['msg'][1:]}; "
            "choose another name with --name, or start over with --fresh"
        ) from error
    return header


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    items: Any = None
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
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
