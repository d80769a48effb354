"""Images in arrays, and in an .npz of arrays."""

import dataclasses
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.images import (
    HELD,
    ImageData,
    IndexedReader,
    Places,
    balance_notes,
    sample,
)
from reskeras.data.pixels import is_bytes_or_floats, peak_of, scaled
from reskeras.errors import RequestError
from reskeras.tasks import TASKS, task_of_labels
from reskeras.words import percent

_MOST_CLASSES = 1 << 16
_SPLITS = ("train", "val", "test")
_ALSO = {"valid": "val", "validation": "val"}
"""Other words for a split in the names of arrays."""
_IGNORED = (255, -1)
"""Values that often mark pixels without a class."""


def from_npz(path: Path) -> ImageData:
    """Opens an .npz with x_train, y_train[, x_val, y_val][, x_test, y_test].

    Raises:
        RequestError: no such file, not an .npz, or unsuitable arrays (see `from_arrays`).
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = None
        if not isinstance(loaded, np.ndarray):
            with loaded as file:
                arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(
            f"{path}: not an .npz of plain arrays: "
            f"{'the file is empty' if isinstance(error, EOFError) else error}"
        ) from error
    if arrays is None:
        raise RequestError(f"{path}: not an .npz but a single array (.npy)")
    return dataclasses.replace(
        from_arrays(arrays, name=path.stem, where=str(path)), source=str(path.resolve())
    )


def from_arrays(
    arrays: Mapping[str, Any], *, name: str = "arrays", where: str = "data"
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

    Raises:
        RequestError: one line for every array that is missing or unsuitable.
    """
    arrays, names = _known(arrays, where)
    problems: list[str] = []
    splits = {}
    for split in _SPLITS:
        if f"x_{split}" in arrays:
            x, y = (np.asarray(arrays[f"{axis}_{split}"]) for axis in "xy")
            x = x.astype(np.float32) if x.dtype == bool else x
            splits[split] = (x[..., np.newaxis] if x.ndim == 3 else x, _plain(y, x.ndim))
    shape = splits["train"][0].shape[1:]
    label_rank = splits["train"][1].ndim
    for split, (x, y) in splits.items():
        problems += [f"{where}: {line}" for line in _misfits(split, x, y, shape, label_rank)]
    task = None if problems else task_of_labels(*(array.shape for array in splits["train"]))
    if task is None:
        raise RequestError("\n".join(problems))
    words, notes = _classes({split: y for split, (_, y) in splits.items()}, names, where)
    if "val" not in splits:
        splits = _with_val(splits)
        notes.append(f"no x_val: {percent(HELD)} of the training images are for validation")
    number = {value: label for label, value in enumerate(words)}
    counted = words == list(range(len(words)))
    if not counted:
        lookup = np.array(words)
        splits = {
            split: (x, np.searchsorted(lookup, y).astype(np.int32))
            for split, (x, y) in splits.items()
        }
    absent = set(number.values()) - set(np.unique(splits["train"][1]).tolist())
    if len(number) - len(absent) < 2:
        (only,) = set(number.values()) - absent
        raise RequestError(
            f"{where}: y_train holds only the class {words[only]}; at least two are needed"
        )
    if absent:
        missing = ", ".join(str(words[label]) for label in sorted(absent))
        notes.append(f"the train split has no images of {missing}")
    called = tuple(map(str, names if names is not None else words))
    notes += balance_notes(splits["train"][1], called)
    digest = _digest(splits)
    peak = peak_of(x for x, _ in splits.values())
    if peak is not None:
        notes.append(f"images are not bytes and go beyond 1: {peak:,.0f} becomes white")
    return ImageData(
        name=name,
        task=task,
        image_shape=shape,
        classes=len(words),
        sizes={split: len(x) for split, (x, _) in splits.items()},
        digest=digest,
        reader=_Arrays(splits, peak),
        class_names=() if counted and names is None else called,
        peak=peak,
        notes=tuple(notes),
    )


def _known(arrays: Mapping[str, Any], where: str) -> tuple[dict[str, Any], Any]:
    """The arrays under their usual names, and the names of the classes."""
    known = [f"{axis}_{split}" for split in _SPLITS for axis in "xy"]
    if not arrays:
        raise RequestError(f"{where}: holds no arrays; {', '.join(known[:4])} are needed")
    found, problems, names = {}, [], None
    for key, array in arrays.items():
        axis, _, split = key.lower().partition("_")
        usual = f"{axis}_{_ALSO.get(split, split)}"
        if key == "class_names":
            names = np.asarray(array)
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


