"""Images in arrays, and in an .npz of arrays."""

import dataclasses
import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.images import (
    HELD,
    ImageData,
    Places,
    RowReader,
    balance_notes,
    sample,
)
from reskeras.data.labels import (
    classes_of,
    ignored_note,
    no_ignored_note,
    numbered,
    plain,
    without_a_class,
)
from reskeras.data.options import NO_OPTIONS, DataOptions, Fold
from reskeras.data.pixels import is_bytes_or_floats, range_of, scaled
from reskeras.errors import RequestError
from reskeras.tasks import IGNORED, TASKS, task_of_labels
from reskeras.words import percent, printable

_SPLITS = ("train", "val", "test")
_ALSO = {"valid": "val", "validation": "val"}
"""Other words for a split in the names of arrays."""
_FOLD_SEED = 19_740_101
"""Fixes which images make a fold."""
UNREADABLE = (
    OSError,
    MemoryError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise for a file that is not an .npz, damaged or encrypted."""


def from_npz(path: Path, options: DataOptions = NO_OPTIONS) -> ImageData:
    """Opens an .npz with x_train, y_train[, x_val, y_val][, x_test, y_test].

    Args:
        path: the file.
        options: how they are read.

    Raises:
        RequestError: no such file, not an .npz, or unsuitable arrays (see `from_arrays`).
    """
    if path.exists() and not path.is_file():
        raise RequestError(f"{path}: not a regular file")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = None
        if not isinstance(loaded, np.ndarray):
            with loaded as file:
                arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except UNREADABLE as error:
        reason = "the file is empty" if isinstance(error, EOFError) else str(error)
        if reason.startswith("Object arrays"):
            reason = (
                "it holds pickled Python objects (dtype=object), which run code when they are "
                "loaded; save arrays of numbers, all images of one size"
            )
        raise RequestError(f"{path}: not an .npz of plain arrays: {reason}") from error
    if arrays is None:
        raise RequestError(f"{path}: not an .npz but a single array (.npy)")
    return dataclasses.replace(
        from_arrays(arrays, name=path.stem, where=str(path), options=options),
        source=str(path.resolve()),
    )


def from_arrays(
    arrays: Mapping[str, Any],
    *,
    name: str = "arrays",
    where: str = "data",
    options: DataOptions = NO_OPTIONS,
) -> ImageData:
    """Image data from named arrays: x_train, y_train[, x_val, y_val][, x_test, y_test].

    Bytes are scaled to 0..1. Floats are used as they are, unless they are not negative and go
    beyond 2: these are divided by the white of their range (255, 1023, 4095, 16383 or 65535), like
    integers. The notes say so.

    Args:
        arrays: images [N,H,W] or [N,H,W,C]; labels [N], [N,1] or one-hot [N,K], of integers or
            words; or masks [N,H,W], [N,H,W,1] or one-hot [N,H,W,K]. Labels that do not count from 0
            without gaps become classes in their order. `class_names` may name the classes.
        name: name of the data in reports.
        where: start of each line of an error.
        options: how they are read.

    Raises:
        RequestError: one line for every array that is missing or unsuitable.
    """
    ignore = options.ignore
    arrays, names = _known(arrays, where)
    splits, width = {}, 0
    for split in _SPLITS:
        if f"x_{split}" in arrays:
            x, y = (_array(arrays[f"{axis}_{split}"], f"{axis}_{split}", where) for axis in "xy")
            y, room = plain(y, x.ndim)
            splits[split], width = (_pixels(x), y), max(width, room)
    shape = splits["train"][0].shape[1:]
    label_rank = splits["train"][1].ndim
    problems = [
        f"{where}: {line}"
        for split, (x, y) in splits.items()
        for line in _misfits(split, x, y, shape, label_rank)
    ]
    task = None if problems else task_of_labels(*(array.shape for array in splits["train"]))
    if task is None:
        raise RequestError("\n".join(problems))
    splits, ignored = _without_unknown(splits, ignore, where)
    labels = {split: y for split, (_, y) in splits.items()}
    found = classes_of(labels, names, width, where, ignore)
    values, notes = found.values, [*ignored, *found.notes]
    ignores = label_rank > 1 and bool(ignored)
    if ignore is not None and not ignored:
        notes.append(no_ignored_note(ignore))
    if values != list(range(len(values))) or ignores:
        splits = {
            split: (x, numbered(y, values, ignore if ignores else None))
            for split, (x, y) in splits.items()
        }
    called = found.names or tuple(map(str, values))
    trained = [label for label in np.unique(splits["train"][1]).tolist() if label != IGNORED]
    if len(trained) < 2:
        raise RequestError(
            f"{where}: y_train holds only the class {called[trained[0]]}; at least two are needed"
        )
    if options.fold is not None:
        splits = _in_fold(splits, options.fold, where)
        trained = [label for label in np.unique(splits["train"][1]).tolist() if label != IGNORED]
    elif "val" not in splits:
        splits = _with_val(splits, where)
        notes.append(f"no x_val: {percent(HELD)} of the training images are for validation")
    if len(trained) < len(called):
        missing = ", ".join(name for label, name in enumerate(called) if label not in trained)
        notes.append(f"the train split has no images of {missing}")
    notes += balance_notes(splits["train"][1], called)
    digest = _digest(splits, found.names)
    peak = range_of({split: x for split, (x, _) in splits.items()}, where, notes)
    return ImageData(
        name=name,
        task=task,
        image_shape=shape,
        classes=len(values),
        sizes={split: len(x) for split, (x, _) in splits.items()},
        digest=digest,
        reader=_Arrays(splits, peak),
        class_names=found.names,
        peak=peak,
        pixels="bytes" if splits["train"][0].dtype == np.uint8 else "floats",
        notes=tuple(notes),
        resize=options.resize or "stretch",
        options=options,
        ignores=ignores,
    )


def _without_unknown(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]], ignore: int | None, where: str
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
    """The splits without images that have no class, and a note on what is ignored, if it is there.

    Raises:
        RequestError: nothing is left of a split.
    """
    unknown = {split: without_a_class(y, ignore) for split, (_, y) in splits.items()}
    if not any(lost.any() for lost in unknown.values()):
        return dict(splits), []
    for split, lost in unknown.items():
        if (~lost).sum() < (2 if split == "train" else 1):
            raise RequestError(f"{where}: y_{split} holds hardly anything but {ignore}, --ignore")
    if splits["train"][1].ndim > 1:
        return dict(splits), [ignored_note(unknown["train"].mean(), ignore)]
    count, total = (sum(int(f(lost)) for lost in unknown.values()) for f in (np.sum, np.size))
    kept = {split: (x[~unknown[split]], y[~unknown[split]]) for split, (x, y) in splits.items()}
    return kept, [f"left out {count:,} of {total:,} images, whose label is {ignore}"]


def _known(arrays: Mapping[str, Any], where: str) -> tuple[dict[str, Any], Any]:
    """The arrays under their usual names, and the names of the classes."""
    known = [f"{axis}_{split}" for split in _SPLITS for axis in "xy"]
    if not arrays:
        raise RequestError(f"{where}: holds no arrays; {', '.join(known[:4])} are needed")
    found, problems, names = {}, [], None
    for key, array in arrays.items():
        axis, _, split = str(key).lower().partition("_")
        usual = f"{axis}_{_ALSO.get(split, split)}"
        if key == "class_names":
            names = None if array is None else [printable(str(n)) for n in np.ravel(array)]
        elif usual not in known:
            problems.append(f"{where}: unknown array {key!r}; known: {', '.join(known)}")
        elif usual in found:
            problems.append(f"{where}: {key!r} is there twice, as {usual!r} too")
        else:
            found[usual] = array
    problems = [f"{where}: {key} is missing" for key in known[:2] if key not in found] + problems
    for split in _SPLITS[1:]:
        if len({f"x_{split}", f"y_{split}"} & set(found)) == 1:
            problems.append(f"{where}: x_{split} and y_{split} go together")
    if problems:
        raise RequestError("\n".join(problems))
    return found, names


def _array(given: Any, key: str, where: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of different lengths
        raise RequestError(f"{where}: {key} is no array: {error}") from error


def _pixels(x: np.ndarray) -> np.ndarray:
    """Images [N,H,W,C] in a type that TensorFlow has, and in this machine's byte order."""
    if x.dtype == bool or (x.dtype.kind == "f" and x.dtype.itemsize > 8):
        x = x.astype(np.float32)
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    return x[..., np.newaxis] if x.ndim == 3 else x


def _with_val(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]], where: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cuts a validation split from train: random images, with its share of each class.

    The only image of a class stays in training.
    """
    x, y = splits["train"]
    places = np.arange(len(x))
    if y.ndim == 1:
        places = places[np.bincount(y)[y] > 1]
    if not len(places) or len(x) < 3:
        raise RequestError(
            f"{where}: too few images to cut a validation split from; give x_val and y_val"
        )
    count = max(1, round(HELD * len(places)))
    chosen = places[sample(len(places), count, y[places] if y.ndim == 1 else None)]
    held = np.isin(np.arange(len(x)), chosen)
    cut = {"train": (x[~held], y[~held]), "val": (x[held], y[held])}
    return cut | {split: pair for split, pair in splits.items() if split not in cut}


def _in_fold(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]], fold: Fold, where: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The images of a fold as `val`, and the others of train and val as `train`.

    Each class is dealt to the folds in turn, in a random order that is always the same. The only
    image of a class is always in training.
    """
    both = [splits[split] for split in ("train", "val") if split in splits]
    if len({x.dtype for x, _ in both}) > 1:
        raise RequestError(
            f"{where}: --fold {fold}: x_train is {both[0][0].dtype} and x_val {both[1][0].dtype}; "
            "images that are dealt into folds have one type"
        )
    x, y = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
    if len(x) < fold.count:
        raise RequestError(f"{where}: --fold {fold}: {len(x):,} images cannot make so many folds")
    order = np.random.default_rng(_FOLD_SEED).permutation(len(x))
    alone = np.zeros(len(x), bool)
    if y.ndim == 1:
        order = order[np.argsort(y[order], kind="stable")]
        alone = np.bincount(y)[y] == 1
    held = np.zeros(len(x), bool)
    held[order[fold.index - 1 :: fold.count]] = True
    held &= ~alone
    if not held.any():
        raise RequestError(
            f"{where}: --fold {fold}: no images to validate on, as each is the only one of its "
            "class; take fewer folds"
        )
    cut = {"train": (x[~held], y[~held]), "val": (x[held], y[held])}
    return cut | {split: pair for split, pair in splits.items() if split not in cut}


