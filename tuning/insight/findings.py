"""What a search found, read from its journal once for every section of the report."""

import bisect
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.tasks import metric_of
from tuning.insight.importance import importances, scored, searched
from tuning.insight.scales import ScoreScale, scale_of
from tuning.record.entries import Entry, EpochRecord, Final, FinalEpoch, FinalPlan, TrialRecord
from tuning.record.journal import Journal
from tuning.record.ranking import by_rank
from tuning.space import Space
from tuning.space.costs import depth_and_macs
from tuning.space.titles import title

_PAUSE = 60.0
"""Seconds without any work after which the search counts as paused."""


class Findings:
    """A search as recorded in its journal.

    Attributes:
        objective: what the search compares.
        metric: what the objective measures.
        ranked: the trials, best first; failed ones last.
        scored: the trials that have a score, best first.
        winner: the trial that won; None if none has a score.
        finals: the final trainings that decided, in order.
        test: metrics of the winner on the test split; None if it was not evaluated.
        values: the searched values of each trial, by its number.
        titles: each trial in a few words, by its number.
        importances: how much each factor mattered, largest first.
        elapsed: maps a time in seconds since 1970 to the seconds that the search had run by then.
        paused: seconds between the first entry and the last in which the search did not run.
    """

    def __init__(self, journal: Journal, space: Space, known: Mapping[str, float] | None) -> None:
        self.journal, self.space = journal, space
        self.about: dict[str, Any] = journal.header["about"]
        self.objective: str = journal.header["objective"]
        self.metric = metric_of(self.objective)
        self.ranked = by_rank(journal.trials, self.objective)
        self.scored = by_rank(scored(journal.trials), self.objective)
        self.values = {record.number: searched(record, space) for record in self.ranked}
        self.titles = {number: title(values, space) for number, values in self.values.items()}
        self.importances = (
            importances(journal.trials, space, self.objective) if known is None else known
        )
        self.elapsed, self.paused = _clock(journal.history)
        conclusion = journal.conclusions[-1] if journal.conclusions else None
        plan = conclusion.plan if conclusion else FinalPlan(epochs=0, top=0, seeds=0)
        self.finals = [final for final in journal.finals if plan.covers(final)]
        self.test = conclusion.test if conclusion else None
        won = [
            record for record in self.scored if conclusion and record.number == conclusion.winner
        ]
        self.winner = next(iter(won or self.scored), None)

    @functools.cached_property
    def costs(self) -> dict[int, tuple[int, int]]:
        """Depth and MACs of each trial's network by number, without invalid networks."""
        known: dict[tuple[tuple[str, str], ...], tuple[int, int] | None] = {}
        found = {}
        for number, point in self.values.items():
            network = {
                path: value for path, value in point.items() if not path.startswith("train.")
            }
            key = tuple((path, repr(value)) for path, value in network.items())
            if key not in known:
                known[key] = depth_and_macs(self.space, network)
            if (costs := known[key]) is not None:
                found[number] = costs
        return found

    @functools.cached_property
    def scale(self) -> ScoreScale:
        """How scores of trials become heights."""
        return scale_of(self.objective, np.array([record.score for record in self.scored]))


def when(entry: Entry) -> float:
    """When it happened, in seconds since 1970."""
    return entry.record.time if isinstance(entry, FinalEpoch | Final) else entry.time


def _clock(history: Sequence[Entry]) -> tuple[Callable[[float], float], float]:
    ends: list[float] = []
    lost = [0.0]
    for before, after in itertools.pairwise(history):
        record = after.record if isinstance(after, FinalEpoch | Final) else after
        ran = record.seconds if isinstance(record, EpochRecord | TrialRecord) else 0.0
        idle = when(after) - when(before) - ran
        if idle > _PAUSE:
            ends.append(when(after))
            lost.append(lost[-1] + idle)
    first = when(history[0]) if history else 0.0
    return lambda time: max(0.0, time - first - lost[bisect.bisect_right(ends, time)]), lost[-1]
