"""Which columns of a table hold labels, of which kind, and what their cells mean."""

import csv
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.options import DataOptions
from reskeras.errors import RequestError, did_you_mean
from reskeras.tasks import Labels, task_called
from reskeras.words import printable

Array = np.ndarray[Any, Any]

NAMES = ("label", "class", "target", "category", "y")
"""What the column of labels is called, in any case, if there is one."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
_FLAGS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
_BETWEEN = re.compile(r"[;|]")
"""Between several classes in a cell."""
_SEVERAL = re.compile(r"[^\s;|]\s*[;|]\s*[^\s;|]")
_AXES = ("_x", "_y")
"""How the names of the columns of a point end, in any case."""
_MANY = 20
"""More classes than this, on half of the images or more, are no classes."""
_SHOWN = 5
"""Values that a message lists."""
_TWICE = "several columns are called {}; rename or delete all but one"


class Line(NamedTuple):
    """A row of a table."""

    number: int
    cells: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that hold labels."""

    kind: Labels
    places: tuple[int, ...]
    names: tuple[str, ...]
    """Their names, in the header."""

    def read(self, cells: Sequence[str]) -> tuple[str, ...]:
        """The cells of a row that hold its label."""
        return tuple(cells[place] for place in self.places)


def label_columns(
    where: str,
    header: Sequence[str],
    lines: Sequence[Line],
    special: Mapping[str, Sequence[int]],
    options: DataOptions,
) -> Columns:
    """The columns that hold labels, and their kind.

    `options.labels` names them. Otherwise they are the column that is called like labels; or all
    columns, if each is 0 and 1, or is the x or the y of a point; or all, if they are numbers and
    the task takes these.

    Args:
        where: start of an error.
        header: the names of the columns.
        lines: all rows.
        special: the places of the columns of labels (`label`), and of those with other tasks.
        options: how data are read.

    Raises:
        RequestError: columns that could mean several things, or nothing.
    """
    asked = None if options.task is None else task_called(options.task).labels
    if asked in (Labels.MASK, Labels.IMAGE):
        raise RequestError(
            f"{where}: a table holds classes, numbers or points, not {asked.value}s, which "
            f"{options.task} takes; put these in a folder beside images/"
        )
    table = _Table(where, header, lines)
    taken = {place: what for what, places in special.items() if what != "label" for place in places}
    if options.labels is not None:
        return table.of(_named(table, options.labels, taken), asked)
    if special["label"] and asked is not Labels.POINTS:
        return table.of([special["label"][0]], asked)
    known = {*taken, *special["label"]}
    rest = [place for place in range(len(header)) if place not in known]
    return _found(table, rest, asked)


@dataclasses.dataclass(frozen=True)
class _Table:
    """Columns by their places."""

    where: str
    header: Sequence[str]
    lines: Sequence[Line]

    def names(self, places: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.header[place] for place in places)

    def column(self, place: int) -> list[str]:
        return [line.cells[place] for line in self.lines]

    def is_flags(self, place: int) -> bool:
        return _FLAGS.keys() >= set(self.column(place))

    def is_numbers(self, place: int) -> bool:
        return all(_NUMBER.fullmatch(cell) for cell in self.column(place))

    def points(self, places: Sequence[int]) -> list[int]:
        """The columns that are the x and the y of points: x, y, x, y ..."""
        by_name = {self.header[place].lower(): place for place in places}
        return [
            by_name[name.removesuffix(_AXES[0]) + axis]
            for name in by_name
            if name.endswith(_AXES[0]) and name.removesuffix(_AXES[0]) + _AXES[1] in by_name
            for axis in _AXES
        ]

    def of(self, places: Sequence[int], asked: Labels | None) -> Columns:
        """The labels that are in these columns.

        Args:
            places: of the columns.
            asked: the kind that the task takes; None: the cells say it.
        """
        if len(places) == 1 and asked is not Labels.POINTS:
            return self._columns(asked or _kind_of(self.column(places[0])), places)
        points = self.points(places)
        if len(points) == len(places) and asked in (None, Labels.POINTS):
            return self._columns(Labels.POINTS, points)
        if asked in (None, Labels.CLASSES) and all(map(self.is_flags, places)):
            return self._columns(Labels.CLASSES, places)
        if asked in (None, Labels.NUMBERS) and all(map(self.is_numbers, places)):
            return self._columns(Labels.NUMBERS, places)
        raise RequestError(
            f"{self.where}: the columns {_few(self.names(places))} are no "
            + ("labels" if asked is None else f"labels of the kind '{asked.value}'")
            + "; several columns hold 0 and 1 (for each class), numbers, or points (NAME_x and "
            "NAME_y)"
        )

    def _columns(self, kind: Labels, places: Sequence[int]) -> Columns:
        names = self.names(places)
        if twice := [name for name in names if names.count(name) > 1]:
            raise RequestError(f"{self.where}: {_TWICE.format(twice[0])}")
        return Columns(kind, tuple(places), names)


