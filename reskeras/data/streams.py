"""Data sets of `tf.data`, `PyDataset`s, generators and arrays, in memory."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from reskeras.data.arrays import from_arrays
from reskeras.data.files import split_of
from reskeras.data.images import ImageData
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.words import in_bytes

_SPLITS = ("train", "val", "test")
_MOST_BYTES = 8 << 30
"""What is larger belongs on disk, where a folder or a TFDS data set is read bit by bit."""
_ELEMENT_BYTES = 1_000
"""What an element takes besides its numbers."""


def from_streams(
    given: Any,
    *,
    name: str = "arrays",
    where: str = "data",
    options: DataOptions = NO_OPTIONS,
    image_shape: ImageShape | None = None,
) -> ImageData:
    """Image data from what Keras' `fit` takes, read to its end into memory.

    Args:
        given: images with labels or masks: a `tf.data.Dataset`, a `keras.utils.PyDataset`, an
            iterable of pairs, or a pair of arrays. Elements are an image and its label, or a batch
            of each; TFDS' dictionaries with `image` and `label` are taken, too. A mapping gives
            one for each of the splits `train`, `val` and `test`; without `val`, a random part of
            `train` is cut off. Or the arrays that `from_arrays` takes.
        name: name of the data in reports.
        where: start of each line of an error.
        options: how they are read.
        image_shape: as in `from_arrays`.

    Raises:
        RequestError: not images with labels, without an end, or more than 8 GiB.
    """
    if isinstance(given, Mapping) and not {*map(split_of, map(str, given))} <= set(_SPLITS):
        return from_arrays(given, name=name, where=where, options=options, image_shape=image_shape)
    splits = given if isinstance(given, Mapping) else {"train": given}
    arrays: dict[str, Any] = {}
    for split, stream in splits.items():
        pair = _read(stream, f"{where}: {split}" if isinstance(given, Mapping) else where)
        arrays |= {
            f"{axis}_{split_of(str(split))}": array for axis, array in zip("xy", pair, strict=True)
        }
    return from_arrays(arrays, name=name, where=where, options=options, image_shape=image_shape)


def _read(stream: Any, where: str) -> tuple[Any, Any]:
    """All images [N,H,W,C] and labels of a stream."""
    if isinstance(stream, tuple) and len(stream) == 2 and all(map(_is_array, stream)):
        return stream
    images: list[Any] = []
    labels: list[Any] = []
    size = 0
    for element in _elements(stream, where):
        image, label = (np.asarray(part) for part in _pair(element, where))
        if not _is_batch(image, label, where):
            image, label = image[np.newaxis], label[np.newaxis]
        if label.ndim == 0 or len(label) != len(image):
            raise RequestError(
                f"{where}: a batch of {len(image)} images with labels of shape {label.shape}"
            )
        if images and image.dtype != images[0].dtype:
            raise RequestError(
                f"{where}: images of {images[0].dtype} and of {image.dtype}; give them one type"
            )
        if images and image.shape[1:] != images[0].shape[1:]:
            raise RequestError(
                f"{where}: images of shapes {images[0].shape[1:]} and {image.shape[1:]}; give them "
                "one size"
            )
        if labels and label.shape[1:] != labels[0].shape[1:]:
            raise RequestError(
                f"{where}: labels of shapes {labels[0].shape[1:]} and {label.shape[1:]}; give them "
                "one form"
            )
        images.append(image)
        labels.append(label)
        size += image.nbytes + label.nbytes + _ELEMENT_BYTES
        if size > _MOST_BYTES:
            raise RequestError(
                f"{where}: more than {in_bytes(_MOST_BYTES)} of images, or without an end; write "
                "them to a folder of image files, which is read bit by bit"
            )
    if not images:
        raise RequestError(f"{where}: holds no images")
    return np.concatenate(images), np.concatenate(labels)


def _elements(stream: Any, where: str) -> Iterator[Any]:
    if hasattr(stream, "as_numpy_iterator"):
        if int(stream.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
            raise RequestError(f"{where}: repeats without an end; give it without .repeat()")
        yield from stream.as_numpy_iterator()
    elif hasattr(stream, "num_batches"):  # a PyDataset
        count = stream.num_batches
        if count is None:
            raise RequestError(f"{where}: a PyDataset without a number of batches has no end")
        yield from (stream[number] for number in range(count))
    elif isinstance(stream, Iterable) and not isinstance(stream, str | bytes | np.ndarray):
        yield from stream
    else:
        raise RequestError(
            f"{where}: {type(stream).__name__} holds no pairs of images and labels; give a "
            "tf.data.Dataset, a PyDataset, an iterable of pairs, or a pair of arrays"
        )


def _pair(element: Any, where: str) -> tuple[Any, Any]:
    if isinstance(element, Mapping) and {"image", "label"} <= set(element):
        return element["image"], element["label"]
    if isinstance(element, tuple | list) and len(element) == 2:
        image, label = element
        return image, label
    found = f"{len(element)} parts" if isinstance(element, tuple | list) else type(element).__name__
    raise RequestError(f"{where}: an element is {found}, not a pair of images and labels")


def _is_array(part: Any) -> bool:
    return hasattr(part, "shape") and len(part.shape) > 0


def _is_batch(image: Any, label: Any, where: str) -> bool:
    """Whether an element holds several images: they have as many labels.

    Raises:
        RequestError: it could be both.
    """
    if image.ndim != 3:
        return bool(image.ndim == 4)
    # [H,W,C], or gray images [N,H,W]
    if not label.ndim or len(label) != len(image) or image.shape[-1] <= 4:
        return False
    if label.ndim == 1 and (label != 0).sum() == 1 and label.sum() == 1:
        raise RequestError(
            f"{where}: an element {image.shape} with the label {label.tolist()} could be one image "
            "with a one-hot label, or gray images; give batches [N,H,W,C], or labels as numbers"
        )
    return True
