"""How much each factor of a space matters: permutation importance in a small forest."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tuning.record.entries import TrialRecord
from tuning.settings import sign
from tuning.space import Range, Space

Array = npt.NDArray[np.float64]

FEWEST = 8
"""Fewer scores say nothing: a forest finds as much in five trials of pure noise."""

_TREES, _FOLDS, _REPEATS, _DRAWS = 60, 5, 2, 10
_MOST = 1000
"""At most this many trials are used; 2,000 changed an importance by 0.01 at most
(benchmarks/importances.py)."""
_STRIP = 8
"""Ranges of at most this many integers are shown as separate values, like words."""


def scored(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that have a score, oldest first; those stopped early have one of fewer epochs."""
    with_score = (
        record for record in records if record.status != "failed" and record.score is not None
    )
    return sorted(
        (record for record in with_score if math.isfinite(record.score or 0.0)),
        key=lambda record: record.number,
    )


def searched(record: TrialRecord, space: Space) -> dict[str, Any]:
    """The searched values of a trial by path, as in the spec."""
    return space.point(record.values)


def categories(space: Space, path: str) -> tuple[Any, ...] | None:
    """The possible values at a path if they are words or booleans; None for numbers."""
    item = space.vary[path]
    return None if isinstance(item, Range) or _numbers(item) else item


def strip(space: Space, path: str) -> list[Any] | None:
    """The values that are shown as separate places, in order; None for numbers on an axis."""
    if (words := categories(space, path)) is not None:
        return list(words)
    item = space.vary[path]
    if isinstance(item, tuple):
        return sorted(item)
    if item.log or not space.is_whole(path):
        return None
    numbers = range(int(item.low), int(item.high) + 1, int(item.step or 1))
    return list(numbers) if len(numbers) <= _STRIP else None


def importances(records: Sequence[TrialRecord], space: Space, objective: str) -> dict[str, float]:
    """How much each factor matters for the rank of a trial, largest first; the sum is 1.

    A forest (extremely randomized trees) learns the rank of a trial from its values. The importance
    of a factor is how much larger the forest's error on held-out trials becomes when the factor's
    value is swapped for that of another trial (permutation importance: Breiman 2001; Fisher et al.
    2019), divided by the sum over all factors. Where effects add up, this is the factor's share of
    the variance. A factor that acts only together with another counts for both, as in Sobol' total
    indices. A conditional factor is swapped only between trials that have it. Ranks keep one
    diverged trial from deciding, and give accuracies and their errors the same importances.

    Few trials give a rough answer. From search to search, a large importance has a standard
    deviation of about a third with 10 trials, a sixth with 20 or 40, and a tenth with 80; that of a
    factor that acts only together with another has twice as much or more
    (`python benchmarks/importances.py --spread`). It says nothing beyond the ranges searched: a
    learning rate that matters little from 1e-3 to 3e-3 may matter
    most from 1e-5 to 1. An oracle that learns tries few bad values, so a factor that it settled
    early looks less important than it is; use random search to measure importance.

    Args:
        records: trials of one search. Those without a score are ignored; of more than 1,000, an
            even selection is used.
        space: the space that was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.

    Returns:
        The importance of each path of the space. Empty if nothing can be said: with fewer than
        `FEWEST` scores, if all scores are equal, and if the forest predicts held-out trials hardly
        better than their mean (R2 of 2/N or less; of 24 searches in which nothing matters, 4 had
        more with 10 trials, 3 with 20, none with 40).
    """
    trials = scored(records)
    if len(trials) > _MOST:
        trials = [trials[place] for place in np.linspace(0, len(trials) - 1, _MOST).astype(int)]
    ranks = _ranks(np.array([-sign(objective) * (record.score or 0.0) for record in trials]))
    if len(trials) < FEWEST or np.ptp(ranks) == 0:
        return {}
    lost, r2 = _losses(_Table([searched(record, space) for record in trials], space), ranks)
    total = sum(lost.values())
    if r2 <= 2 / len(trials) or total <= 0:
        return {}
    return dict(
        sorted(((path, loss / total) for path, loss in lost.items()), key=lambda item: -item[1])
    )


class _Table:
    """Trials as numbers: the columns of each path (one per number or word), and who has it."""

    def __init__(self, points: Sequence[Mapping[str, Any]], space: Space) -> None:
        self.present = {path: np.array([path in point for point in points]) for path in space.vary}
        blocks = {
            path: _columns([point.get(path) for point in points], space, path)
            for path in space.vary
        }
        self.x = np.hstack(list(blocks.values()))
        ends = np.cumsum([block.shape[1] for block in blocks.values()])
        self.columns = {
            path: np.arange(end - block.shape[1], end)
            for (path, block), end in zip(blocks.items(), ends, strict=True)
        }

    def swapped(self, path: str, rows: npt.NDArray[np.intp], random: np.random.Generator) -> Array:
        """The rows with the value of one path taken from random other rows that have it."""
        mixed = self.x[rows]
        here = np.flatnonzero(self.present[path][rows])
        if not len(here):
            return mixed
        donors = random.choice(np.flatnonzero(self.present[path]), size=len(here))
        mixed[np.ix_(here, self.columns[path])] = self.x[np.ix_(donors, self.columns[path])]
        return mixed


def _losses(table: _Table, ranks: Array) -> tuple[dict[str, float], float]:
    """By how much swapping each path raises the held-out squared error; the forest's R2."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import RepeatedKFold

    random = np.random.default_rng(0)
    lost = dict.fromkeys(table.columns, 0.0)
    error = spread = 0.0
    folds = RepeatedKFold(n_splits=min(_FOLDS, len(ranks)), n_repeats=_REPEATS, random_state=0)
    for known, held in folds.split(ranks):
        forest = ExtraTreesRegressor(_TREES, random_state=0).fit(table.x[known], ranks[known])
        rows = np.tile(held, _DRAWS)
        predicted = forest.predict(
            np.vstack([table.x[rows], *(table.swapped(path, rows, random) for path in lost)])
        )
        right, *wrong = ((predicted.reshape(-1, len(rows)) - ranks[rows]) ** 2).sum(axis=1) / _DRAWS
        error, spread = error + right, spread + ((ranks[known].mean() - ranks[held]) ** 2).sum()
        lost = {
            path: loss + float(without - right)
            for (path, loss), without in zip(lost.items(), wrong, strict=True)
        }
    return {path: max(0.0, loss) for path, loss in lost.items()}, 1 - float(error / spread)


def _columns(values: Sequence[Any], space: Space, path: str) -> Array:
    if (words := categories(space, path)) is not None:
        return np.array(
            [[str(value) == str(word) for word in words] for value in values], dtype=float
        )
    # Ranks again, so that a log scale makes no difference. Absent values are in the middle.
    here = np.array([value is not None for value in values])
    column = np.full(len(values), (here.sum() + 1) / 2)
    column[here] = _ranks(np.array([value for value in values if value is not None], dtype=float))
    return column[:, None]


def _ranks(values: Array) -> Array:
    """Ranks from 1; equal values get their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Array = np.cumsum(counts) - (counts - 1) / 2
    return means[which]


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
