"""Labels and masks in the forms that people save them in, as classes counted from 0."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reskeras.errors import RequestError
from reskeras.tasks import IGNORED
from reskeras.words import percent

Array = np.ndarray[Any, Any]

_MOST_CLASSES = 1 << 16
_MOST_MASK_CLASSES = 200
"""Masks with more values are pictures, or were changed by a lossy format."""
_UNKNOWN = 255
"""The value that often marks pixels without a class."""
_WHOLE = 2.0**53
"""Floats beyond this are not exact whole numbers."""


class Classes(NamedTuple):
    """What the values of labels mean."""

    values: list[Any]
    """The value of each class, in order."""
    names: tuple[str, ...]
    """Empty if the values count from 0 and nothing names them."""
    notes: list[str]


def plain(y: Any, image_rank: int) -> tuple[Array, int]:
    """Labels [N] or masks [N,H,W] of whole numbers or words, where a common form means them.

    Args:
        y: labels as they are saved.
        image_rank: dimensions of the array of images.

    Returns:
        The labels; unchanged if no common form fits. And the number of classes that a one-hot form
        has room for, otherwise 0.
    """
    y = np.asarray(y)
    if y.dtype == object and y.size:  # words, as bytes in a batch of tf.data
        for kind, dtype in ((str, "U"), (bytes, "S")):
            if all(isinstance(word, kind) for word in y.flat):
                y = y.astype(dtype)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype == bool:
        y = y.astype(np.int64)
    if y.dtype.kind == "u" and y.size and y.max() < _WHOLE:
        y = y.astype(np.int64)
    if y.dtype.kind == "f" and y.size and (np.abs(y) < _WHOLE).all():
        whole = np.rint(y)
        y = whole.astype(np.int64) if (whole == y).all() else y
    if y.ndim in (2, max(4, image_rank)) and y.shape[-1] == 1:
        return y[..., 0], 0
    if (
        y.ndim in (2, 4)
        and y.shape[-1] > 1
        and y.dtype.kind == "i"
        and ((y == 0) | (y == 1)).all()
        and (y.sum(axis=-1) == 1).all()
    ):
        return np.asarray(y.argmax(axis=-1)), y.shape[-1]
    return y, 0


def without_a_class(y: Array, ignore: int | None) -> Array:
    """Which labels, or pixels of masks, have the value that means no class."""
    if ignore is None or y.dtype.kind not in "iu":
        return np.zeros(y.shape, bool)
    return np.asarray(y == ignore)


def numbered(y: Array, values: Sequence[Any] | Array, ignore: int | None) -> Array:
    """Labels or masks as the numbers of their values; `IGNORED` where the value means no class."""
    numbers = np.searchsorted(np.array(values), y)
    if ignore is not None:
        numbers = np.where(y == ignore, IGNORED, numbers)
    return numbers.astype(np.int32)


def classes_of(
    labels: Mapping[str, Array],
    names: Sequence[str] | None,
    width: int,
    where: str,
    ignore: int | None = None,
) -> Classes:
    """The classes that the labels of all splits name.

    Args:
        labels: labels [N] or masks [N,H,W] of each split.
        names: names of the classes, if they are given.
        width: the number of classes, if a one-hot form says it; otherwise 0.
        where: start of each line of an error.
        ignore: the value that is no class, if there is one.

    Raises:
        RequestError: these are not classes, or their names do not fit.
    """
    found = _classes_of(labels, names, width, where, ignore)
    if ignore not in found.values:
        return found
    place = found.values.index(ignore)
    names = found.names or tuple(map(str, found.values))
    return Classes(
        found.values[:place] + found.values[place + 1 :],
        names[:place] + names[place + 1 :],
        found.notes,
    )


def _classes_of(
    labels: Mapping[str, Array],
    names: Sequence[str] | None,
    width: int,
    where: str,
    ignore: int | None,
) -> Classes:
    values = np.unique(np.concatenate([np.unique(y) for y in labels.values()])).tolist()
    if ignore in values:
        values.remove(ignore)
    if not values:
        raise RequestError(f"{where}: labels hold {ignore} alone, which is to be ignored")
    count = len(labels["train"])
    if labels["train"].ndim > 1:
        check_mask_values(values, where)
    elif len(values) > _MOST_CLASSES or (count > 20 and len(values) > count / 2):
        raise RequestError(
            f"{where}: y_train holds {len(values):,} different labels for {count:,} images; labels "
            "are classes"
        )
    counted = isinstance(values[0], int) and values[0] >= 0
    if names is not None:
        return _named(values, names, counted=counted, where=where)
    if counted and width > values[-1]:
        return Classes(list(range(width)), (), [])
    if counted and counts_from_0(values):
        return Classes(list(range(values[-1] + 1)), (), [])
    notes = []
    if isinstance(values[0], int):
        notes.append(f"labels are {_few(values)}; they become classes 0 to {len(values) - 1}")
    return Classes(values, tuple(map(str, values)), notes)


def counts_from_0(values: Sequence[int]) -> bool:
    """Whether values, in order, count classes from 0.

    A value in between that nothing has is a class all the same, if most are there.
    """
    return values[0] == 0 and len(values) > (values[-1] + 1) / 2


def ignored_note(share: float, ignore: int | None) -> str:
    """A note that a share of the pixels of masks does not count."""
    return f"{percent(share)} of the pixels of training masks are {ignore}: they have no class"


def no_ignored_note(ignore: int | None) -> str:
    """A note that a value to be ignored is nowhere."""
    return f"nothing has the value {ignore} that is to be ignored"


def untrained_notes(names: Sequence[str], trained: Collection[int]) -> list[str]:
    """A note on classes that other splits have and training lacks, if there are any.

    Args:
        names: of all classes.
        trained: the numbers of those in training.
    """
    missing = ", ".join(name for label, name in enumerate(names) if label not in trained)
    return [f"the train split has no images of {missing}"] if missing else []


def check_mask_values(values: Sequence[int], where: str) -> None:
    """Checks that the values of masks, in order, can be classes.

    Raises:
        RequestError: they cannot.
    """
    rest = [value for value in values if value != _UNKNOWN]
    ignored = None
    if values[0] < 0:
        ignored = values[0]
    elif len(values) > 2 and values[-1] == _UNKNOWN and rest[-1] < _UNKNOWN - 1:
        ignored = _UNKNOWN
    if ignored is not None:
        others = _few([value for value in values if value != ignored])
        raise RequestError(
            f"{where}: masks hold {ignored} beside {others}; if it marks pixels without a class, "
            f"--ignore {ignored} (from Python, ignore={ignored}) leaves them out; otherwise give "
            "them another number"
        )
    if len(values) > _MOST_MASK_CLASSES:
        raise RequestError(
            f"{where}: masks hold {len(values):,} different values; each would be a class (images "
            "to restore are for --task restoration)"
        )


def _named(values: list[Any], names: Sequence[str], *, counted: bool, where: str) -> Classes:
    if len(set(names)) < len(names):
        raise RequestError(f"{where}: class_names holds a name twice")
    if counted and values[-1] < len(names):
        return Classes(list(range(len(names))), tuple(names), [])
    if len(values) == len(names):
        return Classes(values, tuple(names), [])
    raise RequestError(f"{where}: class_names has {len(names)} names; labels are {_few(values)}")


def _few(values: Sequence[Any]) -> str:
    shown = [*values[:4], "...", values[-1]] if len(values) > 6 else values
    return ", ".join(map(str, shown))
