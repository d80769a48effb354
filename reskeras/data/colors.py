"""Changes of color: images [*sides, C] with values in 0..1 become other ones.

tf.image has most of them. What RandAugment also needs follows Pillow, which its authors used:
Keras' layers stretch each row of a single image by itself (`AutoContrast`), and round down to
other bytes than Pillow (`Equalization`).
"""

from typing import Any

import numpy as np

_WHITE = 255
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""Pillow's `ImageFilter.SMOOTH`."""


def as_plane(image: Any) -> Any:
    """Any image as one of a single row [1, P, C], for functions that only take images."""
    import tensorflow as tf

    return tf.reshape(image, [1, -1, image.shape[-1]])


def contrasted(image: Any, factor: Any) -> Any:
    """Multiplies the distance from the mean of each channel."""
    import tensorflow as tf

    return tf.reshape(tf.image.adjust_contrast(as_plane(image), factor), image.shape)


def saturated(image: Any, factor: Any) -> Any:
    """Multiplies the saturation of an image with three channels; others stay."""
    import tensorflow as tf

    return tf.image.adjust_saturation(image, factor) if image.shape[-1] == 3 else image


def sharpened(image: Any, factor: Any) -> Any:
    """From smooth (0) over unchanged (1) to sharp (2), except for the border [H,W,C]."""
    import tensorflow as tf

    kernel = np.repeat(_SMOOTH[..., np.newaxis, np.newaxis], image.shape[-1], 2)
    inner = tf.nn.depthwise_conv2d(image[tf.newaxis], kernel, [1] * 4, "VALID")[0]
    change = tf.pad(image[1:-1, 1:-1] - inner, [[1, 1], [1, 1], [0, 0]])
    return image + (factor - 1) * change


def posterized(image: Any, bits: Any) -> Any:
    """Keeps the highest bits of each byte; `bits` is an int32."""
    import tensorflow as tf

    lost = tf.bitwise.left_shift(1, 8 - bits)
    return tf.cast(_bytes(image) // lost * lost, tf.float32) / _WHITE


def solarized(image: Any, threshold: Any) -> Any:
    """Inverts what is at least as bright as the threshold: at 256/255, as in Pillow, nothing."""
    import tensorflow as tf

    return tf.where(image < threshold, image, 1 - image)


def stretched(image: Any) -> Any:
    """Stretches each channel over the whole range, if it has two values."""
    import tensorflow as tf

    axes = list(range(image.shape.rank - 1))
    low, high = tf.reduce_min(image, axes), tf.reduce_max(image, axes)
    return tf.where(high > low, (image - low) / tf.maximum(high - low, 1e-6), image)


def equalized(image: Any) -> Any:
    """Gives each channel an even histogram, by Pillow's arithmetic."""
    import tensorflow as tf

    channels = tf.transpose(tf.reshape(_bytes(image), [-1, image.shape[-1]]))
    counts = tf.math.bincount(channels, minlength=256, maxlength=256, axis=-1)
    brightest = tf.gather(counts, tf.reduce_max(channels, -1), batch_dims=1)
    step = (tf.reduce_sum(counts, -1) - brightest)[:, tf.newaxis] // _WHITE
    below = tf.cumsum(counts, -1, exclusive=True)
    table = tf.minimum((step // 2 + below) // tf.maximum(step, 1), _WHITE)
    found = tf.where(step > 0, tf.gather(table, channels, batch_dims=1), channels)
    return tf.reshape(tf.cast(tf.transpose(found), tf.float32) / _WHITE, image.shape)


def _bytes(image: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.round(image * _WHITE), tf.int32)
