"""A folder of volumes in NIfTI and one of their masks, for segmentation in three dimensions."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.decode import blaming
from reskeras.data.files import File, digest_of, split_folders, volumes_below
from reskeras.data.images import ImageData
from reskeras.data.labels import numbered, untrained_notes
from reskeras.data.layouts import MASKS, few, left_over
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.pairs import MaskValues, values_of
from reskeras.data.patches import Patches, WholeImages, in_patches, patch_sides
from reskeras.data.splits import complete
from reskeras.data.volumes import (
    Header,
    Resampling,
    prepared,
    read_header,
    read_mask,
    read_volume,
    resample,
    resampled_sides,
)
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.tasks import Labels, task_of
from reskeras.words import printable

_LAYOUT = dataclasses.replace(
    MASKS,
    images=MASKS.images | {"imagestr"},  # nnU-Net's
    others=MASKS.others | {"labelstr"},
)
_FIRST_CHANNEL, _SECOND_CHANNEL = "_0000", "_0001"
"""What nnU-Net's names of images end with; a file is one channel."""
_LONGEST = 32
"""The sides of patches in voxels, if no network says them: as many voxels as 181x181 pixels."""
_SAME_PLACE = 0.1
"""How far the affine map of a mask may be from that of its volume, in millimeters."""


def holds_volumes(root: Path) -> bool:
    """Whether a folder, or the training split in it, holds volumes and masks for them."""
    pair = _LAYOUT.pair(split_folders(root).get("train", root))
    return pair is not None and all(volumes_below(folder) for folder in pair)


