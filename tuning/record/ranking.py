"""Which trial is better."""

import math
from collections.abc import Iterable, Sequence

from tuning.record.entries import Final, TrialRecord
from tuning.settings import sign


def leaderboard(trials: Sequence[TrialRecord], objective: str) -> list[TrialRecord]:
    """The trials, best first, failed ones last; equal scores go by validation loss, then by age."""

    def rank(record: TrialRecord) -> tuple[bool, float, float, int]:
        score = 0.0 if record.score is None else -sign(objective) * record.score
        return (
            record.score is None or math.isnan(score),
            score,
            record.metrics.get("val_loss", 0.0),
            record.number,
        )

    return sorted(trials, key=rank)


def scores_by_trial(finals: Iterable[Final]) -> dict[int, list[float]]:
    """The scores of final trainings, by the number of the trial whose network they train; without failed ones."""
    scores: dict[int, list[float]] = {}
    for final in finals:
        if final.record.score is not None:
            scores.setdefault(final.record.number, []).append(final.record.score)
    return scores
