"""Pixel values and sizes: bytes become floats in 0..1, and images are resized.

Training, prediction and every data source use these functions, so all see the same numbers. They
take NumPy arrays and TensorFlow tensors, single images [H,W,C] and batches [N,H,W,C].
"""

from collections.abc import Iterable
from typing import Any

import numpy as np


def scaled(images: Any, peak: float | None = None) -> Any:
    """Converts bytes (0..255) to float32 in 0..1, and other numbers to float32.

    Args:
        images: an array or a tensor.
        peak: the value of other numbers that becomes 1; None leaves them as they are.
    """
    if not isinstance(images, np.ndarray):
        import tensorflow as tf

        white = 255.0 if images.dtype == tf.uint8 else peak
        floats = tf.cast(images, tf.float32)
        return floats if white is None else floats / white
    white = 255 if images.dtype == np.uint8 else peak
    floats = images.astype(np.float32)
    return floats if white is None else floats / np.float32(white)


def resized(images: Any, sides: tuple[int, int]) -> Any:
    """Resizes images to this height and width by antialiased bilinear interpolation, if needed."""
    if tuple(images.shape[-3:-1]) == tuple(sides):
        return images
    import tensorflow as tf

    found = tf.image.resize(images, sides, antialias=True)
    return found.numpy() if isinstance(images, np.ndarray) else found


def white_of(largest: float) -> float:
    """The white of images with values up to `largest`: 255, 1023, 4095, 16383, 65535, ..."""
    return float(next(2**bits - 1 for bits in (8, 10, 12, 14, 16, 32, 1024) if largest < 2**bits))


def peak_of(splits: Iterable[np.ndarray[Any, Any]]) -> float | None:
    """The value that becomes 1 in arrays of images that are not bytes; None: they stay as they are.

    Integers are divided by their white. So are floats that are not negative and go beyond 2: nobody
    means these as shares of 1.
    """
    arrays = [array for array in splits if array.dtype != np.uint8]
    if not arrays or min(array.min() for array in arrays) < 0:
        return None
    largest = max(float(array.max()) for array in arrays)
    floats = all(np.issubdtype(array.dtype, np.floating) for array in arrays)
    return None if floats and largest <= 2 else white_of(largest)


def is_bytes_or_floats(images: np.ndarray[Any, Any]) -> bool:
    """Whether an array has a dtype of images."""
    return bool(images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating))
