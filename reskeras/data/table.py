"""Images that a table names, with their labels: a CSV file beside them."""

import csv
import dataclasses
import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.columns import NAMES as LABELS
from reskeras.data.columns import (
    Columns,
    Line,
    classes_of,
    label_columns,
    numbers_of,
    points_of,
    sets_of,
)
from reskeras.data.decode import SUFFIXES, Facts
from reskeras.data.files import (
    File,
    FileReader,
    check_channels,
    folders_in,
    image_data,
    images_below,
    listed,
    look_at,
    split_folders,
    split_of,
)
from reskeras.data.folder import with_labels
from reskeras.data.images import ImageData
from reskeras.data.kinds import learned, points_outside
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.pixels import moved_points
from reskeras.data.splits import complete
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize
from reskeras.tasks import Labels, task_of
from reskeras.words import printable

_SUFFIXES = {".csv", ".tsv"}
_MARKS = ",;\t"
"""What may stand between fields."""
_COLUMNS = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path"),
        *("image", "image_path", "image_name", "image_file", "img", "img_path"),
    ),
    "label": LABELS,
    "split": ("split", "subset"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id", "scene"),
}
"""What columns are called, in any case."""
_IDS = ("id", "image_id")
"""What the column of paths may be called, too, if none is called otherwise."""
_FOLDERS = ("images", "image", "imgs", "img")
"""The folder beside the table that may hold the images."""
_LONGEST = 255
"""Bytes in the name of a file or folder."""
_SHOWN = 5
"""Values that a message lists."""


class _Row(NamedTuple):
    """A row of the table."""

    line: int
    path: str
    cells: tuple[str, ...]
    """Of the columns of labels."""
    split: str | None
    """None: the table has no such column."""
    group: str

    @property
    def label(self) -> str:
        """As a message shows it."""
        return ", ".join(self.cells)


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
    group, which no split tears apart. Labels may also be several columns: 0 and 1 for each class,
    numbers, or x and y of points (see `reskeras.data.columns.label_columns`). Paths start at the
    table's folder or at `images/` in it, and may lack the suffix. Without a column of splits,
    images are split 70 / 15 / 15.

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
    columns, rows = _rows(path, options)
    find = _finder(path, root)
    named: dict[Path, _Row] = {}
    for row in rows:
        file = find(row)
        _check_same(path, named.setdefault(file, row), row)
    if again := len(rows) - len(named):
        notes.append(f"{again:,} rows repeat an image with its label; it counts once")
    read = _of_classes if columns.kind is Labels.CLASS else _of_others
    data = read(path, root, columns, named, image_shape, options, notes)
    return dataclasses.replace(data, name=printable(path.stem), source=str(path.resolve()))


def _of_classes(
    table: Path,
    root: Path,
    columns: Columns,
    named: Mapping[Path, _Row],
    image_shape: ImageShape | None,
    options: DataOptions,
    notes: list[str],
) -> ImageData:
    """Images that have a class each."""
    names, numbers = classes_of(printable(table), columns, _cells(named))
    labels = dict(zip(named, numbers.tolist(), strict=True))
    splits = _splits(table, root, named, labels, notes)
    _check_trained(table, splits, names)
    unreadable: dict[str, str] = {}
    facts = look_at(root, list(named), notes, strict=options.strict, unreadable=unreadable)
    called = {file: names[label] for file, label in labels.items()}
    return with_labels(
        root, list(names), splits, facts, called, unreadable, image_shape, options, notes
    )


def _of_others(
    table: Path,
    root: Path,
    columns: Columns,
    named: Mapping[Path, _Row],
    image_shape: ImageShape | None,
    options: DataOptions,
    notes: list[str],
) -> ImageData:
    """Images that have several classes each, numbers or points."""
    where, kind = printable(table), columns.kind
    names, values = _values(where, columns, named, notes)
    labels = dict(zip(named, values, strict=True))
    unreadable: dict[str, str] = {}
    facts = look_at(root, list(named), notes, strict=options.strict, unreadable=unreadable)
    splits = _splits(table, root, named, dict.fromkeys(named, 0), notes)
    splits = {split: [f for f in files if f.path in facts] for split, files in splits.items()}
    splits = complete(splits, options.fold, root, notes)
    for split, files in splits.items():
        if len(files) < (2 if split == "train" else 1):
            raise RequestError(f"{where}: too few images for the {split} split ({len(files)})")
    if kind is Labels.POINTS:
        notes += _without_points_outside(where, labels, facts)
    trained = np.stack([labels[file.path] for file in splits["train"]])
    known = learned(kind, trained, where, names)
    notes += known.notes

    def read(shape: ImageShape, resize: Resize, peak: float | None) -> FileReader:
        def moved(file: File) -> Any:
            label = labels[file.path]
            if kind is not Labels.POINTS:
                return label
            return moved_points(label, facts[file.path].size, shape[:2], resize)

        found = {split: np.stack([*map(moved, files)]) for split, files in splits.items()}
        return _Rows(splits, found, shape, resize, peak)

    data = image_data(
        root,
        splits,
        facts,
        read,
        task=task_of(kind, options.task),
        names=names,
        contents={
            path: f"{fact.digest} {kind.value} {labels[path].tolist()}"
            for path, fact in facts.items()
        },
        image_shape=image_shape,
        step=8 if kind.follows_image else 1,  # maps are halved a few times
        options=options,
        unreadable=unreadable,
        notes=notes,
    )
    # The digest of files has no names of columns.
    digest = hashlib.sha256("\n".join((data.digest, *names)).encode()).hexdigest()[:16]
    return dataclasses.replace(data, mean=known.mean, spread=known.spread, digest=digest)