def _kind_of(cells: Sequence[str]) -> Labels:
    """The kind of label in a single column."""
    words = set(cells)
    if any(map(_SEVERAL.search, words)):
        return Labels.CLASSES
    numbers = all(_NUMBER.fullmatch(word) for word in words)
    return Labels.NUMBERS if numbers and not all(map(_is_whole, words)) else Labels.CLASS


def _named(table: _Table, text: str, taken: Mapping[int, str]) -> list[int]:
    """The columns that `--labels` names."""
    names = [name.strip() for name in next(csv.reader([text]), [])]
    where = f"{table.where}: --labels {text}"
    places = []
    for name in names:
        found = [place for place, own in enumerate(table.header) if own == name] or [
            place for place, own in enumerate(table.header) if own.lower() == name.lower()
        ]
        if not found:
            raise RequestError(
                f"{where}: no column is called {name!r}"
                f"{did_you_mean(name, list(table.header))}; the columns are "
                f"{_few(table.header, most=40)}"
            )
        if len(found) > 1:
            raise RequestError(f"{where}: {_TWICE.format(name)}")
        places.append(found[0])
    if not places or len(set(places)) < len(places):
        raise RequestError(f"{where}: names a column twice" if places else f"{where}: is empty")
    for place in places:
        if place in taken:
            raise RequestError(
                f"{where}: the column {table.header[place]!r} is the {taken[place]} of an image"
            )
    return places


def _found(table: _Table, rest: Sequence[int], asked: Labels | None) -> Columns:
    """The labels in a table without a column that is called like labels.

    Args:
        table: the table.
        rest: the columns that mean nothing else.
        asked: the kind that the task takes; None: any.
    """
    points = table.points(rest)
    flags = [place for place in rest if table.is_flags(place)]
    numbers = [place for place in rest if table.is_numbers(place)]
    likely: list[int] = []
    match asked:
        case Labels.POINTS:
            likely = points
        case Labels.CLASSES:
            likely = flags
        case Labels.NUMBERS:
            likely = numbers
        case None:
            likely = points or (flags if len(flags) > 1 else [])
    if likely and len(likely) == len(rest):
        return table.of(likely, asked)
    almost = _almost(table, [place for place in rest if place not in likely], asked)
    there = f"the columns are {_few(table.header, most=40)}{almost}"
    if not likely:
        wanted = {
            Labels.POINTS: "no columns are called NAME_x and NAME_y, which hold a point",
            Labels.CLASSES: "no columns hold 0 and 1, for each class",
            Labels.NUMBERS: "no columns hold numbers",
        }
        raise RequestError(
            f"{table.where}: "
            + wanted.get(
                asked or Labels.CLASS,
                f"no column is called {', '.join(NAMES[:-1])} or {NAMES[-1]}",
            )
            + f"; {there}; --labels COLUMN,... (from Python, labels='...') says which hold labels"
        )
    others = table.names(place for place in rest if place not in likely)
    words = ",".join(table.names(likely))
    raise RequestError(
        f"{table.where}: the columns {_few(table.names(likely))} could be labels, beside "
        f"{_few(others)}{almost}; --labels {words} (from Python, labels='{words}') says that they "
        "are"
    )


def _almost(table: _Table, places: Sequence[int], asked: Labels | None) -> str:
    """The first cell that keeps a column from being labels, if most others are; else nothing."""
    if asked is Labels.POINTS:
        return ""
    numbers = asked is Labels.NUMBERS
    for place in places:
        bad = [
            line
            for line in table.lines
            if not (numbers and _NUMBER.fullmatch(line.cells[place]))
            and line.cells[place] not in _FLAGS
        ]
        if bad and 2 * len(bad) < len(table.lines):
            cell = bad[0].cells[place]
            what = "which is no number" if numbers else "not 0 or 1"
            holds = f"holds {cell!r}, {what}"
            return f"; line {bad[0].number}: {table.header[place]} {holds if cell else 'is empty'}"
    return ""


def classes_of(
    where: str, columns: Columns, cells: Sequence[tuple[int, tuple[str, ...]]]
) -> tuple[tuple[str, ...], Array]:
    """The names of the classes, and the number of the class of each image, int32 [N]; as `sets_of`.

    Raises:
        RequestError: an image has several classes, or these are no classes.
    """
    for line, (cell, *_) in cells:
        if _SEVERAL.search(cell):
            raise RequestError(
                f"{where}, line {line}: {cell!r} looks like several labels; an image has one class "
                "for this task, and any number of them for --task multilabel"
            )
    words = {some[0] for _, some in cells}
    if _kind_of([*words]) is Labels.NUMBERS:
        real = sorted((word for word in words if not _is_whole(word)), key=float)
        raise RequestError(
            f"{where}: {len(real):,} labels are real numbers ({_few(real)}), which are no classes; "
            "--task numbers predicts numbers"
        )
    order = _ordered(words)
    _check_few(where, order, len(cells))
    number = {word: place for place, (_, some) in enumerate(order) for word in some}
    found = np.array([number[some[0]] for _, some in cells], np.int32)
    return tuple(name for name, _ in order), found


