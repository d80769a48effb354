"""Raw images as the input of a network: what happens to image files in training, as layers.

The layers give what `reskeras.data.decode` gives, and Pillow in it, to the last bit, so an exported
model answers as `reskeras predict` does. Whatever runs TensorFlow's operations runs them: they
multiply matrices of whole numbers, which float32 holds exactly.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import keras
import tensorflow as tf

from reskeras.errors import RequestError
from reskeras.models.inputs import Layout, input_form
from reskeras.spec import Pixels, Resize

_PLACES = (8, 7, 7)
"""Pillow's weights have 22 binary places. Sums of bytes times numbers of 8 or 7 places stay below
2^24, the limit of whole numbers in float32, where images shrink by a factor of up to 250."""


def preprocessed(network: keras.Model, record: Mapping[str, Any]) -> keras.Model:
    """A network that takes raw images of any size, and answers as it did in training.

    Args:
        network: a Functional model with one input of images. Its layers are shared, not copied.
        record: the facts of its data, like `about.data` of a journal: `resize`, `pixels`, `peak`
            and, for flat images, `image_shape`. What is missing has the default of `ImageData`.

    Returns:
        A model of images [N,h,w,C]: uint8, or float32 if its data were not bytes.

    Raises:
        RequestError: the network does not take images, the record is damaged, or Keras does not run
            on TensorFlow.
    """
    return joined(front_of(network, record), network)


def joined(front: keras.Model, network: keras.Model) -> keras.Model:
    """One model: what `front` gives is what `network` takes."""
    outputs = network(keras.tree.pack_sequence_as(network.input, [front.output]))
    return keras.Model(front.input, outputs, name=network.name)


def front_of(
    network: keras.Model,
    record: Mapping[str, Any],
    *,
    resizes: bool = True,
    dtype: str | None = None,
) -> keras.Model:
    """What happens to raw images before a network: from the images to the network's input.

    A network that takes images of any size gets them as large as they are.

    Args:
        network: see `preprocessed`.
        record: see `preprocessed`.
        resizes: whether images may have any size; otherwise, and if it was trained on patches, they
            have the network's.
        dtype: of the raw images; None: uint8, or float32 if its data were not bytes.

    Raises:
        RequestError: see `preprocessed`.
    """
    if keras.backend.backend() != "tensorflow":
        raise RequestError(
            f"raw images need Keras on TensorFlow, not on {keras.backend.backend()}: the layers "
            "for them take images of any size"
        )
    form = input_form(network)
    sides, channels = sides_and_channels(network, record)
    pixels, resize = record.get("pixels", "bytes"), record.get("resize", "stretch")
    for key, value, choices in (
        ("pixels", pixels, get_args(Pixels)),
        ("resize", resize, get_args(Resize)),
    ):
        if value not in choices:
            raise RequestError(
                f"the record of the data has {key} {value!r}; known: {', '.join(choices)}"
            )
    # A network that has seen patches would take a smaller image for objects of another size.
    resizes = resizes and resize != "patch"
    images = keras.Input(
        (*((None, None) if resizes or sides is None else sides), channels),
        dtype=dtype or ("uint8" if pixels == "bytes" else "float32"),
        name="images",
    )
    layer = Preprocessing(
        sides if resizes else None, resize, pixels, record.get("peak"), name="preprocessing"
    )
    x = layer(images)
    match form.layout:
        case Layout.CHANNELS_FIRST:
            x = keras.layers.Permute((3, 1, 2), dtype="float32")(x)
        case Layout.FLAT:
            x = keras.layers.Reshape(form.shape, dtype="float32")(x)
        case Layout.CHANNELS_LAST:
            pass
    return keras.Model(images, x, name="front")


def sides_and_channels(
    network: keras.Model, record: Mapping[str, Any]
) -> tuple[tuple[int, int] | None, int]:
    """Height and width, None if they are free, and channels of a network's images."""
    form = input_form(network)
    known = tuple(record.get("image_shape") or ())
    match form.layout, form.shape:
        case Layout.FLAT, (size,) if len(known) == 3 and math.prod(known) == size:
            height, width, channels = known
        case Layout.CHANNELS_LAST, (None, None, int(channels)):
            return None, channels
        case Layout.CHANNELS_FIRST, (int(channels), None, None):
            return None, channels
        case _:
            height, width, channels = form.image_shape(network.name)
    return (height, width), channels


