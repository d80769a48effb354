"""Kept runs and what is measured on them."""

import csv
import dataclasses
import math
import statistics
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

_NUMBERS = (
    "seed",
    "budget",
    "wall",
    "before",
    "load",
    "trial",
    "epoch",
    "seconds",
    "user",
    "recalibrated",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One search. Accuracies are on validation; `scores` is `recalibrated` or `user`."""

    section: str
    rival: str
    seed: int
    facts: Mapping[str, Any]
    """Its row in runs.csv: `budget` and `wall` (what was used of it), `before` (imports and data),
    `load`, `versions`."""
    epochs: list[dict[str, Any]]
    """In the order of their ends."""
    trials: list[dict[str, Any]]

    @property
    def workers(self) -> int:
        """Processes that run trials."""
        return int(self.rival.partition("@")[2] or 1)

    @property
    def ended(self) -> list[dict[str, Any]]:
        """The trials that ended well in time, also those that were stopped early on purpose."""
        return [row for row in self.trials if row["status"] not in ("failed", "interrupted")]

    @property
    def failed(self) -> int:
        """Trials that failed."""
        return sum(row["status"] == "failed" for row in self.trials)

    @property
    def architectures(self) -> int:
        """Different networks among the trials that ended."""
        return len({row["architecture"] for row in self.ended})

    def seconds_to(self, accuracy: float, scores: str, *, but_trial: int | None = None) -> float:
        """When an epoch of another trial first reached this accuracy; infinity if none did."""
        reached = (
            row for row in self.epochs if row[scores] >= accuracy and row["trial"] != but_trial
        )
        return min((row["seconds"] for row in reached), default=math.inf)

    def best_after(self, seconds: np.ndarray, scores: str) -> np.ndarray:
        """The best accuracy until each of these times; 0 before the first epoch has ended."""
        times = np.array([0.0, *(row["seconds"] for row in self.epochs)])
        best = np.maximum.accumulate(np.array([0.0, *(row[scores] for row in self.epochs)]))
        return best[np.searchsorted(times, seconds, side="right") - 1]

    def best(self, scores: str) -> float:
        """The best accuracy of all."""
        return max((row[scores] for row in self.epochs), default=0.0)

    def mean_best(self, scores: str) -> float:
        """The area under the curve of the best accuracy so far, divided by the budget."""
        times = np.array([0.0, *(row["seconds"] for row in self.epochs)])
        lasting = np.diff([*times, self.facts["budget"]])
        return float(np.sum(lasting * self.best_after(times, scores)) / self.facts["budget"])

    @property
    def trials_per_minute(self) -> float:
        """Trials that ended."""
        return 60 * len(self.ended) / self.facts["wall"]

    @property
    def epochs_per_minute(self) -> float:
        """Epochs, those of unfinished trials too."""
        return 60 * len(self.epochs) / self.facts["wall"]

    @property
    def later_trials_per_minute(self) -> float:
        """Trials per minute after the first ended; nan if fewer than three ended."""
        if len(self.ended) < 3:
            return math.nan
        return 60 * (len(self.ended) - 1) / (self.ended[-1]["seconds"] - self.ended[0]["seconds"])

    @property
    def overhead(self) -> float:
        """Seconds per trial besides its epochs at their steady pace.

        That is (wall - sum of epochs x steady epoch) / trials.

        Wall counts once per worker and ends with the last trial. The steady epoch is the median
        over a trial's second and later epochs; a trial of one epoch takes it from the run's trials
        of its architecture, or else from all of the run. nan where the run has none.
        """
        ended = self.ended
        if not ended:
            return math.nan
        paces = {row["trial"]: self._later_epochs(row["trial"]) for row in ended}
        everywhere = [pace for found in paces.values() for pace in found]
        if not everywhere:
            return math.nan
        steady = 0.0
        for row in ended:
            alike = [
                p
                for other in ended
                if other["architecture"] == row["architecture"]
                for p in paces[other["trial"]]
            ]
            count = sum(epoch["trial"] == row["trial"] for epoch in self.epochs)
            steady += count * statistics.median(paces[row["trial"]] or alike or everywhere)
        return (self.workers * ended[-1]["seconds"] - steady) / len(ended)

    def _later_epochs(self, trial: int) -> list[float]:
        return [
            second - first
            for first, second in pairwise(
                row["seconds"] for row in self.epochs if row["trial"] == trial
            )
        ]


def read_runs(folder: Path) -> list[Run]:
    """The runs that a folder keeps, in the order in which they ran."""
    tables = {name: _rows(folder / f"{name}.csv") for name in ("runs", "epochs", "trials")}
    found = []
    for facts in tables["runs"]:
        key = {name: facts[name] for name in ("section", "rival", "seed")}
        epochs, trials = (
            [row for row in tables[name] if key.items() <= row.items()]
            for name in ("epochs", "trials")
        )
        by_time = (sorted(rows, key=lambda row: row["seconds"]) for rows in (epochs, trials))
        found.append(Run(**key, facts=facts, epochs=next(by_time), trials=next(by_time)))
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {key: float(value) if key in _NUMBERS else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