def from_volumes(
    root: Path, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Opens `root/images/*.nii.gz` with `root/masks/*.nii.gz`, or both in splits, as `from_pairs`.

    The folders may be called `imagesTr` and `labelsTr`, and images `NAME_0000.nii.gz`, as nnU-Net
    does. Volumes are turned to right, anterior, superior, standardized each, and resampled to
    `DataOptions.spacing` or the median of the training volumes; a network sees patches of them.

    Args:
        root: a folder that `holds_volumes`.
        image_shape: of patches [D,H,W,C]; None chooses sides of at most 32 voxels.
        options: how they are read.

    Raises:
        RequestError: a volume without a mask, a mask that lies elsewhere, or an unreadable file.
    """
    where = printable(root)
    if options.resize not in (None, "patch"):
        raise RequestError(
            f"{where}: train.resize: {options.resize}: volumes are cut into patches: give patch, "
            "or nothing"
        )
    _check_spacing(options.spacing, where)
    notes: list[str] = []
    masks: dict[Path, Path] = {}
    splits = {
        split: _paired(images, others, masks, notes)
        for split, (images, others) in _LAYOUT.sources(root).items()
    }
    splits = complete(splits, options.fold, root, notes)
    for split, files in splits.items():
        if not files:
            raise RequestError(f"{where}: no volumes for the {split} split")
    used = [file.path for files in splits.values() for file in files]
    headers = {path: _checked(path, masks[path]) for path in used}
    channels = sorted({header.channels for header in headers.values()})
    if len(channels) > 1:
        told = " and ".join(map(str, channels))
        raise RequestError(f"{where}: volumes of {told} channels; give all the same")
    found = {
        split: MaskValues.of((_mask(masks[file.path]).array for file in files), options.ignore)
        for split, files in splits.items()
    }
    ignore = options.ignore if any(each.ignored for each in found.values()) else None
    values = values_of(root, found, options.ignore, notes)
    notes += untrained_notes([*map(str, values)], found["train"].places_in(values))
    spacing, which = options.spacing or (), "as asked"
    if not spacing:
        spacings = np.array([headers[file.path].spacing for file in splits["train"]])
        spacing = tuple(float(f"{size:.4g}") for size in np.median(spacings, axis=0))
        which = "the median spacing of training"
    pairs = {
        split: [_Pair(file.path, masks[file.path], headers[file.path]) for file in files]
        for split, files in splits.items()
    }
    whole = _Whole(pairs, spacing, values, ignore)
    sizes = [whole.sides("train", place) for place in range(whole.sizes["train"])]
    sides = patch_sides(sizes, image_shape and image_shape[:-1], _LONGEST)
    told = "x".join(f"{size:g}" for size in spacing)
    notes.append(f"volumes are standardized, and resampled to {told} mm, {which}")
    counted = values == list(range(len(values)))
    data = ImageData(
        name=printable(root.resolve().name),
        task=task_of(Labels.MASK, options.task),
        image_shape=(*sides, channels[0]),
        classes=len(values),
        sizes=whole.sizes,
        digest=digest_of(
            {
                split: [(file.path, _content(file, masks)) for file in files]
                for split, files in splits.items()
            },
            root,
        ),
        reader=Patches(whole, sides, centered=0),  # until classes are looked for
        source=str(root.resolve()),
        class_names=() if counted else tuple(map(str, values)),
        values=tuple(values),
        pixels="floats",
        spacing=spacing,
        notes=tuple(notes),
        options=options,
        ignores=ignore is not None,
    )
    return in_patches(data, whole)


class _Pair(NamedTuple):
    """A volume and its mask."""

    image: Path
    mask: Path
    header: Header
    """Of the volume."""


class _Whole(WholeImages):
    """Volumes at one spacing, each with its mask."""

    dtype = np.float32

    def __init__(
        self,
        pairs: Mapping[str, Sequence[_Pair]],
        spacing: tuple[float, ...],
        values: Sequence[int],
        ignore: int | None,
    ) -> None:
        self._pairs, self._spacing = pairs, spacing
        self._values, self._ignore = values, ignore
        self.sizes = {split: len(some) for split, some in pairs.items()}

    def read(self, split: str, place: int) -> tuple[Any, Any]:
        path = self._pairs[split][place].image
        with blaming(path):
            image = prepared(read_volume(path), self._spacing).array
        return image, self.label(split, place)

    def label(self, split: str, place: int) -> Any:
        mask = resample(_mask(self._pairs[split][place].mask), self._spacing, Resampling.CLASSES)
        found = numbered(mask.array, self._values, self._ignore)
        return found.astype(np.min_scalar_type(-len(self._values)))

    def sides(self, split: str, place: int) -> tuple[int, ...]:
        header = self._pairs[split][place].header
        return tuple(resampled_sides(header.sides, header.spacing, self._spacing))

    def called(self, split: str, place: int) -> str:
        return printable(self._pairs[split][place].image)


def _paired(images: Path, others: Path, masks: dict[Path, Path], notes: list[str]) -> list[File]:
    """The volumes of a folder; adds the mask of each to `masks`."""
    known = {_stem(path, others): path for path in volumes_below(others)}
    found, alone = [], []

    def masks_of(name: str) -> list[Path]:
        return [known[name + suffix] for suffix in _LAYOUT.suffixes if name + suffix in known]

    for path in volumes_below(images):
        stem = _stem(path, images)
        # A name of its own comes first: `case_0001` may be the second case, and no channel.
        own = masks_of(stem) or masks_of(stem.removesuffix(_FIRST_CHANNEL))
        if not own and masks_of(stem.removesuffix(_SECOND_CHANNEL)):
            raise RequestError(
                f"{printable(path)}: a second channel; put the channels of a volume into one file "
                "[D,H,W,C]"
            )
        if own:
            inner = path.relative_to(images).parts
            group = inner[:1] if len(inner) > 1 else (path.name, str(images))
            found.append(File(path, 0, group))
            masks[path] = own[0]
        else:
            alone.append(path.name)
    if alone:
        raise RequestError(
            f"{printable(images)}: volumes without a mask of their name in {others.name}/: "
            f"{few(alone)}"
        )
    used = {masks[file.path] for file in found}
    extra = [path for path in known.values() if path not in used]
    notes += left_over(others, extra, "masks without a volume")
    return found


def _stem(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)).lower().partition(".nii")[0]


def _checked(path: Path, mask: Path) -> Header:
    """The header of a volume whose mask has the same voxels."""
    with blaming(path):
        header = read_header(path)
    with blaming(mask):
        other = read_header(mask)
    if header.sides != other.sides:
        sizes = " and ".join("x".join(map(str, each.sides)) for each in (other, header))
        raise RequestError(
            f"{printable(mask)}: the mask has another size than its volume ({sizes})"
        )
    if not np.allclose(header.affine, other.affine, atol=_SAME_PLACE):
        raise RequestError(
            f"{printable(mask)}: the mask lies elsewhere than its volume, by their headers; "
            "resample one to the other"
        )
    return header


def _check_spacing(spacing: tuple[float, ...] | None, where: str) -> None:
    if spacing is not None and [0 < size < math.inf for size in spacing] != [True] * 3:
        raise RequestError(
            f"{where}: spacing {spacing}: three numbers of millimeters above 0 are right"
        )


def _mask(path: Path) -> Any:
    with blaming(path):
        return read_mask(path)


def _content(file: File, masks: Mapping[Path, Path]) -> str:
    """A digest of a volume and its mask."""
    parts = [
        hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in (file.path, masks[file.path])
    ]
    return " ".join(parts)