@keras.saving.register_keras_serializable("reskeras")
class Preprocessing(keras.layers.Layer):  # type: ignore[misc]
    """Resizes raw images [N,h,w,C] and scales them, to float32 [N,H,W,C].

    Bytes become shares of 255, and equal what Pillow makes of them.

    Args:
        sides: H and W; None leaves images as large as they are.
        resize: as `ImageData.resize`.
        pixels: as `ImageData.pixels`.
        peak: as `ImageData.peak`; bytes ignore it.
        options: of a Keras layer.
    """

    def __init__(
        self,
        sides: tuple[int, int] | None,
        resize: Resize = "stretch",
        pixels: Pixels = "bytes",
        peak: float | None = None,
        **options: Any,
    ) -> None:
        # Half precision does not hold the sums.
        super().__init__(**{"dtype": "float32", "trainable": False} | options)
        self.sides = None if sides is None else (int(sides[0]), int(sides[1]))
        self.resize: Resize = resize
        self.pixels: Pixels = pixels
        self.peak = peak

    def call(self, images: Any) -> Any:
        x = tf.cast(images, tf.float32)
        if self.sides is None:
            white = 255.0 if self.pixels == "bytes" else self.peak
            return x if white is None else x / white
        shape, channels = tf.shape(x), images.shape[3]
        height, width = shape[1], shape[2]
        rows, columns = _spans((height, width), self.sides, self.resize)
        if self.pixels == "bytes":
            along = _along_bytes
        else:
            along = _along
            x = x if self.peak is None else x / self.peak
        # As in Pillow: first along rows. Axes: N, h, C, w.
        x = along(tf.transpose(x, [0, 1, 3, 2]), width, columns)
        x = tf.reshape(x, [-1, height, channels, self.sides[1]])
        # Axes: N, C, W, h.
        x = along(tf.transpose(x, [0, 2, 3, 1]), height, rows)
        x = tf.reshape(x, [-1, channels, self.sides[1], self.sides[0]])
        x = tf.transpose(x, [0, 3, 2, 1])
        return x / 255.0 if self.pixels == "bytes" else x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *(self.sides or input_shape[1:3]), input_shape[3])

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        return config | {
            "sides": self.sides,
            "resize": self.resize,
            "pixels": self.pixels,
            "peak": self.peak,
        }


class _Span(NamedTuple):
    """What part of an axis becomes what part of the same axis of the network's images.

    Numbers, or int32 tensors.
    """

    given: Any
    """The length of the part that is used."""
    given_start: Any
    made: Any
    """The length of the part that it fills."""
    made_start: Any
    side: int
    """The length of the whole axis."""


def _spans(size: tuple[Any, Any], sides: tuple[int, int], resize: Resize) -> tuple[_Span, _Span]:
    """Rows and columns of the boxes of `reskeras.data.decode`."""
    (height, width), (tall, wide) = size, sides
    match resize:
        case "stretch":
            return _Span(height, 0, tall, 0, tall), _Span(width, 0, wide, 0, wide)
        case "crop":
            inner = (
                tf.minimum(height, _rounded(width * tall, wide)),
                tf.minimum(width, _rounded(height * wide, tall)),
            )
            return (
                _Span(inner[0], (height - inner[0]) // 2, tall, 0, tall),
                _Span(inner[1], (width - inner[1]) // 2, wide, 0, wide),
            )
        case "pad":
            inner = (
                tf.minimum(tall, _rounded(wide * height, width)),
                tf.minimum(wide, _rounded(tall * width, height)),
            )
            return (
                _Span(height, 0, inner[0], (tall - inner[0]) // 2, tall),
                _Span(width, 0, inner[1], (wide - inner[1]) // 2, wide),
            )
        case "patch":
            raise ValueError("patches are not resized")


def _rounded(numerator: Any, denominator: Any) -> Any:
    """The nearest whole number of at least 1."""
    return tf.maximum(1, (2 * numerator + denominator) // (2 * denominator))


def _shares(length: Any, span: _Span) -> tuple[Any, Any]:
    """The triangle filter as whole numbers: numerators [side,length] and denominators [side,1].

    Pixel j of the axis has the share numerators[i,j] / denominators[i] in pixel i of the result. A
    row outside of the span has no shares.
    """
    i = tf.range(span.side)[:, tf.newaxis] - span.made_start
    j = tf.range(length)[tf.newaxis] - span.given_start
    reach = 2 * tf.maximum(span.given, span.made)
    shares = reach - tf.abs((2 * j + 1) * span.made - (2 * i + 1) * span.given)
    inside = (i >= 0) & (i < span.made) & (j >= 0) & (j < span.given)
    shares = tf.where(inside, tf.maximum(shares, 0), 0)
    return shares, tf.maximum(tf.reduce_sum(shares, axis=1, keepdims=True), 1)


def _along(x: Any, length: Any, span: _Span) -> Any:
    """Resizes floats along their last axis, to [..., side] with all other axes in one."""
    shares, whole = _shares(length, span)
    weights = tf.cast(shares, tf.float32) / tf.cast(whole, tf.float32)
    return tf.matmul(tf.reshape(x, [-1, length]), weights, transpose_b=True)


def _along_bytes(x: Any, length: Any, span: _Span) -> Any:
    """Resizes whole numbers in 0..255 along their last axis as Pillow does, rounding to such.

    Pillow computes (sum(x * weight) + 2^21) >> 22 with weights of 22 binary places. These are
    three numbers here, with a sum each.
    """
    parts = tf.cast(tf.concat(_places(*_shares(length, span)), axis=0), tf.float32)
    sums = tf.matmul(tf.reshape(x, [-1, length]), parts, transpose_b=True)
    high, middle, low = (sums[:, n * span.side : (n + 1) * span.side] for n in range(3))
    first, second, third = (2.0**places for places in _PLACES)
    carried = tf.floor((middle + tf.floor(low / third)) / second)
    return tf.floor((high + carried + first / 2) / first)


def _places(shares: Any, whole: Any) -> list[Any]:
    """Shares of a whole, with 22 binary places and rounded, as three int32 by long division."""
    parts, rest = [], shares
    for places in _PLACES:
        part = tf.zeros_like(shares)
        # Few places at a time: int32 would overflow.
        for step in (4, places - 4):
            rest *= 1 << step
            digit = rest // whole
            rest -= digit * whole
            part = part * (1 << step) + digit
        parts.append(part)
    parts[-1] += tf.cast(2 * rest >= whole, tf.int32)
    return parts
