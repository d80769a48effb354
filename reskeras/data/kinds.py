"""Which kind of label an array holds, and labels that are no classes in the form for training."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from reskeras.data.pixels import is_bytes_or_floats, is_finite, range_of, scaled
from reskeras.errors import RequestError
from reskeras.tasks import Labels, task_called

Array = np.ndarray[Any, Any]
_LEAST = 1e-9
"""Numbers that vary by no more than this, relative to 1 or to their mean, cannot be learned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Others:
    """Images and labels that are no classes, ready for training."""

    splits: dict[str, tuple[Array, Array]]
    count: int
    """How many classes, numbers, points or channels a label has."""
    enlarge: int = 1
    """As `ImageData.enlarge`; the images are enlarged already."""
    peak: float | None = None
    """As `ImageData.peak` of images to restore, which are scaled already."""
    notes: tuple[str, ...] = ()


class Learned(NamedTuple):
    """What labels of the training split say of those that are no classes."""

    mean: tuple[float, ...] = ()
    """As `ImageData.mean`."""
    spread: tuple[float, ...] = ()
    """As `ImageData.spread`."""
    notes: tuple[str, ...] = ()


def kind_of(y: Array, x: Array, task: str | None, where: str) -> Labels:
    """The kind of label that an array is.

    Args:
        y: labels of images [N,...].
        x: the images [N,*sides,C].
        task: the name of a task, which says the kind; None: the shape and the values say it.
        where: start of an error.

    Raises:
        RequestError: no task has the name, or the array could be several kinds.
    """
    if task is not None:
        return task_called(task).labels
    rest, sides = y.shape[1:], x.shape[1:-1]
    with np.errstate(invalid="ignore"):  # infinity
        fractions = y.dtype.kind == "f" and bool((np.isnan(y) | (y % 1 != 0)).any())
    channels = x.shape[-1]
    if rest in ((), (1,)):
        return Labels.NUMBERS if fractions else Labels.CLASS
    if rest in (sides, (*sides, 1)):
        if fractions:
            raise RequestError(
                f"{where}: y_train holds fractions for each pixel; masks are whole numbers, and "
                "--task restoration (from Python, task='restoration') takes images to restore"
            )
        return Labels.MASK
    if rest == (*sides, channels) and not _one_hot(y):
        return Labels.IMAGE
    if _times(rest, sides) > 1:
        return Labels.IMAGE
    if len(rest) == 2 and rest[1] in (2, 3) and y.dtype.kind in "iuf":
        return Labels.POINTS
    if len(rest) == 1 and y.dtype.kind in "biuf" and not _one_hot(y):
        if fractions and (y >= 0).all() and np.allclose(y.sum(-1), 1, atol=1e-3):
            raise RequestError(
                f"{where}: y_train holds shares of classes that add up to 1; give each image one "
                "class, or pass --task numbers (from Python, task='numbers') to predict the shares"
            )
        return Labels.CLASSES if np.isin(y, (0, 1)).all() else Labels.NUMBERS
    return Labels.MASK if len(rest) >= len(sides) else Labels.CLASS


def _one_hot(y: Array) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=-1) == 1).all())


def _times(rest: Sequence[int], sides: Sequence[int]) -> int:
    """How many times larger than images labels with channels are; 0 if that is no whole number."""
    if len(rest) not in (len(sides), len(sides) + 1):
        return 0
    times = {a / b for a, b in zip(rest[: len(sides)], sides, strict=True)}
    (ratio,) = times if len(times) == 1 else (0.0,)
    return int(ratio) if float(ratio).is_integer() else 0


def prepared(
    kind: Labels,
    splits: Mapping[str, tuple[Array, Array]],
    names: Sequence[str],
    where: str,
) -> Others:
    """Labels of a kind that is no class, and their images, for training.

    Raises:
        RequestError: one line for every array that does not fit.
    """
    problems = [
        f"{where}: y_{split} has shape {y.shape} for {len(x)} images"
        for split, (x, y) in splits.items()
        if not y.ndim or len(y) != len(x) or y.dtype.kind not in "biuf"
    ]
    if problems:
        raise RequestError("\n".join(problems))
    match kind:
        case Labels.CLASSES:
            found = _classes(splits, where)
        case Labels.NUMBERS:
            found = _numbers(splits, where)
        case Labels.POINTS:
            found = _points(splits, where)
        case _:
            return _images(splits, where)
    if names and len(names) != found.count:
        raise RequestError(
            f"{where}: class_names has {len(names)} names; labels have {found.count} columns"
        )
    return found


