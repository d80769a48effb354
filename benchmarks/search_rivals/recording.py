"""Records a search: a row per epoch and one per trial, on a clock that can be stopped."""

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tuning.space import Space


class Clock:
    """Wall seconds since it was made, less those during which it was stopped."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """What runs in this context costs nothing."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What every rival gets."""

    space: Space
    data: Any
    """`reskeras.data.ImageData` without a test split."""
    x_train: np.ndarray
    """[N,H,W,C], float32; the very images of `data`, as are the other arrays."""
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    seed: int
    budget: float
    """Seconds on the clock."""
    directory: str
    """For the rival's files."""


class Recording:
    """The rows of one run; it begins with the clock at 0."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.clock = Clock()
        self.epochs: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.clock.seconds > self.budget

    def epoch(
        self, trial: int, epoch: int, *, seconds: float, user: float, recalibrated: float
    ) -> None:
        """An epoch ended; one that ended too late is left out.

        Args:
            trial: its number.
            epoch: its number within the trial, from 1.
            seconds: on the clock.
            user: the validation accuracy that the tool reports, 0 to 1.
            recalibrated: the same of the network with recalibrated batch-norm statistics.
        """
        if seconds <= self.budget:
            row = {
                "trial": trial,
                "epoch": epoch,
                "seconds": seconds,
                "user": user,
                "recalibrated": recalibrated,
            }
            self.epochs.append(row)

    def trial(self, trial: int, status: str, model: Any) -> None:
        """Records the end of a trial of a network; ignores one that ended too late."""
        if not self.over:
            architecture = hashlib.sha256(repr(model).encode()).hexdigest()[:8]
            row = {
                "trial": trial,
                "seconds": self.clock.seconds,
                "status": status,
                "architecture": architecture,
            }
            self.trials.append(row)
