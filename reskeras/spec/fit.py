"""Specs and the images of data: each follows the other."""

import dataclasses
import math
from typing import Any, Literal

from pydantic import ValidationError

from reskeras.errors import RequestError
from reskeras.spec.families import AnySpec
from reskeras.spec.heads import Classifier, Segmenter
from reskeras.spec.scalars import ImageShape

Task = Literal["classification", "segmentation"]


def fit_to_data(spec: AnySpec, input_shape: tuple[int, ...], classes: int, task: Task) -> AnySpec:
    """The same network for images of this shape and this many classes; a fully connected one takes them flat.

    Raises:
        ValueError: the network does not do this task, or cannot take such images (a U-Net that cannot halve them often enough).
    """
    wanted: type = Segmenter if task == "segmentation" else Classifier
    if not isinstance(spec.head, wanted):
        found = f"(the network is of the family {spec.family!r} with head {spec.head.kind!r})"
        if task == "segmentation":
            raise ValueError(
                f"masks need a segmentation head, which a network of the family 'unet' has {found}"
            )
        raise ValueError(f"it has labels, not masks, and needs a classifier {found}")
    shape = (math.prod(input_shape),) if len(spec.input_shape) == 1 else tuple(input_shape)
    if len(spec.input_shape) != len(shape):
        raise ValueError(
            f"it has images of {len(shape) - 1} dimensions, the network works in {len(spec.input_shape) - 1}"
        )
    if task == "segmentation" and spec.data_format == "channels_first":
        raise ValueError("masks are trained with data_format 'channels_last'")
    # One map with a sigmoid tells two classes apart as well as two do.
    binary = isinstance(spec.head, Segmenter) and spec.head.classes == 1 and classes == 2
    head: Any = spec.head if binary else dataclasses.replace(spec.head, classes=classes)  # type: ignore[arg-type]
    try:
        return dataclasses.replace(spec, input_shape=shape, head=head)
    except ValidationError as error:
        raise ValueError(
            "; ".join(mistake["msg"].removeprefix("Value error, ") for mistake in error.errors())
        ) from error


def image_shape(spec: AnySpec) -> ImageShape:
    """Height, width and channels of the images that a network takes; a fully connected one takes square ones of one channel.

    Raises:
        RequestError: it does not take images.
    """
    match spec.input_shape:
        case (height, width, channels):
            return height, width, channels
        case (size,) if math.isqrt(size) ** 2 == size:
            return math.isqrt(size), math.isqrt(size), 1
        case shape:
            raise RequestError(
                f"{spec.name} takes inputs of the shape {list(shape)}, which are no images"
            )
