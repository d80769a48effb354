"""The ranking of trials."""

import math
from collections.abc import Iterable, Mapping, Sequence

from tuning.record.entries import Final, TrialRecord
from tuning.settings import sign

Rank = tuple[bool, float, float, int]


def rank(objective: str, score: float | None, metrics: Mapping[str, float], number: int) -> Rank:
    """Sort key of trials: best score first, those without one last.

    Equal scores are ordered by validation loss, then by age.
    """
    loss = 0.0 if score is None else -sign(objective) * score
    lost = score is None or math.isnan(loss)
    return lost, loss, metrics.get("val_loss", 0.0), number


def scored(record: TrialRecord) -> bool:
    """Whether a training has a score: not if it failed, or if nothing counts in the objective."""
    return record.score is not None and not math.isnan(record.score)


def by_rank(trials: Sequence[TrialRecord], objective: str) -> list[TrialRecord]:
    """The trials, best first, failed ones last."""
    return sorted(
        trials, key=lambda record: rank(objective, record.score, record.metrics, record.number)
    )


def scores_by_trial(finals: Iterable[Final]) -> dict[int, list[float]]:
    """The scores of final trainings by trial number; see `scored`."""
    scores: dict[int, list[float]] = {}
    for final in finals:
        if (score := final.record.score) is not None and not math.isnan(score):
            scores.setdefault(final.record.number, []).append(score)
    return scores
