"""Pixel values and sizes: bytes become floats in 0..1, and images are resized.

Training, prediction and every data source use these functions, so all see the same numbers. They
take NumPy arrays and TensorFlow tensors, single images [H,W,C] and batches [N,H,W,C].
"""

from typing import Any

import numpy as np


def scaled(images: Any) -> Any:
    """Converts bytes (0..255) to float32 in 0..1, and floats to float32 unchanged."""
    if not isinstance(images, np.ndarray):
        import tensorflow as tf

        floats = tf.cast(images, tf.float32)
        return floats / 255.0 if images.dtype == tf.uint8 else floats
    floats = images.astype(np.float32)
    return floats / np.float32(255) if images.dtype == np.uint8 else floats


def resized(images: Any, sides: tuple[int, int]) -> Any:
    """Resizes images to this height and width by antialiased bilinear interpolation, if needed."""
    if tuple(images.shape[-3:-1]) == tuple(sides):
        return images
    import tensorflow as tf

    found = tf.image.resize(images, sides, antialias=True)
    return found.numpy() if isinstance(images, np.ndarray) else found


def is_bytes_or_floats(images: np.ndarray[Any, Any]) -> bool:
    """Whether an array has a dtype of images."""
    return bool(images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating))
