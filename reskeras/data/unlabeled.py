"""Images without labels, for prediction: files, folders of them, and arrays."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.arrays import UNREADABLE
from reskeras.data.decode import SHARES, SUFFIXES, blaming, read_image
from reskeras.data.files import check_image, images_below
from reskeras.data.pixels import FAR, is_bytes_or_floats, resized, scaled
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Pixels, Resize
from reskeras.words import printable

_ARRAYS = (".npy", ".npz")
_LISTED = 10
"""Unreadable files that a message names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Image files, or an array of images."""

    names: tuple[str, ...]
    """For each image: its path, or the array's path with the image's index."""
    places: tuple[str, ...]
    """For each image: its place in the request, without a suffix; masks are named after it."""
    files: tuple[Path, ...] = ()
    array: Any = None
    """Images [N,H,W,C]; None for files."""
    unreadable: tuple[str, ...] = ()
    """Files of a folder that are left out, each with the reason."""

    def batches(
        self,
        image_shape: ImageShape,
        size: int,
        peak: float | None = None,
        resize: Resize = "stretch",
        pixels: Pixels = "bytes",
    ) -> Iterator[Any]:
        """Yields arrays of images [<=size,H,W,C] in order, preprocessed as in training.

        Args:
            image_shape: height, width and channels of the network's images.
            size: images per array.
            peak: `ImageData.peak` of the network's data.
            resize: `ImageData.resize` of the network's data.
            pixels: `ImageData.pixels` of the network's data.

        Raises:
            RequestError: a file cannot be decoded, or an array has another number of channels.
        """
        return (
            self._files(image_shape, size, peak, resize)
            if self.array is None
            else self._arrays(image_shape, size, peak, resize, pixels)
        )

    def _files(
        self, image_shape: ImageShape, size: int, peak: float | None, resize: Resize
    ) -> Iterator[Any]:
        def read(path: Path) -> Any:
            with blaming(path):
                return scaled(read_image(path, image_shape, resize, peak))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self.files), size):
                yield np.stack(list(pool.map(read, self.files[start : start + size])))

    def _arrays(
        self,
        image_shape: ImageShape,
        size: int,
        peak: float | None,
        resize: Resize,
        pixels: Pixels,
    ) -> Iterator[Any]:
        if self.array.shape[3] != image_shape[2]:
            raise RequestError(
                f"{self.names[0]}: images with {self.array.shape[3]} channels; the network "
                f"takes {image_shape[2]}"
            )
        white = self._white(peak, pixels)
        for start in range(0, len(self.array), size):
            images = self.array[start : start + size]
            if images.dtype != np.uint8:
                images = scaled(images, white)
            # Bytes are rounded to bytes before they are scaled, as in files.
            yield scaled(resized(images, image_shape[:2], resize))

    def _white(self, peak: float | None, pixels: Pixels) -> float | None:
        """The value of the array that becomes 1, if its images are not bytes.

        Raises:
            RequestError: the network has seen images of another scale.
        """
        if self.array.dtype == np.uint8:
            return None
        low, high = float(self.array.min()), float(self.array.max())
        fractions = high <= SHARES and bool((self.array % 1 != 0).any())
        seen, white = "", peak
        if peak is not None:
            seen = "" if low >= 0 and high <= peak else f"images from 0 to {peak:,.6g}"
            white = None if fractions else peak  # fractions are shares of 1 already
        elif pixels == "bytes" and not (low >= 0 and high <= SHARES):
            seen = "bytes: give bytes, or numbers in 0..1"
        elif max(high, -low) > FAR:
            seen = "numbers near 0, used as they are"
        if seen:
            raise RequestError(
                f"{self.names[0]}: values from {low:,.6g} to {high:,.6g}; the network was trained "
                f"on {seen}"
            )
        return white


def open_images(paths: Sequence[Path]) -> list[ImageSet]:
    """Finds images: files, folders (including subfolders), and arrays in `.npy` and `.npz` files.

    An array holds images [N,H,W] or [N,H,W,C], bytes or floats in 0..1. If an `.npz` holds several
    arrays, `x_test` is used.

    Raises:
        RequestError: a path does not exist, or holds no readable image.
    """
    return [_open(path) for path in paths]


def _open(path: Path) -> ImageSet:
    if path.suffix.lower() in _ARRAYS and path.is_file():
        array = _images(path)
        numbers = range(len(array))
        return ImageSet(
            names=tuple(f"{path}[{number}]" for number in numbers),
            places=tuple(f"{path.stem}-{number:05}" for number in numbers),
            array=array,
        )
    if path.is_dir():
        files = images_below(path)
        if not files:
            raise RequestError(f"{path}: a folder without images ({', '.join(sorted(SUFFIXES))})")
    elif not path.is_file():
        raise RequestError(f"{path}: no such file or folder of images")
    else:
        files = [path]
    readable, unreadable = [], []
    for file in files:
        try:
            check_image(file)
        except RequestError as error:
            unreadable.append(str(error))
        else:
            readable.append(file)
    if not readable:
        told = "\n".join(unreadable[:_LISTED])
        more = f"\nand {len(unreadable) - _LISTED:,} more" if len(unreadable) > _LISTED else ""
        raise RequestError(f"{told}{more}")
    files = readable
    root = path if path.is_dir() else path.parent
    return ImageSet(
        names=tuple(map(printable, files)),
        places=tuple(printable(file.relative_to(root).with_suffix("")) for file in files),
        files=tuple(files),
        unreadable=tuple(unreadable),
    )


def _images(path: Path) -> Any:
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            with array as file:
                (key,) = file.files if len(file.files) == 1 else ("x_test",)
                if key not in file.files:
                    raise RequestError(
                        f"{path}: give it one array, or one named x_test (it has "
                        f"{', '.join(file.files) or 'none'})"
                    )
                array = file[key]
    except RequestError:
        raise
    except UNREADABLE as error:
        raise RequestError(f"{path}: not an array of images: {error or 'it is empty'}") from error
    shape = array.shape
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or 0 in array.shape:
        raise RequestError(f"{path}: an array of shape {shape}; images are [N,H,W] or [N,H,W,C]")
    if not is_bytes_or_floats(array) and not np.issubdtype(array.dtype, np.integer):
        raise RequestError(f"{path}: an array of {array.dtype}; images are integers or floats")
    if not np.isfinite(array).all():
        raise RequestError(f"{path}: values that are not finite")
    return array
