"""Images that a table names, with their labels: a CSV file beside them."""

import csv
import dataclasses
import functools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reskeras.data.decode import SUFFIXES
from reskeras.data.files import (
    File,
    check_channels,
    folders_in,
    images_below,
    listed,
    look_at,
    split_folders,
    split_of,
)
from reskeras.data.folder import with_labels
from reskeras.data.images import ImageData
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.words import printable

_SUFFIXES = {".csv", ".tsv"}
_MARKS = ",;\t"
"""What may stand between fields."""
_COLUMNS = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path"),
        *("image", "image_path", "image_name", "image_file", "img", "img_path"),
    ),
    "label": ("label", "class", "target", "category", "y"),
    "split": ("split", "subset"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id", "scene"),
}
"""What columns are called, in any case."""
_IDS = ("id", "image_id")
"""What the column of paths may be called, too, if none is called otherwise."""
_FOLDERS = ("images", "image", "imgs", "img")
"""The folder beside the table that may hold the images."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
_LONGEST = 255
"""Bytes in the name of a file or folder."""
_MANY = 20
"""More labels than this, on half of the images or more, are no classes."""
_SHOWN = 5
"""Values that a message lists."""


class _Row(NamedTuple):
    """A row of the table."""

    line: int
    path: str
    label: str
    split: str | None
    """None: the table has no such column."""
    group: str


def table_in(root: Path) -> Path | None:
    """The table of labels in a folder; None if there is none, or the folder's folders are classes.

    Raises:
        RequestError: several tables could be it.
    """
    tables = [path for path in sorted(root.iterdir()) if is_table(path)]
    if not tables or split_folders(root):
        return None
    for child in folders_in(root):
        beside = child.name.lower() in _FOLDERS or split_of(child.name) is not None
        if not beside and images_below(child):
            return None
    found = {path: _places(_lines(path)[0][1]) for path in tables}
    with_paths = [path for path in tables if found[path]["path"]]
    likely = [path for path in with_paths if found[path]["label"]] or with_paths
    if len(likely) > 1:
        raise RequestError(
            f"{printable(root)}: {listed(path.name for path in likely)} could all hold the labels; "
            "give one of them to --data"
        )
    return likely[0] if likely else None


def is_table(path: Path) -> bool:
    """Whether a path is called like a table, and is no folder."""
    hidden = path.name.startswith(".")
    other = path.exists() and not path.is_file()  # a folder, or a pipe that nobody fills
    return path.suffix.lower() in _SUFFIXES and not hidden and not other


def from_table(
    path: Path, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Opens the images that the rows of a CSV name, each with its label.

    Columns are found by their names: the image's path, its label, and perhaps its split, and its
    group, which no split tears apart. Paths start at the table's folder or at `images/` in it, and
    may lack the suffix. Without a column of splits, images are split 70 / 15 / 15.

    Args:
        path: the table, with commas, semicolons or tabs between fields.
        image_shape: height, width and channels to which images are resized; None chooses them as
            for a folder of classes.
        options: how they are read.

    Raises:
        RequestError: columns, labels or paths that do not fit, or too many unreadable files.
    """
    root = path.parent if path.parent.name else path.absolute().parent
    check_channels(root, image_shape)
    notes: list[str] = []
    rows = _rows(path)
    find = _finder(path, root)
    named: dict[Path, _Row] = {}
    for row in rows:
        file = find(row)
        _check_same(path, named.setdefault(file, row), row)
    if again := len(rows) - len(named):
        notes.append(f"{again:,} rows repeat an image with its label; it counts once")
    classes, labels = _classes(path, named)
    splits = _splits(path, root, named, labels, notes)
    _check_trained(path, splits, classes)
    unreadable: dict[str, str] = {}
    facts = look_at(root, list(named), notes, strict=options.strict, unreadable=unreadable)
    called = {file: classes[label] for file, label in labels.items()}
    data = with_labels(
        root, classes, splits, facts, called, unreadable, image_shape, options, notes
    )
    return dataclasses.replace(data, name=printable(path.stem), source=str(path.resolve()))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of its line; first, the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            mark = max(_MARKS, key=lambda mark: len(next(csv.reader([header], delimiter=mark))))
            file.seek(0)
            reader = csv.reader(file, delimiter=mark, strict=True)
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        raise RequestError(f"{printable(path)}: not UTF-8; save the table as UTF-8") from error
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{printable(path)}: not a table: {reason}") from error
    found = [(line, row) for line, row in found if any(row)]
    if not found:
        raise RequestError(f"{printable(path)}: empty; the first row names the columns")
    return found


