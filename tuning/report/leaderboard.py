"""The leaderboard: one table value, and its writers for a file, a terminal, a page and Markdown."""

import csv
import dataclasses
import enum
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reskeras.errors import in_a_line
from reskeras.files import replacing
from reskeras.tasks import Metric, Unit, metric_of
from reskeras.words import compact, in_bytes, three_digits
from tuning.record.entries import TrialRecord
from tuning.space import Space

if TYPE_CHECKING:
    from rich.table import Table


class CellFormat(enum.Enum):
    """What a column holds, which says how its cells are written.

    The page's script reads the values.
    """

    WHOLE = "whole"
    SCORE = "score"
    VALUE = "value"
    """One of the searched values."""
    COUNT = "count"
    SECONDS = "tenths"
    BYTES = "bytes"
    TEXT = "status"


@dataclasses.dataclass(frozen=True)
class Column:
    """A heading, and what is below it."""

    name: str
    format: CellFormat


@dataclasses.dataclass(frozen=True)
class Row:
    """One trial."""

    cells: tuple[Any, ...]
    """Plain values, in the order of the columns; None where there is none."""
    fate: str
    """`completed`, `stopped`, `failed`, or what else became of it."""


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """Trials, best first, as a table of plain values."""

    metric: Metric
    """Of the score."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def without_empty(self, always: int = 0) -> "Leaderboard":
        """The table without columns that hold nothing; the first few stay always."""
        kept = [
            place
            for place in range(len(self.columns))
            if place < always or any(row.cells[place] not in (None, "") for row in self.rows)
        ]
        rows = tuple(Row(tuple(row.cells[place] for place in kept), row.fate) for row in self.rows)
        return Leaderboard(self.metric, tuple(self.columns[place] for place in kept), rows)

    def is_number(self, place: int) -> bool:
        """Whether a column holds nothing but numbers."""
        cells = [row.cells[place] for row in self.rows]
        return all(isinstance(cell, int | float) for cell in cells if cell not in (None, ""))

    def write(self, row: Row, place: int) -> str:
        """A cell as people read it."""
        value = row.cells[place]
        match self.columns[place].format:
            case CellFormat.SCORE:
                mark = "*" if row.fate == "stopped" else ""
                return row.fate if value is None else self.metric.write(value) + mark
            case _ if value is None:
                return ""
            case CellFormat.COUNT:
                return compact(value)
            case CellFormat.SECONDS:
                return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
            case CellFormat.BYTES:
                return in_bytes(value)
            case CellFormat.VALUE:
                return three_digits(value)
            case _:
                return str(value)


STOPPED_NOTE = "* stopped early, because others were better"

CSV_COLUMNS = (
    *("rank", "trial", "status", "score", "values"),
    *("parent", "epochs", "params", "seconds", "error"),
)
TERMINAL_COLUMNS = ("trial", "score", "values", "params", "seconds")
PAGE_COLUMNS = (
    *("rank", "trial", "score", "values", "epochs", "params"),
    *("MACs", "depth", "seconds", "memory", "parent", "status"),
)
NOTE_COLUMNS = ("rank", "trial", "score", "values", "depth", "params", "epochs", "seconds")

_FORMATS = {
    "rank": CellFormat.WHOLE,
    "trial": CellFormat.WHOLE,
    "score": CellFormat.SCORE,
    "epochs": CellFormat.WHOLE,
    "params": CellFormat.COUNT,
    "MACs": CellFormat.COUNT,
    "depth": CellFormat.WHOLE,
    "seconds": CellFormat.SECONDS,
    "memory": CellFormat.BYTES,
    "parent": CellFormat.WHOLE,
    "status": CellFormat.TEXT,
    "error": CellFormat.TEXT,
}


def leaderboard_of(
    ranked: Sequence[TrialRecord],
    space: Space,
    objective: str,
    columns: Sequence[str],
    costs: Mapping[int, tuple[int, int]] | None = None,
) -> Leaderboard:
    """The trials of a search as a table.

    Args:
        ranked: the trials, best first.
        space: what was searched.
        objective: what was compared; it heads the column of the scores.
        columns: which, and in which order; `values` stands for all that was searched.
        costs: depth and MACs of the trials' networks, by number; for the columns of these names.
    """
    short = space.short_names()
    made: list[Column] = []
    for name in columns:
        if name == "values":
            made += [Column(word, CellFormat.VALUE) for word in short.values()]
        else:
            made.append(Column(objective if name == "score" else name, _FORMATS[name]))

    def row(rank: int, record: TrialRecord) -> Row:
        point = space.point(record.values)
        depth, macs = (costs or {}).get(record.number, (None, None))
        error = in_a_line(record.error)
        failed = record.status == "failed"
        known: dict[str, Any] = {
            "rank": rank,
            "trial": record.number,
            "score": None if failed or not math.isfinite(record.score or 0.0) else record.score,
            "epochs": record.epochs or None,
            "params": record.params or None,
            "MACs": macs,
            "depth": depth,
            "seconds": round(record.seconds, 3),
            "memory": record.peak_memory,
            "parent": record.parent,
            "status": record.status,
            "error": error or None,
        }
        cells: list[Any] = []
        for name in columns:
            cells += [point.get(path) for path in short] if name == "values" else [known[name]]
        return Row(tuple(cells), record.status)

    rows = tuple(row(rank, record) for rank, record in enumerate(ranked, start=1))
    return Leaderboard(metric_of(objective), tuple(made), rows)


def write_csv(board: Leaderboard, path: Path) -> None:
    """Writes the plain values to a CSV file; the score's column is called `score`."""
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        formats = [(column.name, column.format) for column in board.columns]
        writer.writerow(["score" if form is CellFormat.SCORE else name for name, form in formats])
        for row in board.rows:
            writer.writerow(["" if cell is None else cell for cell in row.cells])


