"""A folder of images and one of their masks, for segmentation."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.decode import BadImageError, naming_bad_images, read_mask
from reskeras.data.files import (
    File,
    FileReader,
    check_channels,
    folders_in,
    image_data,
    images_below,
    is_image,
    look_at,
)
from reskeras.data.images import ImageData
from reskeras.data.labels import (
    check_mask_values,
    counts_from_0,
    ignored_note,
    no_ignored_note,
    numbered,
    untrained_notes,
    without_a_class,
)
from reskeras.data.layouts import MASKS
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.patches import WholeImages, in_patches
from reskeras.data.pixels import resized_mask
from reskeras.data.splits import complete
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize
from reskeras.tasks import Labels, task_of
from reskeras.words import printable

_BACKGROUND = "background"


def from_pairs(
    root: Path, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Opens `root/images/*` with `root/masks/*`, or both in `root/{train[,val][,test]}`.

    The splits may also be folders in `images` and `masks`. A mask has the name of its image. Its
    values are the numbers of the classes (a palette's, too), 0 and 255, or any values, which become
    classes in their order. Or each class has a folder in `masks`, with a mask of 0 and another
    value of each image that holds the class; the rest is background. The first layout is split 70 /
    15 / 15; folders below `images` are not torn apart.

    Args:
        root: the folder.
        image_shape: height, width and channels to which images and masks are resized, or of their
            patches; None chooses them as for a folder of classes.
        options: how they are read.

    Raises:
        RequestError: images without a mask, masks of another size or in colors, or too many
            unreadable files.
    """
    check_channels(root, image_shape)
    notes: list[str] = []
    unreadable: dict[str, str] = {}
    masks: dict[Path, _Mask] = {}
    sources = MASKS.sources(root)
    classes = _class_folders(root, sources)
    splits = {split: _paired(*pair, classes, masks, notes) for split, pair in sources.items()}
    images = [file.path for files in splits.values() for file in files]
    strict = options.strict
    facts = look_at(root, images, notes, strict=strict, unreadable=unreadable)
    places = [file for path in images for file in masks[path].files]
    seen = look_at(root, places, notes, strict=strict, unreadable=unreadable)
    splits = {
        split: [f for f in files if f.path in facts and seen.keys() >= {*masks[f.path].files}]
        for split, files in splits.items()
    }
    splits = complete(splits, options.fold, root, notes)
    for split, files in splits.items():
        if not files:
            raise RequestError(f"{printable(root)}: no images for the {split} split")
    used = [file.path for files in splits.values() for file in files]
    for path, mask in ((image, mask) for image in used for mask in masks[image].files):
        if facts[path].size != seen[mask].size:
            sizes = ("x".join(map(str, fact.size)) for fact in (seen[mask], facts[path]))
            raise RequestError(
                f"{printable(mask)}: the mask has another size than its image "
                f"({' and '.join(sizes)})"
            )
    found = {
        split: MaskValues.of((masks[file.path].read() for file in files), options.ignore)
        for split, files in splits.items()
    }
    ignore = options.ignore if any(each.ignored for each in found.values()) else None
    values = values_of(root, found, options.ignore, notes)
    if classes:
        values = list(range(len(classes) + 1))
    names = (_BACKGROUND, *map(printable, classes)) if classes else tuple(map(str, values))
    notes += untrained_notes(names, found["train"].places_in(values))
    without = "" if ignore is None else f" {ignore}"
    data = image_data(
        root,
        splits,
        facts,
        lambda shape, resize, peak: _Pairs(splits, masks, values, shape, resize, peak, ignore),
        task=task_of(Labels.MASK, options.task),
        names=names,
        ignores=ignore is not None,
        counted=not classes and values == list(range(len(values))),
        contents={
            path: " ".join([facts[path].digest, *(seen[m].digest for m in masks[path].files)])
            + without
            for path in used
        },
        image_shape=image_shape,
        step=8,  # a U-Net halves both sides a few times
        options=options,
        unreadable=unreadable,
        notes=notes,
    )
    data = dataclasses.replace(data, values=tuple(values))
    if options.resize != "patch":
        return data
    assert isinstance(data.reader, _Pairs)
    sides = {split: [facts[file.path].size for file in files] for split, files in splits.items()}
    return in_patches(data, _Whole(data.reader, sides))


@dataclasses.dataclass(frozen=True)
class _Mask:
    """The mask of an image."""

    files: tuple[Path, ...]
    """One, or one for each class that the image holds."""
    classes: tuple[int, ...] = ()
    """The number of the class of each file; empty for a file with values of its own."""

    def read(self) -> Any:
        """The mask [H,W].

        Raises:
            BadImageError: naming its file, if it cannot be read or two classes overlap.
        """
        found: Any = None
        for number, path in enumerate(self.files):
            try:
                mask = read_mask(path)
            except BadImageError as error:
                raise BadImageError(f"{printable(path)}: {error}") from error
            if not self.classes:
                return mask
            found = np.zeros_like(mask) if found is None else found
            if ((mask != 0) & (found != 0)).any():
                raise BadImageError(
                    f"{printable(path)}: a pixel of it is in the mask of another class, too"
                )
            found[mask != 0] = self.classes[number]
        return found