def _misfits(
    split: str, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], label_rank: int
) -> list[str]:
    lines = []
    if x.ndim == 0 or y.ndim == 0:
        return [
            f"x_{split} and y_{split} are single numbers; images are [N,H,W] or [N,H,W,C], "
            "labels [N]"
        ]
    if len(x) < (2 if split == "train" else 1):
        return [f"x_{split} holds {'one image' if len(x) else 'no images'}"]
    if x.ndim == 4 and 0 in x.shape[1:]:
        lines.append(f"x_{split} has shape {x.shape}: images without pixels")
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and x.shape[3] not in (1, 2, 3, 4):
        lines.append(
            f"x_{split} has shape {x.shape}, which looks like channels first; images are "
            "[N,H,W,C], as np.moveaxis(x, 1, -1) makes them"
        )
    if x.ndim != 4 or x.shape[1:] != shape:
        lines.append(
            f"x_{split} has shape {x.shape}; images are [N,H,W] or [N,H,W,C], of one size in "
            "all splits"
        )
    if not is_bytes_or_floats(x) and not np.issubdtype(x.dtype, np.integer):
        lines.append(f"x_{split} is {x.dtype}; images are uint8, other integers, or floats")
    elif not np.isfinite(x.astype(np.float32, copy=False)).all():
        lines.append(f"x_{split} holds values that are not finite, or beyond float32")
    if not np.issubdtype(y.dtype, np.integer) and y.dtype.kind not in "US":
        lines.append(f"y_{split} is {y.dtype}, and not whole numbers; labels are integers or words")
    if x.ndim != 4:
        return lines
    fitting = {(len(x), *task.label_shape(x.shape[1:])): task.labels for task in TASKS}
    if y.ndim != label_rank or y.shape not in fitting:
        listed = " or ".join(f"{shape} ({labels})" for shape, labels in fitting.items())
        lines.append(f"y_{split} has shape {y.shape}; for {len(x)} images it is {listed}")
    return lines


def _digest(splits: Mapping[str, tuple[np.ndarray, np.ndarray]], names: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape"))
    for split, arrays in splits.items():
        digest.update(split.encode())
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


class _Arrays(RowReader):
    """Reads arrays in memory."""

    def __init__(
        self, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], peak: float | None
    ) -> None:
        self._splits = {split: (x, y.astype(np.int32)) for split, (x, y) in splits.items()}
        self._peak = peak
        x, _ = self._splits["train"]
        self.dtype = np.uint8 if x.dtype == np.uint8 else np.float32

    def size(self, split: str) -> int:
        return len(self._splits[split][1])

    def rows(self, split: str, places: Places) -> tuple[Any, Any]:
        x, y = self._splits[split]
        images = x[places]
        return images if images.dtype == np.uint8 else scaled(images, self._peak), y[places]

    def classes_of(self, split: str) -> Any:
        labels = self._splits[split][1]
        return labels if labels.ndim == 1 else None
