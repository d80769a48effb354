"""Who won: the leaderboard."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tuning.journal import Final, TrialRecord
from tuning.settings import sign
from tuning.space import Space


def leaderboard(trials: Sequence[TrialRecord], objective: str) -> list[TrialRecord]:
    """The trials, best first, failed ones last; equal scores go by validation loss, then by age."""

    def rank(record: TrialRecord) -> tuple[bool, float, float, int]:
        score = 0.0 if record.score is None else -sign(objective) * record.score
        return record.score is None or math.isnan(score), score, record.metrics.get("val_loss", 0.0), record.number

    return sorted(trials, key=rank)


def scores_by_trial(finals: Iterable[Final]) -> dict[int, list[float]]:
    """The scores of final trainings, by the number of the trial whose network they train; without failed ones."""
    scores: dict[int, list[float]] = {}
    for final in finals:
        if final.record.score is not None:
            scores.setdefault(final.record.number, []).append(final.record.score)
    return scores


def write_leaderboard(path: Path, ranked: Sequence[TrialRecord], space: Space) -> None:
    """The leaderboard as CSV: rank, trial, status, score, the searched values by short name, and what each cost."""
    short = space.short_names()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "trial", "status", "score", *short.values(), "parent", "epochs", "params", "seconds", "error"])
        for rank, record in enumerate(ranked, start=1):
            searched = [record.values.get(path, "") for path in short]
            score = "" if record.score is None else record.score
            row: list[Any] = [rank, record.number, record.status, score, *searched]
            writer.writerow(
                [*row, record.parent or "", record.epochs, record.params, round(record.seconds, 3), last_line(record.error)]
            )


def title(values: Any, space: Space) -> str:
    """A point of the space in a line: `dense · full_preact · blocks 2 · lr 0.0123`; words speak for themselves."""
    words, numbers = [], []
    for path, short in space.short_names().items():
        value = values.get(path)
        if isinstance(value, str):
            words.append(value)
        elif value is not None:
            numbers.append(f"{short} {value:.3g}" if isinstance(value, float) else f"{short} {value}")
    return " · ".join([*words, *numbers])


def percent(objective: str, score: float | None) -> str:
    """A score as people read it: shares in percent, losses as they are."""
    if score is None:
        return "-"
    return f"{score:.4f}" if objective.endswith("loss") else f"{100 * score:.1f} %"


def last_line(error: str | None) -> str:
    """What went wrong, in a line: the last of a traceback, or the first of several mistakes."""
    lines = (error or "").strip().splitlines()
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
