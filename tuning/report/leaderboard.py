"""The leaderboard as a file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reskeras.errors import in_a_line
from tuning.record.entries import TrialRecord
from tuning.space import Space


def write_leaderboard(path: Path, ranked: Sequence[TrialRecord], space: Space) -> None:
    """The leaderboard as CSV: rank, trial, status, score, the searched values by short name, and what each cost."""
    short = space.short_names()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "rank",
                "trial",
                "status",
                "score",
                *short.values(),
                "parent",
                "epochs",
                "params",
                "seconds",
                "error",
            ]
        )
        for rank, record in enumerate(ranked, start=1):
            searched = [record.values.get(path, "") for path in short]
            score = "" if record.score is None else record.score
            row: list[Any] = [rank, record.number, record.status, score, *searched]
            writer.writerow(
                [
                    *row,
                    record.parent or "",
                    record.epochs,
                    record.params,
                    round(record.seconds, 3),
                    in_a_line(record.error),
                ]
            )
