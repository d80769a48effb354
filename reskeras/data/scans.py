"""What was found out about the files of a folder, remembered for the next time.

One file per folder in the cache: a line that says which version wrote it, and a line per image file
with its facts, or why it is unreadable. Facts count as long as the file's size, times and inode
stay. It is replaced as a whole, so of two processes the last one is believed; both are right.
"""

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import PIL

from reskeras.data.decode import Facts
from reskeras.files import cache_folder, replacing

_FORMAT = 2
"""Changes when `Facts` or what makes a file unreadable does."""
_RACY_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again under the same times: a file
system may count in steps of 2 s."""


class Signature(NamedTuple):
    """What changes when a file does."""

    size: int
    modified: int
    """In nanoseconds, as the next one."""
    changed: int
    inode: int


class Seen(NamedTuple):
    """What a look at a file said."""

    thorough: bool
    found: Facts | str
    """Facts, or why it is unreadable."""


def signature(path: str | Path) -> Signature | None:
    """The signature of a file, or of the file that a link leads to; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Scan:
    """The remembered facts about the files of a folder. Nothing is remembered without a cache."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
        self._file = cache_folder() / "scans" / f"{name}.jsonl"
        self._head = {"format": _FORMAT, "pillow": PIL.__version__}
        self._known = self._read()

    def seen(self, path: Path, now: Signature, *, thorough: bool) -> Facts | str | None:
        """What is known about a file: facts, why it is unreadable, or None."""
        if (entry := self._known.get(self._name(path))) is None or entry[0] != now:
            return None
        seen = entry[1]
        return seen.found if seen.thorough or not thorough else None

    def add(self, looked: Iterable[tuple[Path, Signature, int, Seen]]) -> None:
        """Remembers what looks at files said, of which each tells when it began [ns]."""
        fresh = {
            self._name(path): (then, seen)
            for path, then, began, seen in looked
            if max(then.modified, then.changed) < began - _RACY_NS
        }
        if not fresh:
            return
        # Another process may have added its own meanwhile.
        known = {
            name: entry
            for name, entry in (self._read() | self._known).items()
            if name in fresh or os.path.lexists(os.path.join(self._root, name))
        }
        self._known = known | fresh
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._file) as partial:
                partial.write_text(self._text(), encoding="ascii")
        except OSError:
            return  # the next look takes longer, and that is all

    def _name(self, path: Path) -> str:
        return str(path).removeprefix(f"{self._root}{os.sep}")

    def _text(self) -> str:
        lines = [json.dumps(self._head)]
        lines += [
            json.dumps([name, *then, seen.thorough, _plain(seen.found)])
            for name, (then, seen) in self._known.items()
        ]
        return "\n".join(lines) + "\n"

    def _read(self) -> dict[str, tuple[Signature, Seen]]:
        """What the file holds; nothing if it is missing, damaged or of another version."""
        try:
            head, *lines = self._file.read_text(encoding="ascii").splitlines()
            if json.loads(head) != self._head:
                return {}
            return dict(map(_entry, json.loads(f"[{','.join(lines)}]")))
        except (OSError, ValueError, TypeError, KeyError):
            return {}


def _plain(found: Facts | str) -> Any:
    return found if isinstance(found, str) else list(dataclasses.astuple(found))


def _entry(line: Any) -> tuple[str, tuple[Signature, Seen]]:
    name, size, modified, changed, inode, thorough, found = line
    if not isinstance(found, str):
        digest, sides, gray, deep, frames, cut = found
        height, width = sides
        found = Facts(digest, (height, width), gray, deep and (deep[0], deep[1]), frames, cut)
    return name, (Signature(size, modified, changed, inode), Seen(thorough, found))
