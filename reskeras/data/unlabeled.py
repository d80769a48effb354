"""Images without labels, for prediction: files, folders, patterns, arrays and volumes."""

import abc
import collections
import dataclasses
import glob
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from reskeras.data.arrays import UNREADABLE
from reskeras.data.decode import SHARES, SUFFIXES, BadImageError, in_sides, pixels_of, unscaled
from reskeras.data.files import check_image, images_below, is_image, volumes_below
from reskeras.data.frames import Frame
from reskeras.data.kinds import enlarged
from reskeras.data.pixels import FAR, is_bytes_or_floats, resized, scaled
from reskeras.data.volumes import Volume, is_volume, prepared, read_volume
from reskeras.errors import RequestError
from reskeras.spec import Pixels, Resize
from reskeras.words import printable

_ARRAYS = (".npy", ".npz")
_MANY = {1: "signals", 2: "images", 3: "volumes"}
_AXES = {1: "L", 2: "H,W", 3: "D,H,W"}
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How a network sees images: as those that it was trained on."""

    image_shape: tuple[Any, ...]
    """Sides and channels of the network's input; sides are None if any will do."""
    resize: Resize = "stretch"
    peak: float | None = None
    """As `ImageData.peak`."""
    pixels: Pixels = "bytes"
    enlarge: int = 1
    """How many times images are enlarged before the network sees them."""
    spacing: tuple[float, ...] = ()
    """As `ImageData.spacing`."""
    own_size: bool = False
    """Whether images keep their own sides."""

    @classmethod
    def of(
        cls, record: Mapping[str, Any], image_shape: Sequence[Any], *, own_size: bool = False
    ) -> "View":
        """That of a network with the facts of its data, as `ImageData.about` has them."""
        return cls(
            image_shape=tuple(image_shape),
            resize=record.get("resize", "stretch"),
            peak=record.get("peak"),
            pixels=record.get("pixels", "bytes"),
            enlarge=record.get("enlarge", 1),
            spacing=tuple(record.get("spacing", ())),
            own_size=own_size or None in image_shape[:-1],
        )

    @property
    def rank(self) -> int:
        """The number of sides."""
        return len(self.image_shape) - 1

    def frame(self, size: Sequence[int]) -> Frame:
        """How an image of this size gets its sides, before it is enlarged."""
        whole = tuple(size)
        if self.own_size:
            return Frame(whole, whole, self.resize, self.enlarge)
        sides = tuple(side // self.enlarge for side in self.image_shape[:-1])
        return Frame(whole, sides, self.resize, self.enlarge)


class Seen(NamedTuple):
    """An image as a network sees it."""

    image: Any
    """float32 [*sides,C]."""
    frame: Frame
    volume: Volume | None = None
    """The volume that it is, if it was read from NIfTI."""


class Source(abc.ABC):
    """Images from one place of a request."""

    names: tuple[str, ...]
    """For each image: its path, or the array's path with the image's index."""
    places: tuple[str, ...]
    """For each image: its place in the request, after which what is written is named."""

    @abc.abstractmethod
    def reader(self, view: View) -> Callable[[int], Seen]:
        """A function that reads the image of a number; it raises BadImageError.

        Raises:
            RequestError: a network cannot take such images.
        """

    @abc.abstractmethod
    def picture(self, number: int, view: View) -> Image.Image:
        """An image in its own size and in colors, for people; of images with two sides."""


class Files(Source):
    """Image files."""

    def __init__(self, files: Sequence[Path], root: Path) -> None:
        self._files = tuple(files)
        self.names = tuple(map(printable, files))
        places = [_within(file, root) for file in files]
        without = collections.Counter(place.with_suffix("") for place in places)
        self.places = tuple(
            # a.png beside a.jpg keeps its suffix.
            printable(place.with_suffix("") if without[place.with_suffix("")] == 1 else place)
            for place in places
        )

    def reader(self, view: View) -> Callable[[int], Seen]:
        channels = view.image_shape[-1]
        if view.rank != 2 or channels not in (1, 3):
            raise RequestError(
                f"{self.names[0]}: an image, which has two sides and 1 or 3 channels; the network "
                f"takes {_MANY[view.rank]} of {channels} channel{'s' if channels > 1 else ''}"
            )

        def read(number: int) -> Seen:
            image = _shown(self._files[number], channels, view)
            frame = view.frame((image.height, image.width))
            image = in_sides(image, frame.sides, view.resize, Image.Resampling.BILINEAR)
            return _as_seen(pixels_of(image, channels), frame)

        return read

    def picture(self, number: int, view: View) -> Image.Image:
        image = _shown(self._files[number], 3, view)
        return _in_colors(np.asarray(image)) if image.mode == "F" else image


class Array(Source):
    """The images of an array."""

    def __init__(self, path: Path) -> None:
        self._array = _images(path)
        numbers = range(len(self._array))
        self.names = tuple(f"{path}[{number}]" for number in numbers)
        self.places = tuple(f"{path.stem}-{number:05}" for number in numbers)

    def reader(self, view: View) -> Callable[[int], Seen]:
        images, channels = self._of_rank(view.rank), view.image_shape[-1]
        many, sides = _MANY[view.rank], images.shape[1:-1]
        if images.shape[-1] != channels:
            raise RequestError(
                f"{self.names[0]}: {many} with {images.shape[-1]} channels; the network takes "
                f"{channels}"
            )
        frame = view.frame(sides)
        if frame.sides != sides and view.rank != 2:
            raise RequestError(
                f"{self.names[0]}: {many} of {_by(sides)}; the network takes {_by(frame.sides)}"
            )
        try:
            white = _white(images, view)
        except BadImageError as error:
            raise RequestError(f"{self.names[0]}: {error}") from error

        def read(number: int) -> Seen:
            image = images[number]
            # Bytes are rounded to bytes before they are scaled, as in files.
            image = image if image.dtype == np.uint8 else scaled(image, white)
            if frame.size != frame.sides:
                image = resized(image, frame.sides, view.resize)
            return _as_seen(image, frame)

        return read

    def picture(self, number: int, view: View) -> Image.Image:
        images = self._of_rank(view.rank)
        image = images[number]
        if image.dtype != np.uint8:
            image = scaled(image, _white(images[number], view))
        return _in_colors(image)

    def _of_rank(self, rank: int) -> Any:
        """The images [N,*sides,C] with so many sides."""
        match self._array.ndim - rank:
            case 1:
                return self._array[..., np.newaxis]
            case 2:
                return self._array
            case _:
                raise RequestError(
                    f"{self.names[0]}: an array of shape {self._array.shape}; the network takes "
                    f"{_MANY[rank]} [N,{_AXES[rank]}] or [N,{_AXES[rank]},C]"
                )


class Volumes(Source):
    """A volume in a NIfTI file."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self.names = (printable(path),)
        self.places = (re.sub(r"(?i)\.nii(\.gz)?$", "", printable(_within(path, root))),)

    def reader(self, view: View) -> Callable[[int], Seen]:
        channels = view.image_shape[-1]
        if view.rank != 3:
            raise RequestError(f"{self.names[0]}: a volume; the network takes {_MANY[view.rank]}")

        def read(number: int) -> Seen:
            volume = read_volume(self._path)
            if view.spacing:
                volume = prepared(volume, view.spacing)
            image = volume.array
            frame = view.frame(image.shape[:-1])
            if image.shape[-1] != channels:
                raise BadImageError(f"{image.shape[-1]} channels; the network takes {channels}")
            if frame.size != frame.sides:
                raise BadImageError(
                    f"a volume of {_by(frame.size)}; the network takes {_by(frame.sides)}"
                )
            seen = image if view.spacing else scaled(image, _white(image, view))
            return Seen(seen, frame, volume)

        return read

    def picture(self, number: int, view: View) -> Image.Image:
        raise ValueError("volumes have no picture")


def open_images(paths: Sequence[Path]) -> list[Source]:
    """Finds images: files, folders (including subfolders), patterns, arrays and volumes.

    Files of a folder or a pattern are in natural order: 2.png before 10.png. Patterns are those of
    `glob`, where `**` stands for any folders. A `.npy` or `.npz` holds [N,*sides] or [N,*sides,C],
    bytes or floats; if an `.npz` holds several arrays, `x_test` is used. Files with the names of
    images are read later.

    Raises:
        RequestError: a path does not exist, or holds no image.
    """
    return [source for path in paths for source in _open(path)]


def in_order(
    pool: Executor, function: Callable[[_Item], _Found], items: Iterable[_Item], ahead: int
) -> Iterator[_Found]:
    """What a function makes of items, in their order; a pool works on the next ones meanwhile.

    Args:
        pool: runs the function.
        function: of one item.
        items: taken as they are needed.
        ahead: how many items are in work or wait to be taken.
    """
    waiting: collections.deque[Future[_Found]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _open(path: Path) -> list[Source]:
    suffix = path.suffix.lower()
    if path.is_dir():
        files = sorted(images_below(path), key=_natural)
        volumes = sorted(volumes_below(path), key=_natural)
        if not files and not volumes:
            raise RequestError(f"{path}: a folder without images ({', '.join(sorted(SUFFIXES))})")
        images = [Files(files, path)] if files else []
        return [*images, *(Volumes(volume, path) for volume in volumes)]
    if not path.is_file():
        if glob.has_magic(str(path)):
            return _matching(path)
        raise RequestError(f"{path}: no such file or folder of images")
    if suffix in _ARRAYS:
        return [Array(path)]
    if is_volume(path):
        return [Volumes(path, path.parent)]
    if suffix not in SUFFIXES:
        check_image(path)  # what is not even called an image may be a mistake
    return [Files([path], path.parent)]


def _matching(pattern: Path) -> list[Source]:
    found = [Path(each) for each in glob.glob(str(pattern), recursive=True)]
    files = sorted((path for path in found if is_image(path)), key=_natural)
    others = sorted(
        (
            path
            for path in found
            if path.is_file() and (path.suffix.lower() in _ARRAYS or is_volume(path))
        ),
        key=_natural,
    )
    if not files and not others:
        raise RequestError(f"{pattern}: no image has such a name")
    root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts[:-1]))
    return [
        *([Files(files, root)] if files else []),
        *(Volumes(path, root) if is_volume(path) else Array(path) for path in others),
    ]


def _within(file: Path, root: Path) -> Path:
    """The place of a file in a folder; its name alone if the way to it leads up."""
    place = file.relative_to(root) if file.is_relative_to(root) else file
    return Path(file.name) if place.is_absolute() or ".." in place.parts else place


def _natural(path: Path) -> list[list[tuple[int, int, str]]]:
    """A key that sorts the numbers in names by their values."""
    return [
        [
            (0, int(word), word) if word.isdecimal() else (1, 0, word)
            for word in re.split(r"(\d+)", part)
            if word
        ]
        for part in path.parts
    ]


def _as_seen(image: Any, frame: Frame) -> Seen:
    if frame.enlarge > 1:
        (image,) = enlarged(image[np.newaxis], frame.enlarge)
    return Seen(scaled(image), frame)


def _shown(path: Path, channels: int, view: View) -> Image.Image:
    """An image file as a network has seen such files in training.

    Returns:
        Bytes (mode L or RGB); or, for an image with more than 8 bits, gray float32 (F).

    Raises:
        BadImageError: it is not an image, damaged, or of another scale.
    """
    image, white = unscaled(path, channels)
    if image.mode != "F":
        return image
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise BadImageError("it holds values that are not finite")
    if white is None or view.peak is not None:
        _white(values, view)  # refuses what the network has not seen
        white = view.peak
    return Image.fromarray(scaled(values, white))


def _white(images: Any, view: View) -> float | None:
    """The value that becomes 1, if images are not bytes.

    Raises:
        BadImageError: the network has seen images of another scale.
    """
    if images.dtype == np.uint8:
        return None
    low, high = float(images.min()), float(images.max())
    fractions = high <= SHARES and bool((images % 1 != 0).any())
    seen, white = "", view.peak
    if view.peak is not None:
        # Shares of 1 may go a little beyond it.
        most = SHARES if view.peak == 1 else view.peak
        seen = "" if low >= 0 and high <= most else f"images from 0 to {view.peak:,.6g}"
        white = None if fractions else view.peak  # fractions are shares of 1 already
    elif view.pixels == "bytes" and not (low >= 0 and high <= SHARES):
        seen = "bytes: give bytes, or numbers in 0..1"
    elif max(high, -low) > FAR:
        seen = "numbers near 0, used as they are"
    if seen:
        raise BadImageError(
            f"values from {low:,.6g} to {high:,.6g}; the network was trained on {seen}"
        )
    return white


def _in_colors(values: Any) -> Image.Image:
    """Pixels [H,W] or [H,W,C], bytes or floats, as a viewer would show them."""
    if values.dtype != np.uint8:
        low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
        values = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    values = values.reshape(*values.shape[:2], -1)
    channels = values[..., :3] if values.shape[-1] >= 3 else np.repeat(values[..., :1], 3, -1)
    return Image.fromarray(channels)


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


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
    if array.ndim < 2 or 0 in array.shape:
        raise RequestError(
            f"{path}: an array of shape {array.shape}; images are [N,H,W] or [N,H,W,C]"
        )
    if not is_bytes_or_floats(array) and not np.issubdtype(array.dtype, np.integer):
        raise RequestError(f"{path}: an array of {array.dtype}; images are integers or floats")
    if not np.isfinite(array).all():
        raise RequestError(f"{path}: values that are not finite")
    return array
