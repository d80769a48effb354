"""Folders of image files: what is in them, what is unreadable, and how they are split."""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.decode import SHARES, SUFFIXES, BadImageError, Facts, blaming, look, read_image
from reskeras.data.images import FilesFound, ImageData, Places, RowReader, balance_notes
from reskeras.data.options import DataOptions
from reskeras.data.patches import patch_sides
from reskeras.data.pixels import white_of
from reskeras.data.scans import Scan, Seen, Signature, signature
from reskeras.data.volumes import is_volume
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize
from reskeras.tasks import Labels, Task
from reskeras.words import printable

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing"),
}
"""The names of splits, in any case."""
_LONGEST = 64
"""The longer side of images, in pixels, if no network says how large they are."""
_STRETCHED = 1.1
"""Images whose ratios of width to height differ by more than this factor are worth a note."""
_RESIZED = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}
_SHRUNK = 2
"""Images that become smaller than by this factor lose details that masks could have."""
_MOST_BAD = 0.05
"""Up to this share of unreadable files are left out; with more, the folder is refused."""
_LISTED = 10
"""Files that a message names."""
_BLOCK = 32
"""Files that a thread looks at before it takes more."""
_THOROUGH_BYTES = 64 << 20
"""Folders of up to this many bytes are decoded to the end before anything is spent."""


class File(NamedTuple):
    """An image file and where it belongs."""

    path: Path
    label: int
    """The number of its class; 0 where images have masks."""
    group: tuple[str, ...]
    """What a split must not tear apart: the folder that holds it, or its own name and the place
    where that is its name. The first part decides the split."""


def images_below(folder: Path) -> list[Path]:
    """The files that are called like images in a folder and below it, by name.

    Hidden files are left out: `._1.png` is what a Mac leaves of `1.png`.
    """
    return sorted(path for path in _below(folder) if _is_called_like_an_image(path.name))


def volumes_below(folder: Path) -> list[Path]:
    """The volumes in a folder and below it, by name; without hidden ones, as `images_below`."""
    return sorted(path for path in _below(folder) if is_volume(path) and path.is_file())


def _below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it that are not hidden."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        yield from (Path(place, name) for name in files if not _is_hidden(name))


def is_image(path: Path) -> bool:
    """Whether a path is called like an image, and is no folder."""
    return _is_called_like_an_image(path.name) and not path.is_dir()


def _is_called_like_an_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES and not _is_hidden(name)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name.

    Without hidden ones, what a Mac's zip leaves, and links to a folder that holds this one.
    """
    here = folder.resolve()
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir()
        and not _is_hidden(child.name)
        and not (child.is_symlink() and here.is_relative_to(child.resolve()))
    )


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def named_splits(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are called like splits."""
    inside = folders_in(folder)
    return {
        split: child
        for split, names in _SPLITS.items()
        for child in reversed(inside)
        if child.name.lower() in names
    }


