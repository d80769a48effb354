"""Decoded images in files: each is decoded once, for all epochs, trials, processes and searches.

tf.data's own `cache` and `snapshot` give elements back in the order in which they were written;
these files are read at any place, so every epoch is a new random order of all images.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import PIL

from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData, Places, RowReader
from reskeras.data.options import Cache
from reskeras.errors import RequestError
from reskeras.files import cache_folder, replacing
from reskeras.tasks import Labels
from reskeras.words import in_bytes, printable

_FORM = 1
"""Changes when files of an earlier version are not to be read."""
_SMALL_BYTES = 64 << 20
"""Data whose files are smaller decode in seconds, so every process decodes its own."""
_UNUSED_SECONDS = 30 * 24 * 3600.0
"""Images that no process has read for this long make room for others."""
_BATCH = 64


def cached(data: ImageData, on_images: Callable[[int], None] | None = None) -> ImageData:
    """Image data whose decoded images stay where `DataOptions.cache` says.

    Images on disk are decoded here, unless they are there already; those in memory by each process
    that uses them. Arrays need neither.

    Args:
        data: from any source.
        on_images: called while images are decoded, with the number of images since the last call.

    Raises:
        RequestError: the disk is too small or cannot be written, or an image cannot be read.
    """
    reader, cache = data.reader, data.options.cache
    if (
        not reader.encoded_bytes
        or cache in (Cache.NONE, Cache.MEMORY)
        or (cache is Cache.AUTO and stays_in_memory(data))
    ):
        return data
    stored = Stored(data)
    if stored.missing:
        needed, free = stored.bytes, _free(stored.folder)
        told = (
            f"decoded images take {in_bytes(needed)}, and {in_bytes(free)} are free in "
            f"{printable(stored.folder.parent)}"
        )
        if cache is Cache.DISK and needed > free:
            raise RequestError(
                f"{told}; make room, set XDG_CACHE_HOME to a folder on a larger disk, or use "
                "--cache none"
            )
        if cache is Cache.AUTO and needed > free / 2:
            if not data.in_memory:
                told += ", of which half may be used: every epoch decodes them again"
                return dataclasses.replace(data, notes=tuple(dict.fromkeys((*data.notes, told))))
            return data
        stored.fill(on_images)
    options = dataclasses.replace(data.options, cache=Cache.DISK)
    return dataclasses.replace(data, reader=stored, options=options)


def stays_in_memory(data: ImageData) -> bool:
    """Whether `cached` leaves data in the memory of each process, however large the disk is."""
    return data.in_memory and data.reader.encoded_bytes <= _SMALL_BYTES


class Stored(RowReader):
    """Reads images from files of a cache folder.

    In another process it opens the same files. If they are not there (on another machine, or after
    somebody has deleted them), it makes them again.
    """

    def __init__(self, data: ImageData) -> None:
        self._inner, self._sizes = data.reader, dict(data.sizes)
        self.dtype = np.dtype(data.reader.dtype)
        self._image = tuple(data.image_shape)
        self._label, self._kind = tuple(data.label_shape), data.task.labels
        self._label_dtype = _label_dtype(data)
        facts = (
            _FORM,
            PIL.__version__,
            data.digest,
            data.image_shape,
            data.resize,
            data.peak,
            self.dtype.str,
        )
        self._key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        self._open: dict[Path, tuple[Any, int]] = {}

    @property
    def folder(self) -> Path:
        return cache_folder() / "decoded" / self._key

    @property
    def missing(self) -> list[str]:
        """The splits whose files are not there, or damaged."""
        return [split for split in self._sizes if not all(f.is_whole() for f in self._files(split))]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for split in self._sizes for file in self._files(split))

    def fill(self, on_images: Callable[[int], None] | None = None) -> None:
        """Makes the files that are missing; other processes wait.

        Raises:
            RequestError: they cannot be written, or an image cannot be read.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder.with_suffix(".lock")):
                missing = self.missing
                if missing:
                    _make_room(self.folder)
                    for partial in self.folder.glob(".*.partial.*"):  # of a process that was killed
                        partial.unlink(missing_ok=True)
                for split in missing:
                    self._write(split, on_images)
        except OSError as error:
            raise RequestError(
                f"cannot write decoded images to {printable(self.folder)}: {error.strerror}; set "
                "XDG_CACHE_HOME to another folder, or use --cache none"
            ) from error

    def size(self, split: str) -> int:
        return self._sizes[split]

    def rows(self, split: str, places: Places) -> tuple[Any, Any]:
        images, labels = (self._read(file, places) for file in self._files(split))
        return images, labels if self._kind is Labels.IMAGE else labels.astype(self._kind.dtype)

    def classes_of(self, split: str) -> Any:
        if self._kind is not Labels.CLASS:
            return None
        (_, labels) = self._files(split)
        return self._read(labels, np.arange(self._sizes[split])).astype(np.int32)

    def labels_of(self, split: str) -> Any:
        if self._kind.has_sides:
            return None
        (_, labels) = self._files(split)
        return self._read(labels, np.arange(self._sizes[split])).astype(self._kind.dtype)

    def called(self, split: str, place: int) -> str:
        return self._inner.called(split, place)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def _files(self, split: str) -> tuple["_File", "_File"]:
        count = self._sizes[split]
        return (
            _File(self.folder / f"{split}.images.npy", (count, *self._image), self.dtype),
            _File(self.folder / f"{split}.labels.npy", (count, *self._label), self._label_dtype),
        )

    def _write(self, split: str, on_images: Callable[[int], None] | None) -> None:
        images, labels = self._files(split)
        with (
            naming_bad_images(),
            replacing(labels.path) as label_path,
            replacing(images.path) as image_path,
            image_path.open("wb") as image_file,
            label_path.open("wb") as label_file,
        ):
            images.begin(image_file)
            labels.begin(label_file)
            for image_batch, label_batch in self._decoded(split):
                image_file.write(np.ascontiguousarray(image_batch, self.dtype).data)
                label_file.write(np.ascontiguousarray(label_batch, self._label_dtype).data)
                if on_images is not None:
                    on_images(len(image_batch))

    def _decoded(self, split: str) -> Iterator[tuple[Any, Any]]:
        """Batches of a split in its stored order."""
        inner, size = self._inner, self._sizes[split]
        if isinstance(inner, RowReader):
            for start in range(0, size, _BATCH):
                yield inner.rows(split, np.arange(start, min(size, start + _BATCH)))
        else:
            yield from inner.stored(split).batch(_BATCH).prefetch(2).as_numpy_iterator()

    def _read(self, file: "_File", places: Places) -> Any:
        if file.path not in self._open:
            if not file.is_whole():
                self.fill()
            with contextlib.suppress(OSError):  # a read-only file system
                os.utime(self.folder)
            self._open[file.path] = file.path.open("rb", buffering=0), file.header_bytes
        return file.read(*self._open[file.path], places)


