"""The models of trials that a search keeps in addition to the best one's."""

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from reskeras.errors import RequestError
from reskeras.files import replacing, write_text
from tuning.record.entries import TrialRecord, trial_key
from tuning.record.ranking import by_rank

KEEP_BYTES = 2 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keep:
    """How many models to keep, best trials first, and their total size."""

    count: int | None = 0
    """None keeps all."""
    size: int = KEEP_BYTES
    """Bytes; the worst trials' models are deleted first. best.keras does not count."""

    @classmethod
    def parse(cls, text: str, size: int = KEEP_BYTES) -> "Keep":
        """Parses `best` (no others), `top:K` or `all`.

        Raises:
            RequestError: anything else.
        """
        if text == "best":
            return cls(size=size)
        if text == "all":
            return cls(count=None, size=size)
        if (found := re.fullmatch(r"top:([1-9]\d{0,5})", text)) is None:
            raise RequestError(f"models to keep: best, top:K (such as top:5) or all (got {text!r})")
        return cls(count=int(found[1]), size=size)


class KeptModels:
    """The folders `models/trial-0001` of a search, each with `model.keras` and `spec.yaml`."""

    def __init__(self, directory: Path, keep: Keep, objective: str) -> None:
        self._root, self._keep, self._objective = directory / "models", keep, objective
        self._records: list[TrialRecord] = []
        """The trials whose models are there, best first."""

    def recall(self, records: Iterable[TrialRecord]) -> None:
        """Adopts the models of an earlier session, except those of trials that did not end.

        If none are to be kept, the existing ones stay.
        """
        if self._keep.count == 0:
            return
        by_folder = {
            trial_key(record.number): record for record in records if record.score is not None
        }
        there = [path.parent for path in self._root.glob("trial-*/model.keras")]
        for path in there:
            if path.name not in by_folder:
                shutil.rmtree(path)
        self._records = by_rank(
            [by_folder[path.name] for path in there if path.name in by_folder], self._objective
        )
        self._prune()

    def wants(self, record: TrialRecord) -> bool:
        """Whether the model of a trial with this score would be kept."""
        if self._keep.count is None or len(self._records) < self._keep.count:
            return True
        return (
            self._keep.count > 0
            and by_rank([self._records[-1], record], self._objective)[0] is record
        )

    def add(self, record: TrialRecord, model: Path, spec: str) -> None:
        """Keeps a trial's model if it is among the best. The original file stays."""
        if not model.exists() or not self.wants(record):
            return
        folder = self._root / trial_key(record.number)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "model.keras") as partial:
            with contextlib.suppress(OSError):  # a file system without hard links
                os.link(model, partial)
            if not partial.exists():
                shutil.copyfile(model, partial)
        write_text(folder / "spec.yaml", spec)
        self._records = by_rank([*self._records, record], self._objective)
        self._prune()

    def _prune(self) -> None:
        size = 0
        kept: list[TrialRecord] = []
        for record in self._records:
            folder = self._root / trial_key(record.number)
            size += (folder / "model.keras").stat().st_size
            if (
                self._keep.count is None or len(kept) < self._keep.count
            ) and size <= self._keep.size:
                kept.append(record)
            else:
                shutil.rmtree(folder)
        self._records = kept