def to_terminal(
    board: Leaderboard, heading: str | None = None, whole: Collection[str] = ()
) -> "Table":
    """A table for a terminal: numbers on the right, the scores bold.

    Args:
        board: the leaderboard.
        heading: above the table.
        whole: names of columns whose cells are never broken over lines.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for place, column in enumerate(board.columns):
        number = board.is_number(place)
        table.add_column(
            column.name,
            justify="right" if number else "left",
            no_wrap=column.name in whole or column.format is CellFormat.SCORE,
            overflow="fold",
        )
    for row in board.rows:
        cells = []
        for place, column in enumerate(board.columns):
            text = board.write(row, place)
            if column.format is not CellFormat.SCORE:
                cells.append(Text(text))
            else:
                lost = "red" if row.fate == "failed" else "dim"
                cells.append(Text(text, style="bold" if row.cells[place] is not None else lost))
        table.add_row(*cells)
    return table


def to_page(board: Leaderboard) -> dict[str, Any]:
    """What report.html draws: columns (name, kind, whether it is searched), and rows of values.

    Columns that hold nothing are left out, but for rank, trial and score.
    """
    board = board.without_empty(always=3)
    score = "share" if board.metric.unit is Unit.SHARE else "loss"
    return {
        "columns": [
            [
                column.name,
                score if column.format is CellFormat.SCORE else column.format.value,
                column.format is CellFormat.VALUE,
            ]
            for column in board.columns
        ],
        "rows": [list(row.cells) for row in board.rows],
    }


def to_markdown(board: Leaderboard, link: Callable[[int], str], gap: str = " | ") -> list[str]:
    """The lines of a Markdown table.

    Args:
        board: the leaderboard.
        link: from the number of a trial to what its cell says.
        gap: between columns.
    """
    names = [column.name for column in board.columns]
    lines = [f"| {gap.join(names)} |", "|" + " --- |" * len(names)]
    for row in board.rows:
        cells = [
            link(row.cells[place]) if name == "trial" else board.write(row, place)
            for place, name in enumerate(names)
        ]
        lines.append(f"| {gap.join(cells)} |")
    return lines