def learned(kind: Labels, y: Array, where: str, names: Sequence[str] = ()) -> Learned:
    """What labels say that a network learns from: those of the final training split alone.

    Args:
        kind: of the labels, as `prepared` makes them.
        y: of the training split [N,...], without the images that validate.
        where: start of an error.
        names: of the classes, numbers or points; without them, they are called by their places.

    Raises:
        RequestError: a number is always the same, or a point is in no image.
    """
    called = names or tuple(map(str, range(y.shape[1])))
    match kind:
        case Labels.CLASSES:
            shares = zip(called, y.mean(axis=0), strict=True)
            same = [name for name, share in shares if not 0 < share < 1]
            text = f"all training images, or none, show the classes {', '.join(same)}"
            return Learned(notes=(text,) if same else ())
        case Labels.NUMBERS:
            return Learned(*mean_and_spread(y, where, names))
        case Labels.POINTS:
            there: Array = np.asarray(np.isfinite(y).all(axis=2).any(axis=0))
            if missing := [name for name, known in zip(called, there, strict=True) if not known]:
                raise RequestError(
                    f"{where}: no training image has the points {', '.join(missing)}; points are "
                    "x and y in pixels"
                )
    return Learned()


def _columns(splits: Mapping[str, tuple[Array, Array]], rank: int, where: str) -> int:
    """The number of columns K of labels [N,K] or [N,K,2].

    Raises:
        RequestError: splits do not have the same, or the labels have another rank.
    """
    shapes = {split: y.shape[1:] for split, (_, y) in splits.items()}
    if len(set(shapes.values())) > 1 or len(shapes["train"]) != rank or not shapes["train"][0]:
        told = ", ".join(f"y_{split} {shape}" for split, shape in shapes.items())
        form = "[N,K]" if rank == 1 else "[N,K,2] (x and y) or [N,K,3] (and 0 if not there)"
        raise RequestError(f"{where}: labels are {form}, alike in all splits (each has: {told})")
    return int(shapes["train"][0])


def _classes(splits: Mapping[str, tuple[Array, Array]], where: str) -> Others:
    count = _columns(splits, 1, where)
    for split, (_, y) in splits.items():
        if not np.isin(y, (0, 1)).all():
            raise RequestError(
                f"{where}: y_{split} holds {y.min():g} to {y.max():g}; for each class, 1 says that "
                "it is there, and 0 that it is not"
            )
    return Others(
        splits={split: (x, y.astype(np.float32)) for split, (x, y) in splits.items()},
        count=count,
    )


def _numbers(splits: Mapping[str, tuple[Array, Array]], where: str) -> Others:
    flat = {split: (x, y[:, None] if y.ndim == 1 else y) for split, (x, y) in splits.items()}
    count = _columns(flat, 1, where)
    for split, (_, y) in flat.items():
        if not is_finite(y):
            raise RequestError(
                f"{where}: y_{split} holds numbers that are not finite, or beyond float32"
            )
    return Others(
        splits={split: (x, y.astype(np.float32)) for split, (x, y) in flat.items()},
        count=count,
    )


