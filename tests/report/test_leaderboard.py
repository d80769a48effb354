"""One leaderboard value, and what its writers make of it."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from stubs import tiny

from tuning import Range
from tuning.record.entries import TrialRecord
from tuning.record.ranking import by_rank
from tuning.report.leaderboard import (
    CSV_COLUMNS,
    NOTE_COLUMNS,
    PAGE_COLUMNS,
    TERMINAL_COLUMNS,
    leaderboard_of,
    to_markdown,
    to_page,
    to_terminal,
    write_csv,
)

SPACE = tiny(
    **{
        "block.kind": ["basic", "dense"],
        "block.growth_rate": [4, 8],
        "train.learning_rate": Range(low=1e-3, high=1e-1, log=True),
    }
)
TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\nValueError: no luck'


def trial(number: int, score: float | None, **more: object) -> TrialRecord:
    values = {"block.kind": "basic", "block.growth_rate": 4, "train.learning_rate": 0.0123456}
    status = "completed" if score is not None else "failed"
    told = {"values": values, "status": status, "seconds": 12.3456, "params": 77_600} | more
    return TrialRecord(number=number, score=score, **told)  # type: ignore[arg-type]


RANKED = by_rank(
    [
        trial(1, 0.5),
        trial(2, 0.98765, status="stopped", epochs=2, peak_memory=3 << 20),
        trial(3, None, error=TRACE, params=0),
        trial(4, 0.75, values={"block.kind": "dense", "block.growth_rate": 8}, parent=1),
    ],
    "val_accuracy",
)


def test_the_file_has_plain_values_and_the_reason_of_a_failure(tmp_path: Path) -> None:
    board = leaderboard_of(RANKED, SPACE, "val_accuracy", CSV_COLUMNS)
    write_csv(board, tmp_path / "leaderboard.csv")
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        *("rank", "trial", "status", "score", "block", "growth_rate", "lr"),
        *("parent", "epochs", "params", "seconds", "error"),
    ]
    assert [row["trial"] for row in rows] == ["2", "4", "1", "3"]
    assert [row["score"] for row in rows] == ["0.98765", "0.75", "0.5", ""]
    assert [row["growth_rate"] for row in rows] == ["", "8", "", ""]  # of dense blocks alone
    assert (rows[0]["lr"], rows[0]["seconds"], rows[1]["parent"]) == ("0.0123456", "12.346", "1")
    assert (rows[3]["status"], rows[3]["error"]) == ("failed", "ValueError: no luck")
    assert list(tmp_path.iterdir()) == [tmp_path / "leaderboard.csv"]


def test_the_terminal_has_numbers_on_the_right_in_80_columns() -> None:
    board = leaderboard_of(RANKED, SPACE, "val_accuracy", TERMINAL_COLUMNS)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_terminal(board, "leaderboard of s"))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines == [
        "leaderboard of s",
        "trial val_accuracy block growth_rate     lr params seconds",
        "    2      98.8 %* basic             0.0123  77.6k    12.3",
        "    4       75.0 % dense           8         77.6k    12.3",
        "    1       50.0 % basic             0.0123  77.6k    12.3",
        "    3       failed basic             0.0123           12.3",
    ]


def test_the_page_has_json_without_columns_that_say_nothing() -> None:
    costs = {1: (5, 1000), 2: (5, 1000)}
    page = to_page(leaderboard_of(RANKED, SPACE, "val_accuracy", PAGE_COLUMNS, costs))
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    assert page["columns"][:3] == [
        ["rank", "whole", False],
        ["trial", "whole", False],
        ["val_accuracy", "share", False],
    ]
    assert ["growth_rate", "value", True] in page["columns"]
    assert [row[2] for row in page["rows"]] == [0.98765, 0.75, 0.5, None]
    losses = [trial(1, 0.5), trial(2, 0.4)]
    page = to_page(leaderboard_of(losses, SPACE, "val_loss", PAGE_COLUMNS))
    names = [name for name, _, _ in page["columns"]]
    assert "memory" not in names
    assert "parent" not in names
    assert page["columns"][2] == ["val_loss", "loss", False]


def test_markdown_links_the_trials() -> None:
    board = leaderboard_of(RANKED[:2], SPACE, "val_accuracy", NOTE_COLUMNS, {2: (7, 1)})
    assert to_markdown(board, lambda number: f"[{number}](x)") == [
        "| rank | trial | val_accuracy | block | growth_rate | lr | depth | params | epochs | "
        "seconds |",
        "|" + " --- |" * 10,
        "| 1 | [2](x) | 98.8 %* | basic |  | 0.0123 | 7 | 77.6k | 2 | 12.3 |",
        "| 2 | [4](x) | 75.0 % | dense | 8 |  |  | 77.6k |  | 12.3 |",
    ]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_none(score: float) -> None:
    board = leaderboard_of([trial(1, score)], SPACE, "val_loss", PAGE_COLUMNS)
    assert board.rows[0].cells[2] is None
