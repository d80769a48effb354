"""Image files to arrays, as a viewer shows them: upright, on white, in gray or in colors.

Pillow decodes. One function looks at a file before anything is spent, another one reads it for
training and for prediction, so both see the same pixels.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize
from reskeras.words import in_bytes, printable

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
NAMES = "PNG, JPEG, GIF, BMP, WebP or TIFF"
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
_MOST_PIXELS = 200_000_000
"""A header that claims more is taken for damage: its image would fill gigabytes."""
_MOST_BYTES = 4 << 30
"""A larger file is no image of so few pixels, and would fill the memory."""
SHARES = 2
"""Values up to this are shares of 1; what is beyond counts from 0 to white."""
_DEEP = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
"""Pillow's modes of gray images with more than 8 bits."""
_WHITE_16 = 65535.0


Image.init()  # makes all formats known
# `_MOST_PIXELS` is our limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImageError(Exception):
    """A file that cannot be read as an image; the message says why, without the file's name."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a look at an image file says about it."""

    digest: str
    """Of the file's content."""
    size: tuple[int, int]
    """Height and width as a viewer shows them."""
    gray: bool
    deep: tuple[float, float] | None
    """The smallest and the largest value if pixels have more than 8 bits, otherwise None."""
    frames: int
    cut: bool = False
    """Whether colors have 16 bits, of which Pillow reads the upper 8."""


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts like this is in the DICOM format (PS3.10, section 7.1)."""
    return start[128:132] == b"DICM"


def look(path: Path, *, thorough: bool) -> Facts:
    """Looks at an image file without keeping its pixels.

    Args:
        path: the file.
        thorough: whether to decode a PNG or JPEG to find damage. Otherwise, the checksums of PNG
            and the end of both tell. Other formats are always decoded.

    Raises:
        BadImageError: it is not an image, or damaged.
    """
    if not os.path.isfile(path):  # opening a pipe waits
        raise BadImageError(
            "a link to nothing"
            if path.is_symlink()
            else "not a regular file"
            if path.exists()
            else "no such file"
        )
    try:
        with open(path, "rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > _MOST_BYTES:
                raise BadImageError(f"holds {in_bytes(size)}, more than any image")
            content = file.read()
    except OSError as error:
        raise BadImageError(error.strerror or str(error)) from error
    if is_dicom(content):
        raise BadImageError("a DICOM file; convert it to PNG, with 16 bits if it has more than 8")
    image = _opened(io.BytesIO(content), len(content))
    deep = None
    if image.mode in _DEEP or image.mode == "F":
        values = np.asarray(_loaded(image))
        if not np.isfinite(values).all():
            raise BadImageError("it holds values that are not finite")
        deep = float(values.min()), float(values.max())
    elif thorough:
        _loaded(image)
    else:
        _check_end(content, image.format or "")
    width, height = image.size[::-1] if _is_turned(image, content) else image.size
    return Facts(
        digest=hashlib.blake2b(content, digest_size=8).hexdigest(),
        size=(height, width),
        gray=image.mode in {"1", "L", "LA", "F"} | _DEEP,
        deep=deep,
        frames=_frames(image),
        # The header of a PNG: 16 bits, colors.
        cut=image.format == "PNG" and content[24:26] in (b"\x10\x02", b"\x10\x06"),
    )


def read_image(
    path: str | Path, image_shape: ImageShape, resize: Resize, peak: float | None = None
) -> Any:
    """An image file as an array [H,W,C], resized to a shape.

    Args:
        path: the file.
        image_shape: height, width, and 1 (gray) or 3 (colors) channels.
        resize: how it gets these sides (see `in_sides`).
        peak: as in `shown`.

    Returns:
        Bytes; or, for an image with more than 8 bits, float32 in 0..1.

    Raises:
        BadImageError: it is not an image, or damaged.
    """
    height, width, channels = image_shape
    # Pillow averages over all pixels where it shrinks an image.
    return pixels_of(
        in_sides(shown(path, channels, peak), (height, width), resize, Image.Resampling.BILINEAR),
        channels,
    )


def shown(path: str | Path, channels: int, peak: float | None = None) -> Image.Image:
    """An image file as a viewer shows it.

    Args:
        path: the file.
        channels: 1 (gray) or 3 (colors).
        peak: the value of white in images with more than 8 bits; None: the largest of their type.

    Returns:
        Bytes (mode L or RGB); or, for an image with more than 8 bits, gray float32 in 0..1 (F).

    Raises:
        BadImageError: it is not an image, or damaged.
    """
    image, white = unscaled(path, channels)
    if image.mode != "F":
        return image
    values = np.asarray(image)
    shares = white is None and values.max() <= SHARES
    return Image.fromarray(values / np.float32(peak or (1 if shares else _WHITE_16)))


def unscaled(path: str | Path, channels: int) -> tuple[Image.Image, float | None]:
    """An image file as a viewer shows it, but for the scale of images with more than 8 bits.

    Transparent images lie on white, turned ones are upright, and of several frames the first is
    read.

    Args:
        path: the file.
        channels: 1 (gray) or 3 (colors).

    Returns:
        Bytes (mode L or RGB); or, for an image with more than 8 bits, gray float32 with the values
        of the file (F). And the white of its type: None for floats and 32 bits, which have none.

    Raises:
        BadImageError: it is not an image, or damaged.
    """
    image = _upright(path)
    if image.mode in _DEEP or image.mode == "F":
        # Older versions of Pillow read 16 bits of a PNG as I.
        has_16 = image.mode not in ("I", "F") or (image.format or _format_of(path)) == "PNG"
        values = np.asarray(image).astype(np.float32)
        return Image.fromarray(values), _WHITE_16 if has_16 else None
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    found: Image.Image = image.convert("L" if channels == 1 else "RGB")
    return found, 255.0


def pixels_of(image: Image.Image, channels: int) -> Any:
    """The pixels [H,W,C] of an image that is `shown`; gray ones are repeated for colors."""
    found = np.asarray(image).reshape(image.height, image.width, -1)
    return np.repeat(found, channels, axis=-1) if found.shape[-1] < channels else found


def in_sides(
    image: Image.Image,
    sides: Sequence[int],
    resize: Resize,
    resampling: Image.Resampling,
    fill: int = 0,
) -> Image.Image:
    """An image with these sides.

    Args:
        image: with any sides.
        sides: height and width.
        resize: `stretch` changes its proportions; `crop` keeps as much as fits around its center;
            `pad` keeps all of it, between borders.
        resampling: Pillow's filter.
        fill: the value of the borders.
    """
    height, width = sides
    if image.size == (width, height):
        return image
    match resize:
        case "stretch":
            return _resized(image, (width, height), resampling)
        case "crop":
            part = image.crop(central_box(image.size, sides))
            return _resized(part, (width, height), resampling)
        case "pad":
            left, top, right, bottom = inner_box(image.size, sides)
            canvas = Image.new(image.mode, (width, height), fill)
            inner = _resized(image, (right - left, bottom - top), resampling)
            canvas.paste(inner, (left, top))
            return canvas
        case "patch":
            raise ValueError("images that patches are cut from keep their size")


def _resized(
    image: Image.Image, size: tuple[int, int], resampling: Image.Resampling
) -> Image.Image:
    """An image of this width and height: resized along rows, rounded, and then along columns."""
    # In one call, Pillow 13 swaps the two for some tall images, and older versions do not.
    return image.resize((size[0], image.height), resampling).resize(size, resampling)


def central_box(size: tuple[int, int], sides: Sequence[int]) -> tuple[int, int, int, int]:
    """The largest central part of an image with the proportions of `sides`.

    Args:
        size: width and height of the image.
        sides: height and width of the network's input.

    Returns:
        Left, top, right and bottom in whole pixels.
    """
    (width, height), (tall, wide) = size, sides
    # Rounded to the nearest pixel, in whole numbers: the exported layers do the same.
    inner = (
        min(width, max(1, (2 * height * wide + tall) // (2 * tall))),
        min(height, max(1, (2 * width * tall + wide) // (2 * wide))),
    )
    left, top = ((whole - part) // 2 for whole, part in zip(size, inner, strict=True))
    return left, top, left + inner[0], top + inner[1]


def inner_box(size: tuple[int, int], sides: Sequence[int]) -> tuple[int, int, int, int]:
    """The part of the network's input that a whole image fills; as in `central_box`."""
    (width, height), (tall, wide) = size, sides
    inner = (
        min(wide, max(1, (2 * tall * width + height) // (2 * height))),
        min(tall, max(1, (2 * wide * height + width) // (2 * width))),
    )
    left, top = ((whole - part) // 2 for whole, part in zip((wide, tall), inner, strict=True))
    return left, top, left + inner[0], top + inner[1]


def read_mask(path: str | Path) -> Any:
    """A mask as an array [H,W] of whole numbers: gray values, or the numbers of a palette.

    Raises:
        BadImageError: it is not an image, damaged, or in colors.
    """
    image = _upright(path)
    form, compression = image.format or _format_of(path), image.info.get("compression")
    if form in ("JPEG", "MPO", "WEBP") or compression == "jpeg":
        raise BadImageError("JPEG and WebP change the values of pixels; save masks as PNG")
    if form == "GIF":
        raise BadImageError("GIF renumbers its palette, and so the classes; save masks as PNG")
    if image.mode == "F":
        raise BadImageError("a mask of fractions; give one with a whole number for each class")
    if image.mode not in {"1", "L", "P"} | _DEEP:
        pixels = np.asarray(image.convert("RGB"))
        if (pixels != pixels[..., :1]).any():
            raise BadImageError("a mask in colors; give one with a number for each class")
        return pixels[..., 0].astype(np.int32)
    return np.asarray(image).astype(np.int32)


@contextlib.contextmanager
def naming_bad_images() -> Iterator[None]:
    """Turns a `BadImageError`, which TensorFlow may have wrapped, into a `RequestError`.

    Raises:
        RequestError: a file cannot be read.
    """
    try:
        yield
    except BadImageError as error:
        raise RequestError(str(error)) from error
    except Exception as error:
        if found := re.search(r"BadImageError: ([^\n]*)", str(error)):
            raise RequestError(found[1]) from error
        raise


@contextlib.contextmanager
def blaming(path: str | Path, kind: type[Exception] = RequestError) -> Iterator[None]:
    """Turns a `BadImageError` into an error of this kind that names the file."""
    try:
        yield
    except BadImageError as error:
        raise kind(f"{printable(path)}: {error}; fix or delete it") from error


@contextlib.contextmanager
def _damaging() -> Iterator[None]:
    """Turns what Pillow's readers raise for a damaged file, which can be anything."""
    try:
        yield
    except Exception as error:
        raise BadImageError(f"damaged: {error}") from error


def _upright(path: str | Path) -> Any:
    """An image file, decoded and turned as a viewer shows it."""
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            return ImageOps.exif_transpose(_loaded(_opened(file, size)))
    except OSError as error:
        raise BadImageError(error.strerror or str(error)) from error


def _format_of(path: str | Path) -> str | None:
    with Image.open(path, formats=_FORMATS) as image:  # a turned image forgets its own
        return image.format


def _opened(file: Any, size: int) -> Any:
    if size == 0:
        raise BadImageError("the file is empty")
    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise BadImageError(f"not a {NAMES} image") from error
    except Image.DecompressionBombError as error:
        raise BadImageError("its header claims a size that no photograph has") from error
    except Exception as error:  # as in `_damaging`
        raise BadImageError(f"damaged: {error}") from error
    if image.width * image.height > _MOST_PIXELS:
        raise BadImageError(f"its header claims {image.width} x {image.height} pixels")
    return image


def _is_turned(image: Any, content: bytes) -> bool:
    """Whether a viewer turns an image by a quarter; Pillow does so itself for TIFF."""
    # Asked for the tags of a PNG, Pillow decodes all of it.
    tagged = b"eXIf" in content or b"tiff:Orientation" in content
    if image.format == "TIFF" or (image.format == "PNG" and not tagged):
        return False
    with _damaging():
        return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def _frames(image: Any) -> int:
    with _damaging():  # counting reads on to the end of the file
        return int(getattr(image, "n_frames", 1))


def _loaded(image: Any) -> Any:
    with _damaging():
        image.load()
    return image


def _check_end(content: bytes, form: str) -> None:
    """Raises BadImageError if a file ends before its image does, or a checksum is wrong."""
    match form:
        case "JPEG" | "MPO":
            whole = _segments_are_whole(content)
        case "PNG":
            whole = _chunks_are_whole(content)
        case _:
            _loaded(Image.open(io.BytesIO(content), formats=_FORMATS))
            whole = True
    if not whole:
        raise BadImageError("damaged: the file ends too early, or a checksum is wrong")


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""What can follow the pixels of a JPEG: no stuffed zero, and no marker that stands among them."""


def _segments_are_whole(content: bytes) -> bool:
    """Whether a JPEG reaches its end marker; those inside a segment, of a thumbnail, do not count.

    What follows the end does not matter: phones put videos there.
    """
    place = 2
    while found := _MARKER.search(content, place):
        place = found.start() + 2
        if content[place - 1] == 0xD9:
            return True
        place += int.from_bytes(content[place : place + 2], "big")
    return False


def _chunks_are_whole(content: bytes) -> bool:
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunk = content[place + 4 : place + 8 + length]
        sum_ = content[place + 8 + length : place + 12 + length]
        if int.from_bytes(sum_, "big") != zlib.crc32(chunk) or len(sum_) < 4:
            return False
        if chunk.startswith(b"IEND"):
            return True
        place += 12 + length
    return False
