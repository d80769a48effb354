"""Volumes in NIfTI files (`.nii`, `.nii.gz`): medical images with a size and a place in the body.

Nibabel decodes; it is the extra `nifti`. Here, volumes get one orientation, and masks go back to
the orientation of the file that they belong to.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.decode import BadImageError
from reskeras.errors import RequestError, in_a_line
from reskeras.files import replacing
from reskeras.words import printable

SUFFIXES = (".nii", ".nii.gz")
_MOST_VOXELS = 1 << 31
"""A header that claims more is taken for damage."""
_MILLIMETERS = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
"""The units of NIfTI's `xyzt_units` (nifti1.h); most files without one mean millimeters."""
_PERCENTILES = (0.5, 99.5)
_RAS = ((0, 1), (1, 1), (2, 1))
"""Nibabel's orientation of an array whose axes are right, anterior and superior."""


class Resampling(enum.Enum):
    """How values between voxels are found."""

    LINEAR = "linear"
    """By the distance to the voxels around; for images."""
    NEAREST = "nearest"
    """That of the nearest voxel."""
    CLASSES = "classes"
    """The class whose own map, resampled linearly, is largest; for masks, whose edges stay smooth.
    Of equal ones, the lowest class."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """What a file needs to hold a mask of its volume."""

    header: Any
    """Nibabel's."""
    affine: Any
    """From indices of the file's array to its units [4,4]."""
    shape: tuple[int, int, int]
    """Of the file's array."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Volume:
    """A volume whose axes point to the patient's right, front and head (RAS)."""

    array: Any
    """An image [D,H,W,C], bytes or float32; or a mask [D,H,W], int32."""
    affine: Any
    """From indices (d, h, w, 1) to millimeters (right, front, head, 1): [4,4]."""
    stored: Stored
    """The file that it was read from."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distance between voxels along each axis, in millimeters."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return first, second, third


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of a file says of its volume, whose axes are as those of a `Volume`."""

    sides: tuple[int, int, int]
    channels: int
    spacing: tuple[float, float, float]
    """In millimeters."""
    affine: Any
    """As `Volume.affine`."""


