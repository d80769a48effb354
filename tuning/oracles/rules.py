"""What stops a trial before its last epoch. Losses: less is better."""

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Protocol


class Rule(Protocol):
    """Hears of every epoch of every trial. What was said of a trial and epoch once is said again."""

    def stops(self, trial: str, epoch: int, loss: float) -> bool:
        """Takes the loss of a trial after an epoch (from 1); whether the trial should end here."""

    def end(self, trial: str, *, completed: bool) -> None:
        """Hears that a trial ended: completed (also where it was stopped) or failed."""


class MedianRule:
    """Stops a trial whose best loss so far is worse than the median of what earlier trials had reached by the same epoch.

    The median stopping rule of Vizier (Golovin et al. 2017, "Google Vizier", section 3.2.2), with running bests on both sides.
    Trials that failed are not among the earlier ones. O(log n) a call.

    Args:
        trials: that must have ended at or behind an epoch before anything is stopped there.
        first: epoch at which something may be stopped.
    """

    def __init__(self, *, trials: int = 5, first: int = 2) -> None:
        self._trials, self._first = trials, first
        self._running: dict[str, dict[int, tuple[float, bool]]] = {}
        """Of each running trial and epoch: the best loss so far, and what was said."""
        self._ended: dict[int, list[float]] = {}
        """Of each epoch the best losses by then, sorted."""

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
    """The losses of the trials that came to an epoch."""

    def __init__(self) -> None:
        self.losses: dict[str, float] = {}
        """In the order in which they came."""
        self.ranked: list[tuple[float, str]] = []
        self._stopped: dict[str, bool] = {}

    def stops(self, trial: str, loss: float, factor: int) -> bool:
        """Whether a trial is not in the best 1/factor of those that came so far, itself counted; ties are in it."""
        if trial not in self.losses:
            self.losses[trial] = loss
            insort(self.ranked, (loss, trial))
            better = bisect_left(self.ranked, (loss, ""))
            self._stopped[trial] = better >= max(1, len(self.ranked) // factor)
        return self._stopped[trial]


class HalvingRule:
    """Asynchronous successive halving in its stopping form (ASHA, arXiv 1810.05934): nothing is trained twice or waits.

    Rungs are at the epochs r, 3r, 9r, ... with r a ninth of all epochs. At a rung a trial goes on only where its loss is in the
    best third of those seen there so far; while fewer than three have been seen, only the best goes on. O(log n) a call.

    Attributes:
        rungs: by epoch; the last is at the last epoch, where nothing is left to stop.

    Args:
        epochs: most epochs of a trial.
        factor: one in so many goes on.
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