def split_of(word: str) -> str | None:
    """The split that a word names; None if it names none."""
    return next((split for split, names in _SPLITS.items() if word.lower() in names), None)


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits; empty if the folders in `root` are classes.

    A folder called `train` is a class if it holds images alone, and beside other classes, such as
    `bus` and `car`.

    Raises:
        RequestError: there are other splits, but none for training.
    """
    found = named_splits(root)
    others = [child for child in folders_in(root) if child not in found.values()]
    if "train" not in found:
        if found and not others and all(folders_in(child) for child in found.values()):
            raise RequestError(
                f"{printable(root)}: has {listed(child.name for child in found.values())} but no "
                "train"
            )
        return {}
    if not folders_in(found["train"]) or (others and len(found) == 1):
        return {}
    return found


def check_image(file: Path) -> None:
    """Raises RequestError unless a file is a readable image."""
    with blaming(file):
        look(file, thorough=False)


def look_at(
    root: Path,
    paths: Sequence[Path],
    notes: list[str],
    *,
    strict: bool = False,
    unreadable: dict[str, str] | None = None,
) -> dict[Path, Facts]:
    """Looks at every file that has changed since the last time.

    Args:
        root: the folder that holds them, which messages name.
        paths: the files.
        notes: gets a note that names the unreadable ones, if they are few.
        strict: whether one unreadable file is too many.
        unreadable: gets all of them, each with the reason.

    Returns:
        Facts about the readable ones.

    Raises:
        RequestError: too many are unreadable.
    """
    found = _looked(root, paths)
    bad = {
        printable(path.relative_to(root)): reason
        for path, reason in found.items()
        if isinstance(reason, str)
    }
    if bad:
        lines = [f"\n  {name}: {reason}" for name, reason in bad.items()]
        told = "".join(lines[:_LISTED])
        if len(bad) > _LISTED:
            told += f"\n  and {len(bad) - _LISTED:,} more"
        share = f"{len(bad):,} of {len(paths):,} files cannot be read"
        if strict or len(bad) > _MOST_BAD * len(paths):
            raise RequestError(f"{printable(root)}: {share}; fix or delete them:{told}")
        notes.append(f"{share}, and are left out:{told}")
    if unreadable is not None:
        unreadable |= bad
    return {path: facts for path, facts in found.items() if not isinstance(facts, str)}


def _looked(root: Path, paths: Sequence[Path]) -> dict[Path, Facts | str]:
    """Facts about each file, or why it is unreadable."""
    signatures = [signature(path) for path in paths]
    thorough = sum(found.size for found in signatures if found is not None) <= _THOROUGH_BYTES
    scan, now = Scan(root), dict(zip(paths, signatures, strict=True))
    found: dict[Path, Facts | str | None] = {
        path: found and scan.seen(path, found, thorough=thorough) for path, found in now.items()
    }
    new = [path for path, facts in found.items() if facts is None]
    looked: list[tuple[Path, Signature, int, Seen]] = []

    def look_at_some(some: Sequence[Path]) -> list[tuple[int, Facts | str]]:
        return [(time.time_ns(), _facts_or_reason(path, thorough)) for path in some]

    blocks = [new[start : start + _BLOCK] for start in range(0, len(new), _BLOCK)]
    try:
        # In blocks, because handing a file to a thread takes as long as a look at it.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for some, seen in zip(blocks, pool.map(look_at_some, blocks), strict=True):
                for path, (began, facts) in zip(some, seen, strict=True):
                    found[path] = facts
                    if (then := now[path]) is not None:
                        looked.append((path, then, began, Seen(thorough, facts)))
    finally:  # an interrupted scan goes on where it was
        scan.add(looked)
    return {path: facts for path, facts in found.items() if facts is not None}


def _facts_or_reason(path: Path, thorough: bool) -> Facts | str:
    try:
        return look(path, thorough=thorough)
    except BadImageError as error:
        return str(error)


def found_in(facts: Iterable[Facts], unreadable: Mapping[str, str]) -> FilesFound:
    """What looks at image files said, in short."""
    sizes = sorted((fact.size for fact in facts), key=lambda size: (size[0] * size[1], size))
    return FilesFound(
        sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]),
        different=len(set(sizes)),
        unreadable=unreadable,
    )


def peak_of(root: Path, facts: Iterable[Facts], notes: list[str]) -> float | None:
    """The white of images with more than 8 bits, and a note; None if there are none.

    Raises:
        RequestError: they hold negative values.
    """
    deep = [fact.deep for fact in facts if fact.deep is not None]
    if not deep:
        return None
    low, high = min(low for low, _ in deep), max(high for _, high in deep)
    if low < 0:
        raise RequestError(
            f"{printable(root)}: images hold values from {low:,.6g} to {high:,.6g}; negative ones "
            "have no place between black and white"
        )
    peak = 1.0 if high <= SHARES else white_of(high)
    notes.append(
        f"{len(deep):,} images have more than 8 bits, with values up to {high:,.6g}; {peak:,.0f} "
        "becomes white"
    )
    return peak


def shape_of(
    facts: Sequence[Facts],
    given: ImageShape | None,
    resize: Resize,
    notes: list[str],
    *,
    step: int = 1,
    of: str = "images",
    patches: bool = False,
) -> ImageShape:
    """The shape of the network's images, and a note if images are resized to it.

    Args:
        facts: of the images.
        given: the shape, if a network says it.
        resize: how they are resized.
        notes: gets the note.
        step: what the sides must be multiples of, if none is given.
        of: what the note calls the images.
        patches: whether they could be cut into patches.
    """
    median = [int(side) for side in np.median([fact.size for fact in facts], axis=0)]
    if resize == "patch":
        sides = patch_sides([fact.size for fact in facts], given and given[:-1])
        gray = all(fact.gray for fact in facts)
        return sides[0], sides[1], given[2] if given else 1 if gray else 3
    shape = given
    if shape is None:
        scale = min(1.0, _LONGEST / max(median))
        height, width = (
            side if scale == 1 and side % step == 0 else max(8, 8 * round(scale * side / 8))
            for side in median
        )
        shape = height, width, 1 if all(fact.gray for fact in facts) else 3
    if others := sum(fact.size != shape[:2] for fact in facts):
        aspects = [fact.size[1] / fact.size[0] for fact in facts]
        stretched = max(aspects) > _STRETCHED * min(aspects)
        notes.append(
            f"{others:,} of {len(facts):,} {of} are resized to {shape[0]}x{shape[1]} (height x "
            f"width; the median of each side is {median[0]}x{median[1]})"
            + (f", {_RESIZED[resize]} where their proportions differ" if stretched else "")
            + "; input_shape in a spec sets another size, train.resize another way"
        )
    shrunk = max(side / small for side, small in zip(median, shape, strict=False))
    if patches and shrunk > _SHRUNK:
        notes.append(
            f"this shrinks images {shrunk:.3g} times, and their masks lose details; train.resize: "
            "patch keeps their size"
        )
    return shape


def digest_of(splits: Mapping[str, Sequence[tuple[Path, str]]], root: Path) -> str:
    """A digest of the names and contents of files, given by the digest of each content."""
    digest = hashlib.sha256()
    for split, files in splits.items():
        for path, content in files:
            digest.update(f"{split} {content} ".encode())
            digest.update(os.fsencode(path.relative_to(root)) + b"\n")
    return digest.hexdigest()[:16]


def check_channels(root: Path, image_shape: ImageShape | None) -> None:
    """Raises RequestError unless files can give images of this shape."""
    if image_shape is not None and len(image_shape) != 3:
        raise RequestError(
            f"{printable(root)}: image files, but the network takes inputs of shape "
            f"{'x'.join(map(str, image_shape))}"
        )
    if image_shape is not None and image_shape[2] not in (1, 3):
        raise RequestError(
            f"{printable(root)}: images have 1 or 3 channels, but the network's input_shape has "
            f"{image_shape[2]}"
        )


class FileReader(RowReader):
    """Reads image files, each with its label."""

    def __init__(
        self,
        splits: Mapping[str, Sequence[File]],
        image_shape: ImageShape,
        resize: Resize,
        peak: float | None,
    ) -> None:
        self._paths = {split: [str(f.path) for f in files] for split, files in splits.items()}
        self._labels = {
            split: np.array([f.label for f in files], np.int32) for split, files in splits.items()
        }
        self._shape, self._resize, self._peak = image_shape, resize, peak
        self.dtype = np.uint8 if peak is None else np.float32

    @functools.cached_property
    def encoded_bytes(self) -> int:  # type: ignore[override]
        return sum(os.stat(path).st_size for paths in self._paths.values() for path in paths)

    def size(self, split: str) -> int:
        return len(self._paths[split])

    def rows(self, split: str, places: Places) -> tuple[Any, Any]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            one = functools.partial(self._one, split)
            images, labels = zip(*pool.map(one, places.tolist()), strict=True)
        return np.stack(images), np.stack(labels)

    def classes_of(self, split: str) -> Any:
        return self._labels[split]

    def called(self, split: str, place: int) -> str:
        return printable(self._paths[split][place])

    def _one(self, split: str, place: int) -> tuple[Any, Any]:
        """An image and its label."""
        return self._image(split, place), self._labels[split][place]

    def _image(self, split: str, place: int) -> Any:
        return self._read(self._paths[split][place], self._shape)

    def _read(self, path: str, shape: ImageShape) -> Any:
        """An image file as an array of this shape."""
        with blaming(path, BadImageError):
            image = read_image(path, shape, self._resize, self._peak)
        if self._peak is None and image.dtype != np.uint8:
            raise BadImageError(f"{printable(path)}: has more than 8 bits now; start again")
        if self._peak is not None and image.dtype == np.uint8:
            return image.astype(np.float32) / np.float32(255)  # among images with more bits
        return image


def image_data(
    root: Path,
    splits: Mapping[str, Sequence[File]],
    facts: Mapping[Path, Facts],
    read: Callable[[ImageShape, Resize, float | None], FileReader],
    *,
    task: Task,
    names: Sequence[str],
    counted: bool = False,
    ignores: bool = False,
    contents: Mapping[Path, str],
    unreadable: Mapping[str, str],
    image_shape: ImageShape | None,
    step: int = 1,
    options: DataOptions,
    notes: list[str],
) -> ImageData:
    """The data in files that are checked and split.

    Args:
        root: the folder that holds them.
        splits: the files of each split.
        facts: what a look at each image found.
        read: makes their reader from the shape of images, how they are resized, and their peak.
        task: the task.
        names: of the classes.
        counted: whether the names are the numbers of the classes.
        ignores: as `ImageData.ignores`.
        contents: a digest of the content of each file, and of its label where its name tells none.
        unreadable: why files are left out.
        image_shape: the shape of images, if a network says it.
        step: what the sides must be multiples of, if no network says them.
        options: how they are read.
        notes: what is known already; gets the rest.

    Raises:
        RequestError: the images hold negative values.
    """
    peak = peak_of(root, facts.values(), notes)
    if frames := sum(fact.frames > 1 for fact in facts.values()):
        notes.append(f"of {frames:,} files with several frames, the first frame is used")
    if cut := sum(fact.cut for fact in facts.values()):
        notes.append(f"{cut:,} color images have 16 bits per channel; the upper 8 are used")
    resize = options.resize or task.resize
    used = [facts[file.path] for files in splits.values() for file in files]
    masks = task.labels is Labels.MASK
    shape = shape_of(used, image_shape, resize, notes, step=step, patches=masks)
    reader = read(shape, resize, peak)
    if (labels := reader.classes_of("train")) is not None:
        notes += balance_notes(labels, names)
    return ImageData(
        name=printable(root.resolve().name),
        task=task,
        image_shape=shape,
        classes=len(names),
        sizes={split: len(files) for split, files in splits.items()},
        digest=digest_of(
            {
                split: [(file.path, contents[file.path]) for file in files]
                for split, files in splits.items()
            },
            root,
        ),
        reader=reader,
        source=str(root.resolve()),
        class_names=() if counted else tuple(map(printable, names)),
        resize=resize,
        peak=peak,
        ignores=ignores,
        pixels="bytes" if peak is None else "floats",
        notes=tuple(notes),
        options=options,
        files=found_in(facts.values(), unreadable),
    )


def listed(names: Iterable[str]) -> str:
    """Names of files in a message."""
    return ", ".join(map(printable, names))