def _places(header: Sequence[str]) -> dict[str, list[int]]:
    """The columns that could be the path, the label, the split and the group."""
    names = [re.sub(r"[\s-]+", "_", name.lower()) for name in header]
    found = {
        kind: [place for place, name in enumerate(names) if name in known]
        for kind, known in _COLUMNS.items()
    }
    if not found["path"]:
        found["path"] = [place for place, name in enumerate(names) if name in _IDS]
    return found


def _rows(path: Path) -> list[_Row]:
    (_, header), *lines = _lines(path)
    found = _places(header)
    there = f"the columns are {listed(header)}"
    for kind, places in found.items():
        if len(places) > 1:
            raise RequestError(
                f"{printable(path)}: {listed(header[place] for place in places)} could each be the "
                f"{kind}; rename or delete all but one ({there})"
            )
    if not found["path"]:
        raise RequestError(
            f"{printable(path)}: no column is called {', '.join(_COLUMNS['path'][:3])} or "
            f"{_COLUMNS['path'][6]}, which names the images; {there}"
        )
    for line, cells in lines:
        if len(cells) != len(header):
            raise RequestError(
                f"{printable(path)}, line {line}: {len(cells)} fields; the header has {len(header)}"
            )
    if not lines:
        raise RequestError(f"{printable(path)}: no rows below the header")
    if not found["label"]:
        others = set(range(len(header))).difference(*found.values())
        flags = [
            header[place]
            for place in sorted(others)
            if {cells[place] for _, cells in lines} <= {"0", "1", "0.0", "1.0"}
        ]
        if len(flags) > 1:
            raise RequestError(
                f"{printable(path)}: {len(flags)} columns of 0 and 1 ({_few(flags)}) give an image "
                "several labels; one label per image is needed today, in a column called label"
            )
        raise RequestError(
            f"{printable(path)}: no column is called {', '.join(_COLUMNS['label'][:-1])} or "
            f"{_COLUMNS['label'][-1]}; {there}"
        )
    (image,), (label,) = found["path"], found["label"]
    split, group = (found[kind][0] if found[kind] else None for kind in ("split", "group"))
    rows = [
        _Row(
            line,
            cells[image],
            cells[label],
            None if split is None else cells[split],
            "" if group is None else cells[group],
        )
        for line, cells in lines
    ]
    for what in ("path", "label"):
        if missing := [row.line for row in rows if not getattr(row, what)]:
            raise RequestError(
                f"{printable(path)}: {len(missing):,} rows have no {what} (lines {_few(missing)})"
            )
    return rows


def _finder(table: Path, root: Path) -> Callable[[_Row], Path]:
    """Finds the file that a row names."""
    real = os.path.realpath(root)
    bases = [root, *(child for child in folders_in(root) if child.name.lower() in _FOLDERS)]

    @functools.cache
    def images_in(folder: str) -> dict[str, list[str]]:
        """The images in a folder, by their names without the suffix."""
        found: dict[str, list[str]] = {}
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                found.setdefault(stem, []).append(name)
        return found

    real_folder = functools.cache(os.path.realpath)

    def refusal(row: _Row, why: str) -> RequestError:
        return RequestError(f"{printable(table)}, line {row.line}: {row.path}: {why}")

    def inner(row: _Row) -> str:
        """The path from the root, or from the folder of images in it."""
        text = row.path if "/" in row.path else row.path.replace("\\", "/")
        if "\0" in text or max(len(os.fsencode(part)) for part in text.split("/")) > _LONGEST:
            raise refusal(row, "no file can be called so")
        if os.path.isabs(text):
            below = [
                start for start in (os.path.abspath(root), real) if text.startswith(start + os.sep)
            ]
            if not below:
                raise refusal(row, f"lies outside of {printable(root)}; paths start there")
            text = os.path.relpath(text, below[0])
        text = os.path.normpath(text)
        if text in (".", "..") or text.startswith("../"):
            raise refusal(row, f"leaves {printable(root)}, the table's folder")
        return text

    def find(row: _Row) -> Path:
        text = inner(row)
        places = [base / text for base in bases]
        found = [place for place in places if os.path.lexists(place) and not place.is_dir()][:1]
        if not found and places[0].suffix.lower() not in SUFFIXES:
            found = [
                place.with_name(name)
                for place in places
                for name in images_in(str(place.parent)).get(place.name, ())
            ]
        if len(found) > 1:
            names = listed(str(place.relative_to(root)) for place in found)
            raise refusal(row, f"could be {names}; add the suffix")
        file = found[0] if found else places[0]
        folder = real_folder(str(file.parent))
        target = os.path.realpath(file) if file.is_symlink() else os.path.join(folder, file.name)
        if not target.startswith(real + os.sep):
            raise refusal(row, f"a link to {printable(target)}, outside of the table's folder")
        return file

    return find


