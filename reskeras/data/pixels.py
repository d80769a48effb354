"""Pixel values and sizes: bytes become floats in 0..1, and images are resized.

Training, prediction and every data source use these functions, so all see the same numbers. They
take single images [H,W,C] and batches [N,H,W,C].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from reskeras.data.decode import SHARES, central_box, in_sides, inner_box
from reskeras.errors import RequestError
from reskeras.spec import Resize

FAR = 10
"""Values that stay as they are and go further from 0 than this are worth a note."""


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


def resized(images: Any, sides: Sequence[int], resize: Resize = "stretch") -> Any:
    """Resizes images as image files are, if needed: by Pillow, which averages where it shrinks.

    Args:
        images: an array. Bytes stay bytes, other numbers become float32.
        sides: height and width.
        resize: how they get these sides (see `in_sides`).
    """
    if tuple(images.shape[-3:-1]) == tuple(sides):
        return images
    planes = images if images.dtype == np.uint8 else images.astype(np.float32)
    planes = np.moveaxis(planes, -1, -3).reshape(-1, *images.shape[-3:-1])
    found = np.stack([_plane(plane, sides, resize) for plane in planes])
    return np.moveaxis(found.reshape(*images.shape[:-3], images.shape[-1], *sides), -3, -1)


def resized_mask(
    mask: Any,
    sides: Sequence[int],
    resize: Resize,
    values: Sequence[int] | np.ndarray[Any, Any],
    ignore: int | None,
) -> Any:
    """Resizes a mask [H,W] as its image is; a pixel takes the value of the nearest one.

    Args:
        mask: an array.
        sides: height and width.
        resize: how it gets these sides (see `in_sides`).
        values: of the classes, in order; borders have the first of them.
        ignore: the value of pixels without a class, which borders then have; None: all have one.
    """
    # Classes have no values between them.
    image, nearest = Image.fromarray(np.ascontiguousarray(mask)), Image.Resampling.NEAREST
    fill = int(values[0]) if ignore is None else ignore
    return np.asarray(in_sides(image, sides, resize, nearest, fill))


def moved_points(points: Any, size: Sequence[int], sides: Sequence[int], resize: Resize) -> Any:
    """Points of an image where they are after it is resized; NaN where they are cut off.

    Args:
        points: [...,2], each x and y in pixels, where the center of the first pixel is 0.
        size: height and width of the image.
        sides: height and width that it gets.
        resize: how (see `in_sides`).
    """
    (height, width), (tall, wide) = size, sides
    if (height, width) == (tall, wide):
        return points
    source, target = (0, 0, width, height), (0, 0, wide, tall)
    if resize == "crop":
        source = central_box((width, height), sides)
    elif resize == "pad":
        target = inner_box((width, height), sides)
    corners = [np.array(box, np.float32).reshape(2, 2) for box in (source, target)]
    (start, stop), (first, last) = corners
    moved = (points + 0.5 - start) * ((last - first) / (stop - start)) + first - 0.5
    outside = (moved < -0.5) | (moved > np.array([wide, tall]) - 0.5)
    moved[outside.any(axis=-1)] = np.nan
    return moved.astype(np.float32)


def _plane(values: np.ndarray[Any, Any], sides: Sequence[int], resize: Resize) -> Any:
    """One channel of an image, resized."""
    image = in_sides(Image.fromarray(values), sides, resize, Image.Resampling.BILINEAR)
    return np.asarray(image)


def white_of(largest: float) -> float:
    """The white of images with values up to `largest`: 255, 1023, 4095, 16383, 65535, ..."""
    whites = (2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 32, 64))
    return next((white for white in whites if largest <= white), largest)


def range_of(
    splits: Mapping[str, np.ndarray[Any, Any]], where: str, notes: list[str]
) -> float | None:
    """The value that becomes 1 in arrays of images that are not bytes; None: they stay as they are.

    Integers are divided by their white. So are floats that are not negative and go beyond 2: nobody
    means these as shares of 1.

    Args:
        splits: images of each split.
        where: start of each line of an error.
        notes: gets a note if images are divided, or stay far outside 0..1.

    Raises:
        RequestError: one split is in 0..1 and another one is not.
    """
    arrays = {split: array for split, array in splits.items() if array.dtype != np.uint8}
    if not arrays:
        return None
    low = min(float(array.min()) for array in arrays.values())
    largest = {split: float(array.max()) for split, array in arrays.items()}
    high = max(largest.values())
    if low < 0:
        if len(arrays) < len(splits) or high > FAR * max(1, *map(_size_of, arrays.values())):
            told = ", ".join(
                f"x_{name} from {array.min():,.6g} to {array.max():,.6g}"
                for name, array in splits.items()
            )
            raise RequestError(f"{where}: the splits have other scales ({told}); scale them alike")
        if max(high, -low) > FAR:
            notes.append(f"images hold values from {low:,.6g} to {high:,.6g}, used as they are")
        return None
    if high <= SHARES:
        return None
    for split, array in arrays.items():
        # A dark split holds whole numbers, too; fractions up to 1 are another scale.
        if largest[split] <= SHARES and (array % 1 != 0).any():
            told = ", ".join(f"x_{name} up to {value:,.6g}" for name, value in largest.items())
            raise RequestError(f"{where}: the splits have other scales ({told}); scale them alike")
    white = white_of(high)
    notes.append(f"images are not bytes and go up to {high:,.6g}: {white:,.0f} becomes white")
    return white


def _size_of(array: np.ndarray[Any, Any]) -> float:
    """How far a split with negative values goes from 0; 0 for others."""
    low = float(array.min())
    return max(float(array.max()), -low) if low < 0 else 0.0


def is_bytes_or_floats(images: np.ndarray[Any, Any]) -> bool:
    """Whether an array has a dtype of images."""
    return bool(images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating))


def is_finite(values: np.ndarray[Any, Any]) -> bool:
    """Whether all numbers are finite, also as float32."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32, copy=False)).all())
