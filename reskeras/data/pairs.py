"""A folder of images and one of their masks, for segmentation."""

import dataclasses
from collections.abc import Mapping, Sequence
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
    listed,
    look_at,
    named_splits,
    split_folders,
)
from reskeras.data.images import ImageData
from reskeras.data.labels import (
    check_mask_values,
    counts_from_0,
    ignored_note,
    no_ignored_note,
    numbered,
    without_a_class,
)
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.pixels import resized_mask
from reskeras.data.splits import complete
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize
from reskeras.tasks import SEGMENTATION
from reskeras.words import printable

_IMAGES = {"images", "image", "imgs", "img"}
_MASKS = {"masks", "mask", "labels", "annotations", "segmentation", "segmentations", "gt"}
_BACKGROUND = "background"
_SUFFIXES = ("", "_mask", "-mask", "_label", "_gt", "_seg")
"""What follows the image's name in that of its mask."""


def has_pairs(root: Path) -> bool:
    """Whether a folder, or the training split in it, holds images and their masks."""
    pair = _pair(split_folders(root).get("train", root))
    return pair is not None and any(images_below(pair[1]))


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
        image_shape: height, width and channels to which images and masks are resized; None chooses
            them as for a folder of classes.
        options: how they are read.

    Raises:
        RequestError: images without a mask, masks of another size or in colors, or too many
            unreadable files.
    """
    check_channels(root, image_shape)
    notes: list[str] = []
    unreadable: dict[str, str] = {}
    masks: dict[Path, _Mask] = {}
    sources = _sources(root)
    classes = _class_folders(root, sources)
    splits = {split: _paired(*pair, classes, masks) for split, pair in sources.items()}
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
        split: _Values.of([masks[file.path] for file in files], options.ignore)
        for split, files in splits.items()
    }
    ignore = options.ignore if any(each.ignored for each in found.values()) else None
    values = _values(root, found, options.ignore, notes)
    if classes:
        values = list(range(len(classes) + 1))
    without = "" if ignore is None else f" {ignore}"
    return image_data(
        root,
        splits,
        facts,
        lambda shape, resize, peak: _Pairs(splits, masks, values, shape, resize, peak, ignore),
        task=SEGMENTATION,
        names=(_BACKGROUND, *map(printable, classes)) if classes else tuple(map(str, values)),
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


class _Values(NamedTuple):
    """What the pixels of masks hold."""

    values: set[int]
    """Those that are classes."""
    ignored: int
    """The number of pixels that have none."""
    pixels: int
    """Of all of them."""

    @classmethod
    def of(cls, masks: Sequence[_Mask], ignore: int | None) -> "_Values":
        """Reads masks.

        Raises:
            RequestError: one cannot be a mask.
        """
        values: set[int] = set()
        ignored = pixels = 0
        for each in masks:
            with naming_bad_images():
                mask = each.read()
            lost = without_a_class(mask, ignore)
            values.update(np.unique(mask[~lost]).tolist())
            ignored, pixels = ignored + int(lost.sum()), pixels + mask.size
        return cls(values, ignored, pixels)


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

    def classes_of(self, split: str) -> Any:
        return None

    def _one(self, split: str, place: int) -> tuple[Any, Any]:
        return self._image(split, place), self._mask(split, place)

    def _mask(self, split: str, place: int) -> Any:
        mask = self._masks[split][place].read()
        small = resized_mask(mask, self._shape[:2], self._resize, self._values, self._ignore)
        return numbered(small, self._values, self._ignore)


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and masks in a folder."""
    inside = {child.name.lower(): child for child in folders_in(folder)}
    images, masks = ([inside[n] for n in names if n in inside] for names in (_IMAGES, _MASKS))
    return (images[0], masks[0]) if images and masks else None


def _sources(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and masks of each split; of `all` if there are no splits."""
    if named := split_folders(root):
        pairs = {split: _pair(folder) for split, folder in named.items()}
        for split, pair in pairs.items():
            if pair is None:
                raise RequestError(
                    f"{printable(named[split])}: has no folders images/ and masks/, as train/ has"
                )
        return {split: pair for split, pair in pairs.items() if pair is not None}
    pair = _pair(root)
    assert pair is not None, "`has_pairs` has found it"
    images, masks = (named_splits(folder) for folder in pair)
    if not images and not masks:
        return {"all": pair}
    if set(images) != set(masks) or "train" not in images:
        raise RequestError(
            f"{printable(root)}: {pair[0].name}/ and {pair[1].name}/ do not hold the same splits, "
            f"with train ({', '.join(images) or 'none'}; {', '.join(masks) or 'none'})"
        )
    return {split: (folder, masks[split]) for split, folder in images.items()}


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
    images: Path, places: Path, classes: Sequence[str], masks: dict[Path, _Mask]
) -> list[File]:
    """The images of a folder; adds the mask of each to `masks`."""
    known: dict[str, list[Path]] = {}
    for path in images_below(places):
        known.setdefault(str(path.relative_to(places).with_suffix("")), []).append(path)
    files, alone = [], []
    for path in images_below(images):
        inner = path.relative_to(images)
        stem = str(inner.with_suffix(""))
        found = {
            number: [
                mask
                for suffix in _SUFFIXES
                for mask in known.get(str(Path(name, f"{stem}{suffix}")), ())
            ]
            for number, name in enumerate(classes or [""], start=1)
        }
        for several in found.values():
            if len(several) > 1:
                raise RequestError(
                    f"{printable(path)}: several masks could be its own: "
                    f"{listed(str(mask.relative_to(places)) for mask in several)}"
                )
        there = {number: some[0] for number, some in found.items() if some}
        if there:
            masks[path] = _Mask(tuple(there.values()), tuple(there) if classes else ())
            group = inner.parts[:1] if len(inner.parts) > 1 else (inner.name, str(images))
            files.append(File(path, 0, group))
        else:
            alone.append(str(inner))
    if alone:
        more = "" if len(alone) <= 5 else f" and {len(alone) - 5:,} more"
        raise RequestError(
            f"{printable(images)}: images without a mask of their name in {places.name}/: "
            f"{listed(alone[:5])}{more}"
        )
    return files


def _values(
    root: Path, found: Mapping[str, _Values], ignore: int | None, notes: list[str]
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
