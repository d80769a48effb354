"""How a model takes images: channels last, channels first, or flat."""

import dataclasses
import enum
import math
from typing import Any

import keras
import numpy as np

from reskeras.errors import RequestError
from reskeras.spec import ImageShape


class Layout(enum.Enum):
    """The memory order of an image."""

    CHANNELS_LAST = "channels_last"
    CHANNELS_FIRST = "channels_first"
    FLAT = "flat"


@dataclasses.dataclass(frozen=True)
class InputForm:
    """The form of a model's images. Holds no reference to the model."""

    shape: tuple[int, ...]
    """Shape of one image as the model takes it."""
    layout: Layout

    def arrange(self, images: Any) -> Any:
        """Converts images [...,*sides,C] (NumPy or TensorFlow) to the form the model takes.

        Flat images are [...,H,W,C].
        """
        if self.layout is Layout.CHANNELS_LAST:
            return images
        rank = 3 if self.layout is Layout.FLAT else len(self.shape)
        batch, sides = tuple(images.shape[:-rank]), images.shape[-rank:]
        axes = (rank - 1, *range(rank - 1))
        order = [*range(len(batch)), *(len(batch) + axis for axis in axes)]
        if isinstance(images, np.ndarray):
            if self.layout is Layout.FLAT:
                return images.reshape(*batch, math.prod(sides))
            return images.transpose(order)
        import tensorflow as tf

        if self.layout is Layout.FLAT:
            known = [-1 if size is None else size for size in batch]
            return tf.reshape(images, [*known, math.prod(sides)])
        return tf.transpose(images, order)

    def image_shape(self, name: str) -> ImageShape:
        """Sides and channels; flat images count as square gray ones.

        Args:
            name: of the model, for the error.

        Raises:
            RequestError: these are not images.
        """
        match self.layout, self.shape:
            case Layout.FLAT, (int(size),) if math.isqrt(size) ** 2 == size:
                return math.isqrt(size), math.isqrt(size), 1
            case Layout.CHANNELS_FIRST, (int(channels), _, *_):
                return (*self.shape[1:], channels)
            case Layout.CHANNELS_LAST, (_, *_, int()):
                return self.shape
            case _:
                raise RequestError(
                    f"{name} takes inputs of shape {list(self.shape)}, not images of one size"
                )


def input_form(model: keras.Model) -> InputForm:
    """The form of a model's images.

    Raises:
        RequestError: the model has several inputs.
    """
    if len(model.inputs) != 1:
        shapes = [list(tensor.shape[1:]) for tensor in model.inputs]
        raise RequestError(f"{model.name} takes {len(shapes)} inputs, not one: {shapes}")
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) == 1:
        return InputForm(shape, Layout.FLAT)
    first = any(getattr(layer, "data_format", None) == "channels_first" for layer in model.layers)
    return InputForm(shape, Layout.CHANNELS_FIRST if first else Layout.CHANNELS_LAST)