def sets_of(
    where: str, columns: Columns, cells: Sequence[tuple[int, tuple[str, ...]]]
) -> tuple[tuple[str, ...], Array]:
    """For each class, whether each image shows it.

    Args:
        where: start of an error.
        columns: of the kind `Labels.CLASSES`.
        cells: for each image, the number of its line and its cells.

    Returns:
        The names of the classes, and float32 [N,K] of 0 and 1.

    Raises:
        RequestError: these are no classes.
    """
    if len(columns.places) > 1:
        found = [[_FLAGS[cell] for cell in some] for _, some in cells]
        return columns.names, np.array(found, np.float32)
    several = [
        [word for part in _BETWEEN.split(some[0]) if (word := part.strip())] for _, some in cells
    ]
    order = _ordered({word for words in several for word in words})
    _check_few(where, order, len(cells))
    if not order:
        raise RequestError(f"{where}: no image has a label")
    number = {word: place for place, (_, words) in enumerate(order) for word in words}
    found_sets = np.zeros((len(several), len(order)), np.float32)
    for row, words in zip(found_sets, several, strict=True):
        row[[number[word] for word in words]] = 1
    return tuple(name for name, _ in order), found_sets


def numbers_of(where: str, columns: Columns, cells: Sequence[tuple[int, tuple[str, ...]]]) -> Array:
    """Numbers, float32 [N,K]; as `sets_of`."""
    found = np.empty((len(cells), len(columns.places)), np.float32)
    for row, (line, some) in zip(found, cells, strict=True):
        row[:] = [_number(where, line, name, cell) for name, cell in _with(columns, some)]
    return found


def points_of(
    where: str, columns: Columns, cells: Sequence[tuple[int, tuple[str, ...]]]
) -> tuple[tuple[str, ...], Array]:
    """The names of points, and x and y of each: float32 [N,K,2], NaN for empty cells.

    Raises:
        RequestError: a cell is no number, or a point has only one of x and y.
    """
    found = np.full((len(cells), len(columns.places)), np.nan, np.float32)
    for row, (line, some) in zip(found, cells, strict=True):
        for place, (name, cell) in enumerate(_with(columns, some)):
            if cell:
                row[place] = _number(where, line, name, cell)
    points = found.reshape(len(cells), -1, 2)
    halves = np.argwhere(np.isnan(points).sum(axis=-1) == 1)
    if len(halves):
        row, point = halves[0]
        raise RequestError(
            f"{where}, line {cells[row][0]}: only one of {columns.names[2 * point]} and "
            f"{columns.names[2 * point + 1]} is given; leave both empty if the point is not there"
        )
    return tuple(name[: -len(_AXES[0])] for name in columns.names[::2]), points


def _with(columns: Columns, cells: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(columns.names, cells, strict=True)


def _number(where: str, line: int, name: str, cell: str) -> float:
    value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(value):
        raise RequestError(f"{where}, line {line}: {name} holds {cell!r}, which is no number")
    # As a Python float: NumPy would cast the value to float32, which overflows.
    if abs(value) > float(np.finfo(np.float32).max):
        raise RequestError(
            f"{where}, line {line}: {name} holds {cell!r}, beyond float32; give the numbers "
            "in another unit"
        )
    return value


def _ordered(words: set[str]) -> list[tuple[str, list[str]]]:
    """Classes in their order, numbers as numbers: the name of each, and the words that mean it."""
    values: dict[str, str | int] = {word: word for word in words}
    if words and all(_NUMBER.fullmatch(word) and _is_whole(word) for word in words):
        values = {
            word: int(word) if word.lstrip("+-").isdecimal() else int(float(word)) for word in words
        }
    order = sorted(set(values.values()), key=lambda value: (isinstance(value, str), value))
    by_value: dict[str | int, list[str]] = {value: [] for value in order}
    for word, value in values.items():
        by_value[value].append(word)
    return [(str(value), some) for value, some in by_value.items()]


def _check_few(where: str, order: Sequence[tuple[str, Any]], images: int) -> None:
    """Raises RequestError if there are too many classes for so many images."""
    if len(order) > _MANY and len(order) > images / 2:
        numbers = sum(_NUMBER.fullmatch(name) is not None for name, _ in order)
        how, hint = "--task numbers (from Python, task='numbers') predicts", ""
        if numbers == len(order):
            hint = f"; {how} numbers"
        elif numbers > len(order) / 2:
            hint = f"; {numbers:,} of them are numbers, which {how}"
        raise RequestError(
            f"{where}: {len(order):,} different labels ({_few(name for name, _ in order)}) for "
            f"{images:,} images; labels are classes{hint}"
        )


def _is_whole(word: str) -> bool:
    return math.isfinite(float(word)) and float(word).is_integer()


def _few(values: Iterable[object], most: int = _SHOWN) -> str:
    """Some values in a message."""
    every = [printable(str(value)) for value in values]
    return ", ".join(every if len(every) <= most else [*every[:most], "..."])
