"""Images in arrays, and in an .npz of arrays."""

import dataclasses
import hashlib
import math
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
from reskeras.data.kinds import kind_of, learned, prepared
from reskeras.data.labels import (
    classes_of,
    ignored_note,
    no_ignored_note,
    numbered,
    plain,
    untrained_notes,
    without_a_class,
)
from reskeras.data.options import NO_OPTIONS, DataOptions, Fold
from reskeras.data.patches import WholeRows, in_patches, patch_sides
from reskeras.data.pixels import is_bytes_or_floats, is_finite, range_of, scaled
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Pixels
from reskeras.tasks import IGNORED, Labels, task_of
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


def from_npz(
    path: Path,
    options: DataOptions = NO_OPTIONS,
    dimensions: int | None = None,
    image_shape: ImageShape | None = None,
) -> ImageData:
    """Opens an .npz with x_train, y_train[, x_val, y_val][, x_test, y_test].

    Args:
        path: the file.
        options: how they are read.
        dimensions: the number of sides of an image, if a network says it.
        image_shape: the shape of patches of them; see `from_arrays`.

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
        from_arrays(
            arrays,
            name=path.stem,
            where=str(path),
            options=options,
            dimensions=dimensions,
            image_shape=image_shape,
        ),
        source=str(path.resolve()),
    )


def from_arrays(
    arrays: Mapping[str, Any],
    *,
    name: str = "arrays",
    where: str = "data",
    options: DataOptions = NO_OPTIONS,
    dimensions: int | None = None,
    image_shape: ImageShape | None = None,
) -> ImageData:
    """Image data from named arrays: x_train, y_train[, x_val, y_val][, x_test, y_test].

    Bytes are scaled to 0..1. Floats are used as they are, unless they are not negative and go
    beyond 2: these are divided by the white of their range (255, 1023, 4095, 16383 or 65535), like
    integers. The notes say so.

    Args:
        arrays: images [N,H,W] or [N,H,W,C], signals [N,L,C] of up to three channels, or volumes
            [N,D,H,W,C]. With them, for each image: a class, as an integer, a word, or one-hot
            [N,K]; a mask [N,H,W], [N,H,W,1] or one-hot [N,H,W,K]; for each of K classes whether it
            is there [N,K]; numbers [N] or [N,K]; points [N,K,2] of x and y in pixels, or [N,K,3]
            with 0 for those that are not there; or another image [N,H,W,C], whose sides may be
            twice as large, or more. Classes that do not count from 0 without gaps become classes
            in their order. `class_names` may name classes, numbers or points.
        name: name of the data in reports.
        where: start of each line of an error.
        options: how they are read.
        dimensions: the number of sides of an image, if a network says it: 1 for signals.
        image_shape: with `DataOptions.resize` "patch", the shape of patches; None chooses it:
            sides of at most 64 pixels.

    Raises:
        RequestError: one line for every array that is missing or unsuitable.
    """
    arrays, names = _known(arrays, where)
    images, labels = {}, {}
    for split in _SPLITS:
        if f"x_{split}" in arrays:
            x, y = (_array(arrays[f"{axis}_{split}"], f"{axis}_{split}", where) for axis in "xy")
            images[split], labels[split] = _pixels(x, dimensions, where), y
    shape = images["train"].shape[1:]
    problems = [
        f"{where}: {line}"
        for split, x in images.items()
        for line in _image_misfits(split, x, labels[split], shape)
    ]
    if problems:
        raise RequestError("\n".join(problems))
    kind = kind_of(labels["train"], images["train"], options.task, where)
    both = {split: (x, labels[split]) for split, x in images.items()}
    if not kind.has_sides:
        options.check_no_patches(where)
    if kind in (Labels.CLASS, Labels.MASK):
        return _cut(_of_classes(both, kind, names, name, where, options), image_shape)
    if options.ignore is not None:
        raise RequestError(f"{where}: --ignore {options.ignore} is for labels that are classes")
    return _cut(_of_others(both, kind, tuple(names or ()), name, where, options), image_shape)


def _cut(data: ImageData, shape: ImageShape | None) -> ImageData:
    """The same data, as patches if they are to be."""
    if data.options.resize != "patch":
        return data
    assert isinstance(data.reader, RowReader)
    whole = WholeRows(data.reader, data.sizes)
    sides = patch_sides([data.image_shape[:-1]], shape and shape[:-1])
    return in_patches(dataclasses.replace(data, image_shape=(*sides, data.image_shape[-1])), whole)


def _of_others(
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    kind: Labels,
    names: tuple[str, ...],
    name: str,
    where: str,
    options: DataOptions,
) -> ImageData:
    """Data whose labels are no classes."""
    pixels: Pixels = "bytes" if splits["train"][0].dtype == np.uint8 else "floats"
    found = prepared(kind, splits, names, where)
    splits, notes = found.splits, list(found.notes)
    if options.fold is not None:
        splits = _in_fold(splits, options.fold, where)
    elif "val" not in splits:
        splits = _with_val(splits, where)
        notes.append(f"no x_val: {percent(HELD)} of the training images are for validation")
    x, trained = splits["train"]
    known = learned(kind, trained, where, names)
    notes += known.notes
    peak = found.peak
    if kind is not Labels.IMAGE:
        peak = range_of({split: x for split, (x, _) in splits.items()}, where, notes)
    return ImageData(
        name=name,
        task=task_of(kind, options.task),
        image_shape=x.shape[1:],
        classes=found.count,
        sizes={split: len(x) for split, (x, _) in splits.items()},
        digest=_digest(splits, names),
        reader=_Arrays(splits, None if kind is Labels.IMAGE else peak, kind),
        class_names=names,
        peak=peak,
        pixels=pixels,
        notes=tuple(notes),
        resize=options.resize or "stretch",
        options=options,
        mean=known.mean,
        spread=known.spread,
        enlarge=found.enlarge,
    )


def _of_classes(
    given: Mapping[str, tuple[np.ndarray, np.ndarray]],
    kind: Labels,
    names: Any,
    name: str,
    where: str,
    options: DataOptions,
) -> ImageData:
    """Data whose labels are class numbers or words, of images or of pixels."""
    ignore = options.ignore
    splits, width = {}, 0
    for split, (x, y) in given.items():
        classes, room = plain(y, x.ndim)
        splits[split], width = (x, classes), max(width, room)
    shape = splits["train"][0].shape[1:]
    problems = [
        f"{where}: {line}"
        for split, (x, y) in splits.items()
        for line in _label_misfits(split, x, y, kind)
    ]
    if problems:
        raise RequestError("\n".join(problems))
    splits, ignored = _without_unknown(splits, ignore, where)
    labels = {split: y for split, (_, y) in splits.items()}
    found = classes_of(labels, names, width, where, ignore)
    values, notes = found.values, [*ignored, *found.notes]
    ignores = kind is Labels.MASK and bool(ignored)
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
    elif "val" not in splits:
        splits = _with_val(splits, where)
        notes.append(f"no x_val: {percent(HELD)} of the training images are for validation")
    notes += untrained_notes(called, np.unique(splits["train"][1]).tolist())
    notes += balance_notes(splits["train"][1], called)
    digest = _digest(splits, found.names)
    peak = range_of({split: x for split, (x, _) in splits.items()}, where, notes)
    return ImageData(
        name=name,
        task=task_of(kind, options.task),
        image_shape=shape,
        classes=len(values),
        sizes={split: len(x) for split, (x, _) in splits.items()},
        digest=digest,
        reader=_Arrays(splits, peak, kind),
        class_names=found.names,
        peak=peak,
        pixels="bytes" if splits["train"][0].dtype == np.uint8 else "floats",
        notes=tuple(notes),
        resize=options.resize or "stretch",
        options=options,
        values=tuple(values) if kind is Labels.MASK else (),
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


_SIGNAL_CHANNELS = 3
"""An array [N,H,W] whose last side is not larger holds signals: no image is so narrow."""


def _pixels(x: np.ndarray, dimensions: int | None, where: str) -> np.ndarray:
    """Images [N,*sides,C] in a type that TensorFlow has, and in this machine's byte order.

    Raises:
        RequestError: rows of numbers could be signals or images.
    """
    if x.dtype == bool or (x.dtype.kind == "f" and x.dtype.itemsize > 8):
        x = x.astype(np.float32)
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if dimensions is None and x.ndim == 2:
        length = x.shape[1]
        if any(length % c == 0 and math.isqrt(length // c) ** 2 == length // c for c in (1, 3)):
            raise RequestError(
                f"{where}: arrays of shape {x.shape} could be flat images or signals; give images "
                f"as [N,H,W,C], or signals as [N,{length},1]"
            )
        return x[..., np.newaxis]
    if dimensions is None:
        signals = x.ndim == 3 and 0 < x.shape[2] <= _SIGNAL_CHANNELS < x.shape[1]
        return x[..., np.newaxis] if x.ndim == 3 and not signals else x
    return x[..., np.newaxis] if x.ndim == dimensions + 1 else x


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


def _image_misfits(split: str, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]) -> list[str]:
    if x.ndim == 0 or y.ndim == 0:
        return [
            f"x_{split} and y_{split} are single numbers; images are [N,H,W] or [N,H,W,C], "
            "labels [N]"
        ]
    if len(x) < (2 if split == "train" else 1):
        return [f"x_{split} holds {'one image' if len(x) else 'no images'}"]
    lines = []
    if x.ndim in (3, 4, 5) and 0 in x.shape[1:]:
        lines.append(f"x_{split} has shape {x.shape}: images without pixels")
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and x.shape[3] not in (1, 2, 3, 4):
        lines.append(
            f"x_{split} has shape {x.shape}, which looks like channels first; images are "
            "[N,H,W,C], as np.moveaxis(x, 1, -1) makes them"
        )
    if x.ndim not in (3, 4, 5) or x.shape[1:] != shape:
        lines.append(
            f"x_{split} has shape {x.shape}; images are [N,H,W] or [N,H,W,C], of one size in "
            "all splits"
        )
    if not is_bytes_or_floats(x) and not np.issubdtype(x.dtype, np.integer):
        lines.append(f"x_{split} is {x.dtype}; images are uint8, other integers, or floats")
    elif not is_finite(x):
        lines.append(f"x_{split} holds values that are not finite, or beyond float32")
    return lines


def _label_misfits(split: str, x: np.ndarray, y: np.ndarray, kind: Labels) -> list[str]:
    lines = []
    if kind is Labels.MASK and y.dtype.kind in "US":
        lines.append(f"y_{split} holds words; masks hold whole numbers")
    elif not np.issubdtype(y.dtype, np.integer) and y.dtype.kind not in "US":
        hint = ""
        if kind is Labels.CLASS and y.dtype.kind == "f":
            hint = "; --task numbers (from Python, task='numbers') predicts numbers"
        lines.append(
            f"y_{split} is {y.dtype}, and not whole numbers up to 2^53; labels are integers or "
            f"words{hint}"
        )
    if y.shape != (len(x), *kind.shape(x.shape[1:], 0)):
        one, masks = ((len(x), *found.shape(x.shape[1:], 0)) for found in _KINDS)
        lines.append(
            f"y_{split} has shape {y.shape}; for {len(x)} images it is {one} (labels) or {masks} "
            "(masks)"
        )
    return lines


_KINDS = (Labels.CLASS, Labels.MASK)


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
        self,
        splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        peak: float | None,
        kind: Labels,
    ) -> None:
        keep = kind is Labels.IMAGE  # bytes stay bytes
        self._splits = {
            split: (x, y if keep else y.astype(kind.dtype)) for split, (x, y) in splits.items()
        }
        self._kind = kind
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
        return labels if self._kind is Labels.CLASS else None

    def labels_of(self, split: str) -> Any:
        return None if self._kind.has_sides else self._splits[split][1]
