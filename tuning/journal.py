"""The truth about a search: an append-only file of JSON lines, each on disk before the search goes on."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reskeras.errors import RequestError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial that ended."""

    number: int
    """Counted from 1."""
    values: Mapping[str, Any]
    """Keras Tuner's values, by path."""
    status: Literal["completed", "failed"]
    score: float | None = None
    """The objective after the last epoch."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    params: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a search left when it ended: who won, how the winner's final training went, and its one look at the test split."""

    winner: int
    """Number of the best trial."""
    final_epochs: int
    """Epochs of the final training that was asked for; 0 for none."""
    final: TrialRecord | None
    """The final training, under the winner's number."""
    test: Mapping[str, float] | None
    """Of the model that was kept, the final one where there is one; None where the data have no test split."""


class Journal:
    """Reads and appends to the journal of one search.

    Attributes:
        header: what was searched: settings that must be the same when the search goes on.
        trials: the trials that ended, in order.
        conclusions: what was concluded, the last time last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.trials: list[TrialRecord] = []
        self.conclusions: list[Conclusion] = []
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
        old, new = _leaves(self.header), _leaves(settings)
        differences = [
            f"  {path}: it has {_brief(old.get(path))}, now {_brief(new.get(path))}"
            for path in dict.fromkeys([*new, *old])
            if path != "search_id" and old.get(path) != new.get(path)
        ]
        if differences:
            listed = "\n".join(differences)
            raise RequestError(
                f"{self.path.parent} holds another search:\n{listed}\n"
                "give this one a name of its own with --name, or begin anew with --fresh"
            )

    def add_trial(self, trial: TrialRecord) -> None:
        """Appends a trial that ended."""
        self.trials.append(trial)
        self._append("trial", dataclasses.asdict(trial))

    def add_conclusion(self, conclusion: Conclusion) -> None:
        """Appends what a search concluded."""
        self.conclusions.append(conclusion)
        self._append("conclusion", dataclasses.asdict(conclusion))

    def _append(self, kind: str, value: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **value}) + "\n")
            file.flush()
            os.fsync(file.fileno())

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
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                match entry.pop("kind"):
                    case "search":
                        self.header = entry
                    case "trial":
                        self.trials.append(TrialRecord(**entry))
                    case "conclusion":
                        final = entry.pop("final")
                        self.conclusions.append(Conclusion(final=final and TrialRecord(**final), **entry))
                    case kind:
                        raise ValueError(f"unknown kind of entry {kind!r}")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RequestError(f"{self.path}:{number}: not a line of a journal: {error}; --fresh begins anew") from error


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {place: leaf for key, item in items for place, leaf in _leaves(item, f"{path}.{key}" if path else str(key)).items()}


def _brief(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
