"""Rules that stop a trial before its last epoch. Losses: less is better."""

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Protocol


class Rule(Protocol):
    """Receives every epoch of every trial. Repeated questions get the same answer."""

    def stops(self, trial: str, epoch: int, loss: float) -> bool:
        """Takes the loss of a trial after an epoch (from 1); returns whether to stop it."""

    def end(self, trial: str, *, completed: bool) -> None:
        """Takes the end of a trial: completed (also if it was stopped) or failed."""


class MedianRule:
    """Stops a trial whose best loss is worse than the median of earlier trials at the same epoch.

    The median stopping rule of Vizier (Golovin et al. 2017, "Google Vizier", section 3.2.2), with
    running bests on both sides. Failed trials do not count as earlier ones. Takes O(log n) per
    call.

    Args:
        trials: how many must have ended at or after an epoch before any trial is stopped there.
        first: the first epoch at which a trial may be stopped.
    """

    def __init__(self, *, trials: int = 5, first: int = 2) -> None:
        self._trials, self._first = trials, first
        self._running: dict[str, dict[int, tuple[float, bool]]] = {}
        """For each running trial and epoch: the best loss so far, and the answer."""
        self._ended: dict[int, list[float]] = {}
        """For each epoch: the best losses up to it, sorted."""

    def stops(self, trial: str, epoch: int, loss: float) -> bool:
        curve = self._running.setdefault(trial, {})
        if epoch not in curve:
            best = min(loss, next(reversed(curve.values()))[0]) if curve else loss
            others = self._ended.get(epoch, [])
            ripe = epoch >= self._first and len(others) >= self._trials
            curve[epoch] = (
                best,
                ripe and best > (others[(len(others) - 1) // 2] + others[len(others) // 2]) / 2,
            )
        return curve[epoch][1]

    def end(self, trial: str, *, completed: bool) -> None:
        curve = self._running.pop(trial, {})
        for epoch, (best, _) in curve.items() if completed else ():
            insort(self._ended.setdefault(epoch, []), best)


class Rung:
    """The losses of the trials that reached an epoch."""

    def __init__(self) -> None:
        self.losses: dict[str, float] = {}
        """In order of arrival."""
        self.ranked: list[tuple[float, str]] = []
        self._stopped: dict[str, bool] = {}

    def stops(self, trial: str, loss: float, factor: int) -> bool:
        """Whether a trial is outside the best 1/factor of those that arrived; ties are inside."""
        if trial not in self.losses:
            self.losses[trial] = loss
            insort(self.ranked, (loss, trial))
            better = bisect_left(self.ranked, (loss, ""))
            self._stopped[trial] = better >= max(1, len(self.ranked) // factor)
        return self._stopped[trial]


class HalvingRule:
    """Asynchronous successive halving in its stopping form (ASHA, arXiv 1810.05934).

    No trial is trained twice or waits. Rungs are at the epochs r, 3r, 9r, ... with r a ninth of all
    epochs. At a rung, a trial continues only if its loss is in the best third of those seen there
    so far; while fewer than three have been seen, only the best continues. Takes O(log n) per call.

    Attributes:
        rungs: by epoch; the last is at the last epoch, where nothing is left to stop.

    Args:
        epochs: the most epochs of a trial.
        factor: one in this many continues.
    """

    def __init__(self, epochs: int, *, factor: int = 3) -> None:
        self._epochs, self._factor = epochs, factor
        self.rungs: Mapping[int, Rung] = {epoch: Rung() for epoch in _rung_epochs(epochs, factor)}

    def stops(self, trial: str, epoch: int, loss: float) -> bool:
        rung = self.rungs.get(epoch)
        return rung is not None and rung.stops(trial, loss, self._factor) and epoch < self._epochs

    def end(self, trial: str, *, completed: bool) -> None:
        pass


def _rung_epochs(epochs: int, factor: int) -> list[int]:
    rungs, epoch = [], max(1, epochs // factor**2)
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= factor
    return [*rungs, epochs]