def _cells(named: Mapping[Path, _Row]) -> list[tuple[int, tuple[str, ...]]]:
    return [(row.line, row.cells) for row in named.values()]


def _values(
    where: str, columns: Columns, named: Mapping[Path, _Row], notes: list[str]
) -> tuple[tuple[str, ...], Any]:
    """The names of classes, numbers or points, and the labels of all images."""
    cells = _cells(named)
    match columns.kind:
        case Labels.CLASSES:
            names, values = sets_of(where, columns, cells)
            if empty := int((values.sum(axis=-1) == 0).sum()):
                notes.append(f"{empty:,} of {len(values):,} images have none of the classes")
            return names, values
        case Labels.NUMBERS:
            return columns.names, numbers_of(where, columns, cells)
        case _:
            return points_of(where, columns, cells)


def _without_points_outside(
    where: str, labels: dict[Path, Any], facts: Mapping[Path, Facts]
) -> list[str]:
    """Removes points that lie outside their images, and says so.

    Raises:
        RequestError: all points are shares of the image's sides.
    """
    known = np.stack([labels[path] for path in facts])
    if np.nanmax(known, initial=0) <= 1 and not np.isnan(known).all():
        raise RequestError(
            f"{where}: all points are in 0..1; give pixels, from 0 to the side of the image less 1"
        )
    outside = 0
    for path, fact in facts.items():
        out = points_outside(labels[path], fact.size)
        labels[path] = np.where(out[:, np.newaxis], np.float32(np.nan), labels[path])
        outside += int(out.sum())
    return [f"{outside:,} points outside their image are taken as not there"] if outside else []


class _Rows(FileReader):
    """Reads image files, whose labels are known without reading them."""

    def __init__(
        self,
        splits: Mapping[str, Sequence[File]],
        labels: Mapping[str, np.ndarray[Any, Any]],
        image_shape: ImageShape,
        resize: Resize,
        peak: float | None,
    ) -> None:
        super().__init__(splits, image_shape, resize, peak)
        self._labels = dict(labels)

    def classes_of(self, split: str) -> Any:
        return None

    def labels_of(self, split: str) -> Any:
        return self._labels[split]


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


def _rows(path: Path, options: DataOptions) -> tuple[Columns, list[_Row]]:
    """The columns of labels, and all rows."""
    (_, header), *lines = _lines(path)
    found = _places(header)
    there = f"the columns are {listed(header)}"
    for kind, places in found.items():
        if len(places) > 1 and (kind != "label" or options.labels is None):
            differ = len({header[place] for place in places}) == len(places)
            hint = "; or --labels says which" if kind == "label" and differ else ""
            raise RequestError(
                f"{printable(path)}: {listed(header[place] for place in places)} could each be the "
                f"{kind}; rename or delete all but one ({there}){hint}"
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
    columns = label_columns(
        printable(path), header, [Line(*line) for line in lines], found, options
    )
    (image,) = found["path"]
    split, group = (found[kind][0] if found[kind] else None for kind in ("split", "group"))
    rows = [
        _Row(
            line,
            cells[image],
            columns.read(cells),
            None if split is None else cells[split],
            "" if group is None else cells[group],
        )
        for line, cells in lines
    ]
    empty = {"path": [row.line for row in rows if not row.path]}
    if columns.kind in (Labels.CLASS, Labels.NUMBERS):  # others may have none
        empty["label"] = [row.line for row in rows if not all(row.cells)]
    for what, missing in empty.items():
        if missing:
            raise RequestError(
                f"{printable(path)}: {len(missing):,} rows have no {what} (lines {_few(missing)})"
            )
    return columns, rows


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