class _File(NamedTuple):
    """An array in a `.npy` file, whose rows are read one by one.

    Not mapped into memory: pages of a map count as memory of the process.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: Any

    @property
    def row_bytes(self) -> int:
        return int(math.prod(self.shape[1:])) * int(np.dtype(self.dtype).itemsize)

    @property
    def header_bytes(self) -> int:
        with self.path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return file.tell()

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes

    def is_whole(self) -> bool:
        try:
            return self.path.stat().st_size == self.header_bytes + self.bytes
        except (OSError, ValueError):
            return False

    def begin(self, file: Any) -> None:
        """Writes the header; rows follow."""
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape},
        )

    def read(self, opened: Any, start: int, places: Places) -> Any:
        """The rows at these places; one system call for neighbors."""
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        if not len(places):
            return found
        view, size = memoryview(found.reshape(-1).view(np.uint8).data), self.row_bytes
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        ends = [*breaks.tolist(), len(places)]
        first = 0
        for end in ends:
            offset = start + int(places[first]) * size
            part = view[first * size : end * size]
            while part:
                count = os.preadv(opened.fileno(), [part], offset)
                if count == 0:
                    raise OSError(f"{self.path}: the file has become shorter")
                part, offset = part[count:], offset + count
            first = end
        return found


def _label_dtype(data: ImageData) -> Any:
    """The smallest type that holds a label."""
    match data.task.labels:
        case Labels.CLASS | Labels.MASK:
            return np.min_scalar_type(-data.classes)
        case Labels.CLASSES:
            return np.dtype(np.uint8)
        case Labels.IMAGE:
            return np.dtype(data.reader.dtype)
        case _:
            return np.dtype(np.float32)


def _free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder that may not exist yet."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    return shutil.disk_usage(there).free


def _make_room(folder: Path) -> None:
    """Deletes the images of other data that nothing has read for a month."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            with contextlib.suppress(OSError):  # another process deletes it, too
                if time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
                    shutil.rmtree(other)