def _with_val(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cuts a validation split from train: random images, with its share of each class."""
    x, y = splits["train"]
    count = max(1, round(HELD * len(x)))
    held = np.isin(np.arange(len(x)), sample(len(x), count, y if y.ndim == 1 else None))
    cut = {"train": (x[~held], y[~held]), "val": (x[held], y[held])}
    return cut | {split: pair for split, pair in splits.items() if split not in cut}


def _plain(y: np.ndarray, image_rank: int) -> np.ndarray:
    """Labels [N] or masks [N,H,W] of integers or words, where a common form means them."""
    if y.dtype == bool:
        y = y.astype(np.int32)
    if np.issubdtype(y.dtype, np.floating) and y.size and np.isfinite(y).all():
        whole = np.rint(y)
        y = whole.astype(np.int64) if (whole == y).all() else y
    if y.ndim in (2, image_rank if image_rank == 4 else 4) and y.shape[-1] == 1:
        return y[..., 0]
    if (
        y.ndim in (2, 4)
        and y.shape[-1] > 1
        and np.issubdtype(y.dtype, np.integer)
        and ((y == 0) | (y == 1)).all()
        and (y.sum(axis=-1) == 1).all()
    ):
        return np.asarray(y.argmax(axis=-1))
    return y


def _classes(
    labels: Mapping[str, np.ndarray], names: Any, where: str
) -> tuple[list[Any], list[str]]:
    """The values of labels in order, a class each, and notes."""
    values = np.unique(np.concatenate([np.unique(y) for y in labels.values()]))
    words = values.tolist()
    masks = labels["train"].ndim > 1
    count = len(labels["train"])
    if len(words) > _MOST_CLASSES or (not masks and count > 20 and len(words) > count / 2):
        raise RequestError(
            f"{where}: y_train holds {len(words):,} different labels for {count:,} images; labels "
            "are classes"
        )
    if masks and len(words) > 2:
        for ignored in _IGNORED:
            rest = [value for value in words if value != ignored]
            if ignored in words and rest == list(range(len(rest))) and ignored != len(rest):
                raise RequestError(
                    f"{where}: masks hold {ignored} beside 0 to {rest[-1]}; if it marks pixels "
                    f"without a class, give these a class of their own, {len(rest)}"
                )
    if names is not None and len(names) >= len(words) and words == list(range(len(words))):
        return list(range(len(names))), []
    if names is not None:
        raise RequestError(f"{where}: class_names has {len(names)} names; labels are {_few(words)}")
    whole = isinstance(words[0], int)
    # A label that no image has is a class all the same, if labels count from 0.
    if whole and words[0] >= 0 and len(words) > (words[-1] + 1) / 2 and 0 in words:
        return list(range(words[-1] + 1)), []
    notes = [f"labels are {_few(words)}; they become classes in this order"] if whole else []
    return words, notes


def _few(words: list[Any]) -> str:
    shown = [*words[:4], "...", words[-1]] if len(words) > 6 else words
    return ", ".join(map(str, shown))


def _misfits(
    split: str, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], label_rank: int
) -> list[str]:
    lines = []
    if x.ndim == 0 or y.ndim == 0:
        return [
            f"x_{split} and y_{split} are single numbers; images are [N,H,W] or [N,H,W,C], "
            "labels [N]"
        ]
    if len(x) == 0:
        return [f"x_{split} holds no images"]
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
    elif not np.isfinite(x).all():
        lines.append(f"x_{split} holds values that are not finite")
    if not np.issubdtype(y.dtype, np.integer) and y.dtype.kind not in "US":
        lines.append(f"y_{split} is {y.dtype}, and not whole numbers; labels are integers or words")
    fitting = {
        (len(x), *task.label_shape(x.shape[1:])): task.labels for task in TASKS if x.ndim == 4
    }
    if y.ndim != label_rank or y.shape not in fitting:
        listed = " or ".join(f"{shape} ({labels})" for shape, labels in fitting.items())
        lines.append(f"y_{split} has shape {y.shape}; for {len(x)} images it is {listed}")
    return lines


def _digest(splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for split, arrays in splits.items():
        digest.update(split.encode())
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


class _Arrays(IndexedReader):
    """Reads arrays in memory."""

    _BLOCK = 256
    """Images that are copied at once."""

    def __init__(
        self, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], peak: float | None
    ) -> None:
        self._splits = {split: (x, y.astype(np.int32)) for split, (x, y) in splits.items()}
        self._peak = peak

    def size(self, split: str) -> int:
        return len(self._splits[split][1])

    def stored(self, split: str) -> Any:
        import tensorflow as tf

        return self._scaled(tf.data.Dataset.from_tensor_slices(self._splits[split]))

    def at(self, split: str, places: Places) -> Any:
        import tensorflow as tf

        x, y = self._splits[split]

        def block(chosen: Any) -> Any:
            images, labels = tf.numpy_function(
                lambda chosen: (x[chosen], y[chosen]), [chosen], [x.dtype, y.dtype]
            )
            return (
                tf.ensure_shape(images, [None, *x.shape[1:]]),
                tf.ensure_shape(labels, [None, *y.shape[1:]]),
            )

        blocks = tf.data.Dataset.from_tensor_slices(places).batch(self._BLOCK).map(block)
        return self._scaled(blocks.unbatch())

    def _scaled(self, dataset: Any) -> Any:
        if self._peak is None:
            return dataset
        return dataset.map(lambda image, label: (scaled(image, self._peak), label))

    def classes_of(self, split: str) -> Any:
        labels = self._splits[split][1]
        return labels if labels.ndim == 1 else None