def _check_same(table: Path, first: _Row, again: _Row) -> None:
    """Checks that two rows say the same of an image."""
    for what in ("label", "split", "group"):
        one, other = getattr(first, what), getattr(again, what)
        if one != other:
            raise RequestError(
                f"{printable(table)}, lines {first.line} and {again.line}: {again.path} has the "
                f"{what} {one!r} and {other!r}; one {what} per image is needed"
            )


def _classes(table: Path, named: Mapping[Path, _Row]) -> tuple[list[str], dict[Path, int]]:
    """The names of the classes, and the class of each file."""
    rows = named.values()
    for row in rows:
        if re.search(r"[^\s;|]\s*[;|]\s*[^\s;|]", row.label):
            raise RequestError(
                f"{printable(table)}, line {row.line}: {row.label!r} looks like several labels; "
                "one label per image is needed today"
            )
    words = {row.label for row in rows}
    values: dict[str, str | int] = {word: word for word in words}
    if all(_NUMBER.fullmatch(word) for word in words):
        real = sorted((word for word in words if not _is_whole(word)), key=float)
        if real:
            raise RequestError(
                f"{printable(table)}: {len(real):,} labels are real numbers ({_few(real)}); one "
                "label per image is needed today, a word or a whole number"
            )
        values = {
            word: int(word) if word.lstrip("+-").isdecimal() else int(float(word)) for word in words
        }
    order = sorted(set(values.values()), key=lambda value: (isinstance(value, str), value))
    if len(order) > _MANY and len(order) > len(named) / 2:
        raise RequestError(
            f"{printable(table)}: {len(order):,} different labels ({_few(order)}) for "
            f"{len(named):,} images; labels are classes"
        )
    number = {value: place for place, value in enumerate(order)}
    return list(map(str, order)), {file: number[values[row.label]] for file, row in named.items()}


def _is_whole(word: str) -> bool:
    return math.isfinite(float(word)) and float(word).is_integer()


def _splits(
    table: Path,
    root: Path,
    named: Mapping[Path, _Row],
    labels: Mapping[Path, int],
    notes: list[str],
) -> dict[str, list[File]]:
    """The files of each split; of `all` if the table has no splits."""
    splits: dict[str, list[File]] = {}
    for file, row in sorted(named.items()):
        split = "all" if row.split is None else split_of(row.split)
        if split is None:
            raise RequestError(
                f"{printable(table)}, line {row.line}: the split {row.split!r} is not train, val "
                "or test"
            )
        group = (row.group,) if row.group else (str(file.relative_to(root)), "")
        splits.setdefault(split, []).append(File(file, labels[file], group))
    if "all" in splits:
        return splits
    if "train" not in splits:
        raise RequestError(
            f"{printable(table)}: the splits are {', '.join(sorted(splits))}, without train"
        )
    places = Counter(group for files in splits.values() for group in {file.group for file in files})
    if torn := sorted(group[0] for group, count in places.items() if count > 1):
        notes.append(f"{len(torn):,} groups are in several splits, as the table says: {_few(torn)}")
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _check_trained(
    table: Path, splits: Mapping[str, Sequence[File]], classes: Sequence[str]
) -> None:
    """Checks that training has every class."""
    trained = {file.label for file in splits.get("train", splits.get("all", ()))}
    others = {file.label for files in splits.values() for file in files} - trained
    if others:
        raise RequestError(
            f"{printable(table)}: classes that train does not have: "
            f"{_few([classes[label] for label in sorted(others)])}"
        )


def _few(values: Iterable[object]) -> str:
    """Some values in a message."""
    every = list(map(str, values))
    return ", ".join(every if len(every) <= _SHOWN else [*every[:_SHOWN], "..."])