class MaskValues(NamedTuple):
    """What the pixels of masks hold."""

    values: set[int]
    """Those that are classes."""
    ignored: int
    """The number of pixels that have none."""
    pixels: int
    """Of all of them."""

    @classmethod
    def of(cls, masks: Iterable[Any], ignore: int | None) -> "MaskValues":
        """Looks at masks, which are read one after another.

        Raises:
            RequestError: one cannot be a mask.
        """
        values: set[int] = set()
        ignored = pixels = 0
        with naming_bad_images():
            for mask in masks:
                lost = without_a_class(mask, ignore)
                values.update(np.unique(mask[~lost]).tolist())
                ignored, pixels = ignored + int(lost.sum()), pixels + mask.size
        return cls(values, ignored, pixels)

    def places_in(self, values: Sequence[int]) -> set[int]:
        """The places of those that are classes in the values of all splits."""
        return {place for place, value in enumerate(values) if value in self.values}


class _Pairs(FileReader):
    """Reads image files, each with its mask."""

    def __init__(
        self,
        splits: Mapping[str, Sequence[File]],
        masks: Mapping[Path, _Mask],
        values: Sequence[int],
        image_shape: ImageShape,
        resize: Resize,
        peak: float | None,
        ignore: int | None,
    ) -> None:
        super().__init__(splits, image_shape, resize, peak)
        self._masks = {split: [masks[f.path] for f in files] for split, files in splits.items()}
        self._values, self._ignore = values, ignore

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self._values)

    def classes_of(self, split: str) -> Any:
        return None

    def _one(self, split: str, place: int) -> tuple[Any, Any]:
        return self._image(split, place), self.mask(split, place, self._shape[:2])

    def image(self, split: str, place: int, sides: tuple[int, int]) -> Any:
        """An image with these sides."""
        return self._read(self._paths[split][place], (*sides, self._shape[2]))

    def mask(self, split: str, place: int, sides: Sequence[int]) -> Any:
        """The mask of an image with these sides."""
        mask = self._masks[split][place].read()
        small = resized_mask(mask, sides, self._resize, self._values, self._ignore)
        return numbered(small, self._values, self._ignore)


class _Whole(WholeImages):
    """Image files in their own sizes, each with its mask."""

    def __init__(self, pairs: _Pairs, sides: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        self._pairs, self._sides = pairs, sides
        self.sizes = {split: len(some) for split, some in sides.items()}
        self.dtype = pairs.dtype
        # The smallest that holds all classes, for those that stay in memory.
        self._small = np.min_scalar_type(-pairs.classes)

    def read(self, split: str, place: int) -> tuple[Any, Any]:
        sides = self._sides[split][place]
        return self._pairs.image(split, place, sides), self.label(split, place)

    def label(self, split: str, place: int) -> Any:
        mask = self._pairs.mask(split, place, self._sides[split][place])
        return mask.astype(self._small)

    def sides(self, split: str, place: int) -> tuple[int, ...]:
        return self._sides[split][place]

    def called(self, split: str, place: int) -> str:
        return self._pairs.called(split, place)


def _class_folders(root: Path, sources: Mapping[str, tuple[Path, Path]]) -> list[str]:
    """The folders of masks that are classes, in order; empty if masks hold the classes.

    Raises:
        RequestError: there are other ones in another split.
    """
    found = {}
    for split, (images, places) in sources.items():
        groups = {folder.name for folder in folders_in(images)}
        inside = [folder.name for folder in folders_in(places) if images_below(folder)]
        alone = not any(is_image(path) for path in places.iterdir())
        found[split] = inside if alone and not groups & set(inside) else []
    classes = sorted({name for names in found.values() for name in names})
    if classes and not all(found.values()):
        none = next(split for split, names in found.items() if not names)
        raise RequestError(
            f"{printable(root)}: the masks of {none} have no folder for each class, as others have"
        )
    return classes


def _paired(
    images: Path,
    places: Path,
    classes: Sequence[str],
    masks: dict[Path, _Mask],
    notes: list[str],
) -> list[File]:
    """The images of a folder; adds the mask of each to `masks`."""
    matches = MASKS.matched(images, places, notes, classes or ("",))
    for image, files in matches:
        there = {number: file for number, file in enumerate(files, start=1) if file is not None}
        masks[image.path] = _Mask(tuple(there.values()), tuple(there) if classes else ())
    return [image for image, _ in matches]


def values_of(
    root: Path, found: Mapping[str, MaskValues], ignore: int | None, notes: list[str]
) -> list[int]:
    """The values of all masks, in order: a class each."""
    for split, each in found.items():
        if not each.values:
            raise RequestError(
                f"{printable(root)}: masks of the {split} split hold {ignore} alone, which is to "
                "be ignored"
            )
    if ignore is not None:
        share = found["train"].ignored / found["train"].pixels
        lost = any(each.ignored for each in found.values())
        notes.append(ignored_note(share, ignore) if lost else no_ignored_note(ignore))
    values = sorted(set().union(*(each.values for each in found.values())))
    check_mask_values(values, printable(root))
    if len(values) < 2:
        raise RequestError(f"{printable(root)}: all masks hold the value {values[0]} alone")
    if counts_from_0(values):
        return [value for value in range(values[-1] + 1) if value != ignore]
    few = ", ".join(map(str, values if len(values) <= 8 else [*values[:7], "..."]))
    notes.append(f"masks hold the values {few}; they become classes 0 to {len(values) - 1}")
    return values