def is_volume(path: Path) -> bool:
    """Whether a file is NIfTI by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_header(path: str | Path) -> Header:
    """Reads what is known of a volume without its voxels.

    Raises:
        BadImageError: as `read_volume`.
        RequestError: the extra `nifti` is not installed.
    """
    nibabel = _nibabel()
    image, units = _opened(path)
    orientation = nibabel.orientations.io_orientation(image.affine)
    sides = [0, 0, 0]
    for (axis, _), side in zip(orientation, image.shape[:3], strict=True):
        sides[int(axis)] = side
    turn = nibabel.orientations.inv_ornt_aff(orientation, image.shape[:3])
    affine = np.diag([units, units, units, 1]) @ np.asarray(image.affine, np.float64) @ turn
    first, second, third = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return Header(
        sides=(sides[0], sides[1], sides[2]),
        channels=math.prod(image.shape[3:]),
        spacing=(first, second, third),
        affine=affine,
    )


def read_volume(path: str | Path) -> Volume:
    """Reads an image in NIfTI.

    A fourth dimension (or a fifth one after a fourth of 1, which vectors have) becomes channels.
    Bytes stay bytes if the header does not scale them; other numbers become float32, scaled.

    Raises:
        BadImageError: it is no such file, damaged, or does not hold real numbers in 3 to 4
            dimensions.
        RequestError: the extra `nifti` is not installed.
    """
    array, affine, stored = _read(path)
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0]
    elif array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4:
        raise BadImageError(f"{array.ndim} dimensions; a volume has 3, or 4 with channels")
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise BadImageError("it holds values that are not finite")
    return Volume(array=array, affine=affine, stored=stored)


def read_mask(path: str | Path) -> Volume:
    """Reads a mask in NIfTI: a volume of whole numbers in three dimensions.

    Raises:
        BadImageError: it is no such file, damaged, or does not hold whole numbers.
        RequestError: the extra `nifti` is not installed.
    """
    array, affine, stored = _read(path)
    array = array.reshape(array.shape[:3]) if array.size == math.prod(array.shape[:3]) else array
    if array.ndim != 3:
        raise BadImageError(f"{array.ndim} dimensions; a mask has 3, and one number for each voxel")
    whole = np.isfinite(array).all() and (array == np.rint(array)).all()
    if not whole or np.abs(array).max() >= 1 << 31:
        raise BadImageError("a mask of fractions; give one with a whole number for each class")
    return Volume(array=array.astype(np.int32), affine=affine, stored=stored)


def write_mask(path: str | Path, mask: Any, like: Volume) -> None:
    """Writes a mask with the orientation, sides and spacing of a file, whole or not at all.

    Args:
        path: a file, `.nii` or `.nii.gz`; replaced if it exists.
        mask: whole numbers [D,H,W], with the sides of `like`.
        like: the volume that the mask belongs to, as it was read, or resampled since; then the mask
            is resampled back, as `Resampling.CLASSES` does.

    Raises:
        RequestError: the name has another ending, or the extra `nifti` is not installed.
        ValueError: the mask has other sides, or is not of whole numbers.
        OSError: it cannot be written.
    """
    nibabel = _nibabel()
    path, mask = Path(path), np.asarray(mask)
    if not is_volume(path):
        raise RequestError(f"{printable(path)}: masks of volumes are .nii or .nii.gz files")
    if mask.shape != like.array.shape[:3] or mask.dtype.kind not in "biu":
        raise ValueError(
            f"a mask of {mask.shape} {mask.dtype}; the volume has the sides {like.array.shape[:3]}"
        )
    stored = like.stored
    orientation = nibabel.orientations.io_orientation(stored.affine)
    shape = [0, 0, 0]
    for (axis, _), side in zip(orientation, stored.shape, strict=True):
        shape[int(axis)] = side
    mask = _resized(mask.astype(np.int32), shape, Resampling.CLASSES)
    back = nibabel.orientations.ornt_transform(np.array(_RAS), orientation)
    mask = nibabel.orientations.apply_orientation(mask, back)
    # The smallest that all programs read: NIfTI's other integers are rare.
    types_ = (np.uint8, np.int16, np.int32)
    dtype = next(
        some
        for some in types_
        if np.iinfo(some).min <= mask.min() and mask.max() <= np.iinfo(some).max
    )
    header = stored.header.copy()
    header.set_data_dtype(dtype)
    header["cal_min"] = header["cal_max"] = 0  # what viewers show as black and white
    kind = nibabel.Nifti2Image if header["sizeof_hdr"] == 540 else nibabel.Nifti1Image
    with replacing(path) as partial:
        nibabel.save(kind(mask.astype(dtype), stored.affine, header), str(partial))


def resample(
    volume: Volume, spacing: Sequence[float], how: Resampling = Resampling.LINEAR
) -> Volume:
    """A volume with voxels of another size.

    As in nnU-Net, sides are rounded to whole voxels and the outer faces stay where they are, so the
    spacing of the result differs a little from the one asked for. It is not smoothed before it
    shrinks, and linear where nnU-Net takes cubic splines, which overshoot.

    Args:
        volume: an image, or a mask.
        spacing: millimeters between voxels along each axis.
        how: values between voxels; not `LINEAR` for masks.

    Raises:
        ValueError: a spacing is not above 0, or a mask is to be resampled linearly.
    """
    if len(spacing) != 3 or not all(0 < size < math.inf for size in spacing):
        raise ValueError(f"spacing is three lengths above 0, not {spacing}")
    known = volume.array.shape[:3]
    shape = resampled_sides(known, volume.spacing, spacing)
    steps = np.array(known) / shape
    change = np.diag([*steps, 1])
    change[:3, 3] = (steps - 1) / 2  # the center of the first voxel
    array = _resized(volume.array, shape, how)
    return dataclasses.replace(volume, array=array, affine=volume.affine @ change)


def resampled_sides(
    sides: Sequence[int], spacing: Sequence[float], new: Sequence[float]
) -> list[int]:
    """The sides that `resample` gives a volume of these sides and this spacing."""
    return [
        max(1, round(side * old / size))
        for side, old, size in zip(sides, spacing, new, strict=True)
    ]


def prepared(volume: Volume, spacing: Sequence[float]) -> Volume:
    """An image as networks see it: standardized, and resampled to the spacing of training."""
    return resample(dataclasses.replace(volume, array=standardized(volume.array)), spacing)


def standardized(image: Any) -> Any:
    """An image in which each channel has the mean 0 and the standard deviation 1.

    Values are first cut to the 0.5th and 99.5th percentile of the channel, so that metal in a CT
    does not make all else gray. (nnU-Net cuts CT alone, to percentiles of the foreground of the
    whole training set, and also standardizes CT by that; others by volume, uncut.) A constant
    channel becomes 0.

    Args:
        image: numbers [D,H,W,C].

    Returns:
        float32 [D,H,W,C].
    """
    axes = tuple(range(np.ndim(image) - 1))
    low, high = np.percentile(image, _PERCENTILES, axis=axes)
    found = np.clip(np.asarray(image, np.float32), low, high)
    found -= found.mean(axis=axes, dtype=np.float64)
    deviation = found.std(axis=axes, dtype=np.float64)
    return (found / np.where(deviation > 0, deviation, 1)).astype(np.float32)


def _resized(array: Any, shape: Sequence[int], how: Resampling) -> Any:
    from scipy import ndimage

    if array.shape[:3] == tuple(shape):
        return array
    if how is Resampling.LINEAR and array.ndim == 3:
        raise ValueError("a mask is not resampled linearly: classes have no values between them")
    factors = [new / old for new, old in zip(shape, array.shape[:3], strict=True)]

    def zoomed(values: Any, order: int) -> Any:
        # In a grid, the faces of the outer voxels stay where they are, not their centers.
        return ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)

    if array.ndim == 4:
        order = 1 if how is Resampling.LINEAR else 0
        channels = np.moveaxis(array.astype(np.float32), -1, 0)
        found = np.stack([zoomed(channel, order) for channel in channels], axis=-1)
        return np.rint(found).astype(np.uint8) if array.dtype == np.uint8 else found
    if how is Resampling.NEAREST:
        return zoomed(array, 0)
    best = np.full(shape, -1, np.float32)
    classes = np.zeros(shape, array.dtype)
    for value in np.unique(array):  # one after another: all at once would fill the memory
        share = zoomed((array == value).astype(np.float32), 1)
        better = share > best + 1e-6  # more than rounding
        best[better], classes[better] = share[better], value
    return classes


def _read(path: str | Path) -> tuple[Any, Any, Stored]:
    """The array of a file in RAS order, scaled as its header says; its affine in millimeters."""
    nibabel = _nibabel()
    image, units = _opened(path)
    shape, affine = tuple(image.shape), np.asarray(image.affine, np.float64)
    try:
        upright = nibabel.as_closest_canonical(image)
        array = np.asanyarray(upright.dataobj)
    except Exception as error:  # zlib, gzip, struct and NumPy each have their own
        raise BadImageError(f"damaged: {in_a_line(error)}") from error
    stored = Stored(image.header.copy(), affine, (shape[0], shape[1], shape[2]))
    return array, np.diag([units, units, units, 1]) @ upright.affine, stored


def _opened(path: str | Path) -> tuple[Any, float]:
    """A file whose header is checked and whose voxels are not read, and its unit in millimeters."""
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise BadImageError("not a NIfTI file, but another kind of volume")
        shape, affine = tuple(image.shape), np.asarray(image.affine, np.float64)
        if len(shape) < 3 or 0 in shape or math.prod(shape) > _MOST_VOXELS:
            raise BadImageError(f"its header claims {' x '.join(map(str, shape))} voxels")
        if image.get_data_dtype().kind not in "iuf":
            raise BadImageError(f"voxels of {image.get_data_dtype()}; give real numbers")
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise BadImageError("its header gives voxels no size")
        return image, _MILLIMETERS[image.header.get_xyzt_units()[0]]
    except BadImageError:
        raise
    except FileNotFoundError as error:
        raise BadImageError("no such file") from error
    except nibabel.filebasedimages.ImageFileError as error:
        raise BadImageError("not a NIfTI file, or a damaged one") from error
    except Exception as error:
        raise BadImageError(f"damaged: {in_a_line(error)}") from error


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise RequestError(
            f"NIfTI files need the extra `nifti`: pip install '.[nifti]' in a clone ({error})"
        ) from error
    return nibabel