def mean_and_spread(
    y: Array, where: str, names: Sequence[str] = ()
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each of the numbers [N,K].

    Raises:
        RequestError: a number is always the same, or varies too little to be told in float32.
    """
    mean, spread = (part(np.asarray(y, np.float64), axis=0) for part in (np.mean, np.std))
    relative = spread / np.maximum(1, np.abs(mean))
    if (relative <= _LEAST).any():
        place = int(relative.argmin())
        name = names[place] if names else f"number {place}"
        if spread[place] > _LEAST * abs(mean[place]):
            raise RequestError(
                f"{where}: {name} varies by only {spread[place]:.3g} in training, too little for "
                "float32 arithmetic; multiply it by a constant"
            )
        raise RequestError(
            f"{where}: {name} is always {mean[place]:g} in training; there is nothing to learn"
        )
    return tuple(mean.tolist()), tuple(spread.tolist())


def _points(splits: Mapping[str, tuple[Array, Array]], where: str) -> Others:
    if splits["train"][0].ndim != 4:
        raise RequestError(
            f"{where}: keypoints are those of images: not of signals, nor of volumes"
        )
    count = _columns(splits, 2, where)
    height, width = splits["train"][0].shape[1:3]
    made, outside = {}, 0
    for split, (images, points) in splits.items():
        if points.shape[-1] not in (2, 3):
            raise RequestError(f"{where}: y_{split} has points of {points.shape[-1]} numbers")
        with np.errstate(over="ignore"):  # to infinity, outside of any image
            found: Array = points[..., :2].astype(np.float32)
        if points.shape[-1] == 3:
            found[points[..., 2] == 0] = np.nan
        out = points_outside(found, (height, width))
        outside += int(out.sum())
        found[out] = np.nan
        made[split] = (images, found)
    known = made["train"][1][np.isfinite(made["train"][1])]
    if known.size and known.max() <= 1 and min(height, width) > 4:
        raise RequestError(
            f"{where}: all points are in 0..1; give pixels, x from 0 to {width - 1} and y from 0 "
            f"to {height - 1}"
        )
    notes = (f"{outside:,} points outside their image are taken as not there",) if outside else ()
    return Others(splits=made, count=count, notes=notes)


def points_outside(points: Array, sides: tuple[int, int]) -> Array:
    """Which points [...,2] are outside an image of this height and width."""
    height, width = sides
    x, y = points[..., 0], points[..., 1]
    with np.errstate(invalid="ignore"):
        return np.asarray((x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5))


def _images(splits: Mapping[str, tuple[Array, Array]], where: str) -> Others:
    sides = splits["train"][0].shape[1:-1]
    rank = len(sides) + 2
    targets = {split: y[..., None] if y.ndim == rank - 1 else y for split, (_, y) in splits.items()}
    times = _times(targets["train"].shape[1:], sides)
    if not times or any(y.shape[1:] != targets["train"].shape[1:] for y in targets.values()):
        told = ", ".join(
            f"x_{split} {x.shape}, y_{split} {y.shape}" for split, (x, y) in splits.items()
        )
        raise RequestError(
            f"{where}: images to restore have the sides of the given ones, or twice, three times "
            f"... as large ones, alike in all splits ({told})"
        )
    for split, y in targets.items():
        if not is_bytes_or_floats(y) and y.dtype.kind not in "iu":
            raise RequestError(f"{where}: y_{split} is {y.dtype}; images are integers or floats")
        if not is_finite(y):
            raise RequestError(f"{where}: y_{split} holds values that are not finite")
    images = {split: x for split, (x, _) in splits.items()}
    notes: list[str] = []
    peak = None
    if any(part.dtype != np.uint8 for part in (*images.values(), *targets.values())):
        peak, white = (range_of(parts, where, notes) for parts in (images, targets))
        # Before they are enlarged: bicubic interpolation goes beyond the range.
        images = {split: scaled(x, peak) for split, x in images.items()}
        targets = {split: scaled(y, white) for split, y in targets.items()}
    return Others(
        splits={split: (enlarged(x, times), targets[split]) for split, x in images.items()},
        count=int(targets["train"].shape[-1]),
        enlarge=times,
        peak=peak,
        notes=tuple(dict.fromkeys(notes)),
    )


def enlarged(images: Array, times: int) -> Array:
    """Images [N,H,W,C] with sides that are so many times as large, by Pillow's bicubic resize.

    Raises:
        RequestError: signals or volumes are to be enlarged.
    """
    if times == 1:
        return images
    if images.ndim != 4:
        raise RequestError("only images are enlarged, not signals, nor volumes")
    count, height, width, channels = images.shape
    planes = np.moveaxis(images, -1, 1).reshape(-1, height, width)
    if planes.dtype != np.uint8:
        planes = planes.astype(np.float32)
    size = (width * times, height * times)
    found = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC))
        for plane in planes
    ]
    stacked = np.stack(found).reshape(count, channels, size[1], size[0])
    return np.ascontiguousarray(np.moveaxis(stacked, 1, -1))
