"""Images in arrays, and in an .npz of arrays."""

import dataclasses
import functools
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.images import ImageData
from reskeras.data.pixels import is_bytes_or_floats, scaled
from reskeras.errors import RequestError
from reskeras.tasks import TASKS, task_of_labels

_MOST_CLASSES = 1 << 16


def from_npz(path: Path) -> ImageData:
    """Opens an .npz with x_train, y_train, x_val, y_val and, for a test split, x_test and y_test.

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
    """Image data from named arrays: x_train, y_train, x_val, y_val[, x_test, y_test].

    Args:
        arrays: images [N,H,W] or [N,H,W,C], bytes (scaled to 0..1) or floats (used as they are);
            integer labels [N] or masks [N,H,W], counted from 0.
        name: name of the data in reports.
        where: start of each line of an error.

    Raises:
        RequestError: one line for every array that is missing or unsuitable.
    """
    problems: list[str] = []
    known = [f"{axis}_{split}" for split in ("train", "val", "test") for axis in "xy"]
    if not arrays:
        raise RequestError(f"{where}: holds no arrays; {', '.join(known[:4])} are needed")
    problems += [f"{where}: {key} is missing" for key in known[:4] if key not in arrays]
    problems += [
        f"{where}: unknown array {key!r}; known: {', '.join(known)}"
        for key in arrays
        if key not in known
    ]
    if len({"x_test", "y_test"} & set(arrays)) == 1:
        problems.append(f"{where}: x_test and y_test go together")
    if problems:
        raise RequestError("\n".join(problems))
    splits = {
        split: (_images(np.asarray(arrays[f"x_{split}"])), np.asarray(arrays[f"y_{split}"]))
        for split in ("train", "val", "test")
        if f"x_{split}" in arrays
    }
    shape = splits["train"][0].shape[1:]
    label_rank = splits["train"][1].ndim
    for split, (x, y) in splits.items():
        problems += [f"{where}: {line}" for line in _misfits(split, x, y, shape, label_rank)]
    task = None if problems else task_of_labels(*(array.shape for array in splits["train"]))
    if task is None:
        raise RequestError("\n".join(problems))
    classes = 1 + max(int(y.max()) for _, y in splits.values())
    found = np.unique(splits["train"][1])
    if len(found) < 2:
        raise RequestError(
            f"{where}: y_train holds only the class {found[0]}; at least two are needed"
        )
    if len(found) < classes / 2:
        raise RequestError(
            f"{where}: y_train holds {len(found)} labels, but they go up to {classes - 1}; "
            "number them from 0 without gaps"
        )
    return ImageData(
        name=name,
        task=task,
        image_shape=shape,
        classes=classes,
        sizes={split: len(x) for split, (x, _) in splits.items()},
        digest=_digest(splits),
        open_split=functools.partial(_open, splits),
    )


def _images(x: np.ndarray) -> np.ndarray:
    return x[..., np.newaxis] if x.ndim == 3 else x


def _misfits(
    split: str, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], label_rank: int
) -> list[str]:
    lines = []
    if x.ndim == 0 or y.ndim == 0:
        return [
            f"x_{split} and y_{split} are single numbers; images are [N,H,W] or [N,H,W,C], "
            "labels [N]"
        ]
    if x.ndim == 4 and 0 in x.shape[1:]:
        lines.append(f"x_{split} has shape {x.shape}: images without pixels")
    if x.ndim != 4 or x.shape[1:] != shape:
        lines.append(
            f"x_{split} has shape {x.shape}; images are [N,H,W] or [N,H,W,C], of one size in "
            "all splits"
        )
    if not is_bytes_or_floats(x):
        lines.append(f"x_{split} is {x.dtype}; images are uint8 or floats")
    elif not np.isfinite(x).all():
        lines.append(f"x_{split} holds values that are not finite")
    if not np.issubdtype(y.dtype, np.integer):
        lines.append(f"y_{split} is {y.dtype}; labels are integers counted from 0")
    elif y.size and y.min() < 0:
        lines.append(f"y_{split} holds {y.min()}; labels are integers counted from 0")
    elif y.size and y.max() >= _MOST_CLASSES:
        lines.append(
            f"y_{split} holds {y.max()}; labels are counted from 0, up to {_MOST_CLASSES:,} classes"
        )
    fitting = {
        (len(x), *task.label_shape(x.shape[1:])): task.labels for task in TASKS if x.ndim == 4
    }
    if y.ndim != label_rank or y.shape not in fitting:
        listed = " or ".join(f"{shape} ({labels})" for shape, labels in fitting.items())
        lines.append(f"y_{split} has shape {y.shape}; for {len(x)} images it is {listed}")
    if len(x) == 0:
        lines.append(f"x_{split} holds no images")
    return lines


def _digest(splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for split, arrays in splits.items():
        digest.update(split.encode())
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _open(splits: Mapping[str, tuple[np.ndarray, np.ndarray]], split: str) -> Any:
    import tensorflow as tf

    x, y = splits[split]
    dataset = tf.data.Dataset.from_tensor_slices((x, y.astype(np.int32)))
    return dataset.map(lambda image, label: (scaled(image), label))
