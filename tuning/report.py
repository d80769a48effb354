"""Who won: the leaderboard."""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tuning.journal import Final, TrialRecord
from tuning.settings import sign
from tuning.space import Space

_STAGE_BLOCKS = re.compile(r"stages\.(\*|\d+)\.blocks")


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
    """A point of the space in a line: `dense · full_preact · 3-3-3 · lr 0.0123`; words and the blocks of stages need no name."""
    words, numbers = [], []
    depths = _blocks_of_stages(values, space)
    if depths:
        numbers.append("-".join(map(str, depths)))
    for path, short in space.short_names().items():
        value = values.get(path)
        if isinstance(value, str):
            words.append(value)
        elif value is not None and not (depths and _STAGE_BLOCKS.fullmatch(path)):
            numbers.append(f"{short} {value:.3g}" if isinstance(value, float) else f"{short} {value}")
    return " · ".join([*words, *numbers])


def _blocks_of_stages(values: Any, space: Space) -> list[int]:
    """How many blocks each stage has, where that is searched and every stage has some."""
    stages = getattr(space.base.model, "stages", ())
    varied = [path for path in space.vary if path in values and _STAGE_BLOCKS.fullmatch(path)]
    if not varied:
        return []
    found = [stage.blocks for stage in stages]
    for path in varied:
        for index in range(len(found)) if "*" in path else [int(path.split(".")[1])]:
            found[index] = values[path]
    return found


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
