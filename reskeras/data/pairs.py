"""A folder of images and one of their masks, for segmentation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reskeras.data.decode import BadImageError, read_mask
from reskeras.data.files import (
    File,
    FileReader,
    check_channels,
    dealt,
    digest_of,
    folders_in,
    images_below,
    listed,
    look_at,
    peak_of,
    shape_of,
    split_folders,
)
from reskeras.data.images import HELD, ImageData
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.tasks import SEGMENTATION
from reskeras.words import percent, printable

_IMAGES = {"images", "image", "imgs", "img"}
_MASKS = {"masks", "mask", "labels", "annotations", "segmentation", "segmentations", "gt"}
_IGNORED = 255
"""The value that often marks pixels without a class."""
_SUFFIXES = ("_mask", "-mask", "_label", "_gt", "_seg")
"""What follows the image's name in that of its mask."""


def has_pairs(root: Path) -> bool:
    """Whether a folder, or the training split in it, holds images and their masks."""
    return _pair(split_folders(root).get("train", root)) is not None


def from_pairs(root: Path, image_shape: ImageShape | None = None) -> ImageData:
    """Opens `root/images/*` with `root/masks/*`, or both in `root/{train[,val][,test]}`.

    A mask has the name of its image. Its values are the numbers of the classes (a palette's, too),
    0 and 255, or any values, which become classes in their order. The first layout is split 70 / 15
    / 15; folders below `images` are not torn apart.

    Args:
        root: the folder.
        image_shape: height, width and channels to which images and masks are resized; None chooses
            them as for a folder of classes.

    Raises:
        RequestError: images without a mask, masks of another size or in colors, or too many
            unreadable files.
    """
    check_channels(root, image_shape)
    notes: list[str] = []
    named = split_folders(root)
    masks: dict[Path, Path] = {}
    splits = {split: _paired(folder, masks) for split, folder in (named or {"all": root}).items()}
    images = [file.path for files in splits.values() for file in files]
    facts = look_at(root, images, notes)
    seen = look_at(root, [masks[path] for path in images], notes)
    splits = {
        split: [f for f in files if f.path in facts and masks[f.path] in seen]
        for split, files in splits.items()
    }
    if not named:
        splits = dealt(splits["all"], ("val", "test"))
    elif "val" not in splits:
        notes.append(f"no val/: {percent(HELD)} of the training images are for validation")
        splits = dealt(splits["train"], ("val",)) | {
            split: files for split, files in splits.items() if split != "train"
        }
    for split, files in splits.items():
        if not files:
            raise RequestError(f"{printable(root)}: no images for the {split} split")
    used = [file.path for files in splits.values() for file in files]
    for path in used:
        if facts[path].size != seen[masks[path]].size:
            sizes = ("x".join(map(str, fact.size)) for fact in (facts[path], seen[masks[path]]))
            raise RequestError(
                f"{printable(masks[path])}: the mask has another size than its image "
                f"({' and '.join(reversed(list(sizes)))})"
            )
    values = _values(root, [masks[path] for path in used], notes)
    peak = peak_of(facts.values(), notes)
    # A U-Net halves both sides a few times.
    shape = shape_of([facts[path] for path in used], image_shape, notes, step=8)
    return ImageData(
        name=printable(root.resolve().name),
        task=SEGMENTATION,
        image_shape=shape,
        classes=len(values),
        sizes={split: len(files) for split, files in splits.items()},
        digest=digest_of(
            {
                split: [
                    (file.path, f"{facts[file.path].digest} {seen[masks[file.path]].digest}")
                    for file in files
                ]
                for split, files in splits.items()
            },
            root,
        ),
        reader=_Pairs(splits, masks, values, shape, peak),
        source=str(root.resolve()),
        class_names=() if values == list(range(len(values))) else tuple(map(str, values)),
        peak=peak,
        notes=tuple(notes),
    )


class _Pairs(FileReader):
    """Reads image files, each with its mask."""

    def __init__(
        self,
        splits: Mapping[str, Sequence[File]],
        masks: Mapping[Path, Path],
        values: Sequence[int],
        image_shape: ImageShape,
        peak: float | None,
    ) -> None:
        super().__init__(splits, image_shape, peak)
        self._masks = {
            split: [str(masks[f.path]) for f in files] for split, files in splits.items()
        }
        self._values = np.array(values)

    def classes_of(self, split: str) -> Any:
        return None

    def _label(self, split: str, place: Any) -> Any:
        import tensorflow as tf

        mask = tf.numpy_function(lambda place: self._mask(split, place), [place], tf.int32)
        return tf.ensure_shape(mask, self._shape[:2])

    def _mask(self, split: str, place: int) -> Any:
        path = self._masks[split][place]
        try:
            mask = read_mask(path)
        except BadImageError as error:
            raise BadImageError(f"{printable(path)}: {error}; fix or delete it") from error
        height, width = self._shape[:2]
        # Classes have no values between them: a pixel takes the class of the nearest one.
        small = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        return np.searchsorted(self._values, np.asarray(small)).astype(np.int32)


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and masks in a folder."""
    inside = {child.name.lower(): child for child in folders_in(folder)}
    images, masks = ([inside[n] for n in names if n in inside] for names in (_IMAGES, _MASKS))
    return (images[0], masks[0]) if images and masks and len(inside) == 2 else None


def _paired(folder: Path, masks: dict[Path, Path]) -> list[File]:
    """The images of a folder; adds the mask of each to `masks`."""
    pair = _pair(folder)
    if pair is None:
        raise RequestError(f"{printable(folder)}: has no folders images/ and masks/, as train/ has")
    images, places = pair
    known = {_stem(path.relative_to(places)): path for path in images_below(places)}
    files, alone = [], []
    for path in images_below(images):
        inner = path.relative_to(images)
        if (mask := known.get(_stem(inner))) is None:
            alone.append(str(inner))
        else:
            masks[path] = mask
            files.append(File(path, 0, inner.parts[0]))
    if alone:
        more = "" if len(alone) <= 5 else f" and {len(alone) - 5:,} more"
        raise RequestError(
            f"{printable(images)}: images without a mask of their name in {places.name}/: "
            f"{listed(alone[:5])}{more}"
        )
    return files


def _stem(path: Path) -> str:
    stem = str(path.with_suffix(""))
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _values(root: Path, masks: Sequence[Path], notes: list[str]) -> list[int]:
    """The values of all masks, in order: a class each."""
    found: set[int] = set()
    for path in masks:
        try:
            found.update(np.unique(read_mask(path)).tolist())
        except BadImageError as error:
            raise RequestError(f"{printable(path)}: {error}") from error
    values = sorted(found)
    rest = [value for value in values if value != _IGNORED]
    if len(values) > 2 and _IGNORED in values and rest == list(range(len(rest))):
        raise RequestError(
            f"{printable(root)}: masks hold 255 beside 0 to {rest[-1]}; if it marks pixels without "
            f"a class, give these a class of their own, {len(rest)}"
        )
    if len(values) < 2:
        raise RequestError(f"{printable(root)}: all masks hold the value {values[0]} alone")
    if len(values) > 256:
        raise RequestError(
            f"{printable(root)}: masks hold {len(values):,} different values; they are classes"
        )
    # A class that no mask has is a class all the same, if they count from 0.
    if len(values) > (values[-1] + 1) / 2:
        return list(range(values[-1] + 1))
    notes.append(f"masks hold the values {', '.join(map(str, values))}; they become classes")
    return values
