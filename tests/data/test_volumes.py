"""NIfTI files that nibabel writes and reads, against its own canonical arrays."""

import gzip
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reskeras.data.decode import BadImageError
from reskeras.data.volumes import (
    Resampling,
    Volume,
    read_mask,
    read_volume,
    resample,
    standardized,
    write_mask,
)
from reskeras.errors import RequestError

Array = np.ndarray[Any, Any]
ORIENTATIONS = ["RAS", "LPS", "SAR", "PIL", "IRP"]


def noise(*shape: int, dtype: str = "int16") -> Array:
    return np.random.default_rng(0).integers(-1000, 3000, shape).astype(dtype)


def affine_of(codes: str, spacing: tuple[float, float, float], tilt: float = 0.0) -> Array:
    """Of an array whose axes point to these directions, around which the head is turned."""
    turned = np.eye(3)
    turned[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    found = np.eye(4)
    for axis, code in enumerate(codes):
        place = next(n for n, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        found[:3, axis] = turned[:, place] * spacing[axis] * (1 if code in "RAS" else -1)
    found[:3, 3] = [-20, 7, 300]
    return found


def save(
    path: Path, array: Array, affine: Array | None = None, kind: Any = nibabel.Nifti1Image
) -> Path:
    nibabel.save(kind(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_volumes_get_one_orientation_and_masks_go_back(
    codes: str, kind: Any, tmp_path: Path
) -> None:
    affine = affine_of(codes, (0.7, 2.0, 5.0), tilt=0.2)
    array = noise(4, 5, 6)
    path = save(tmp_path / "ct.nii.gz", array, affine, kind)
    volume = read_volume(path)
    upright = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(volume.array[..., 0], upright.get_fdata())
    np.testing.assert_allclose(volume.affine, upright.affine, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, upright.header.get_zooms(), rtol=1e-6)
    write_mask("mask.nii.gz", volume.array[..., 0] > 500, volume)
    mask = nibabel.load("mask.nii.gz")
    np.testing.assert_array_equal(mask.get_fdata(), array > 500)
    np.testing.assert_array_equal(mask.affine, nibabel.load(path).affine)
    assert (type(mask), mask.get_data_dtype()) == (kind, np.uint8)
    np.testing.assert_array_equal(read_mask("mask.nii.gz").array, volume.array[..., 0] > 500)


def test_slices_point_to_the_right_front_and_head() -> None:
    """In a file with axes left, posterior, inferior, its first voxel is our last one."""
    array = np.zeros((2, 3, 4), np.int16)
    array[0, 0, 0] = 7
    volume = read_volume(save(Path("a.nii"), array, affine_of("LPI", (1, 1, 1))))
    assert volume.array[1, 2, 3, 0] == 7
    # Both indices mean the same point.
    np.testing.assert_allclose(volume.affine @ [1, 2, 3, 1], [-20, 7, 300, 1], atol=1e-5)


def test_channels_and_types() -> None:
    color = noise(3, 4, 5, 2)
    np.testing.assert_array_equal(read_volume(save(Path("a.nii"), color)).array, color)
    vector = read_volume(save(Path("b.nii"), color[:, :, :, None]))
    np.testing.assert_array_equal(vector.array, color)
    assert vector.array.dtype == np.float32
    assert read_volume(save(Path("c.nii"), np.zeros((2, 2, 2), np.uint8))).array.dtype == np.uint8
    write_mask("d.nii", np.full((3, 4, 5), -1), vector)
    assert nibabel.load("d.nii").get_data_dtype() == np.int16
    assert nibabel.load("d.nii").shape == (3, 4, 5)


def test_values_are_scaled_as_the_header_says() -> None:
    image = nibabel.Nifti1Image(noise(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, -24)
    nibabel.save(image, "scaled.nii")
    expected = nibabel.load("scaled.nii").get_fdata()
    np.testing.assert_allclose(read_volume("scaled.nii").array[..., 0], expected, rtol=1e-6)
    # Masks of such a volume are not.
    write_mask("mask.nii", np.ones((3, 4, 5), int), read_volume("scaled.nii"))
    assert (nibabel.load("mask.nii").get_fdata() == 1).all()


def test_units_become_millimeters() -> None:
    image = nibabel.Nifti1Image(noise(3, 4, 5), np.diag([20.0, 20, 50, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, "cell.nii")
    volume = read_volume("cell.nii")
    np.testing.assert_allclose(volume.spacing, (0.02, 0.02, 0.05))
    fine = resample(volume, (0.02, 0.02, 0.025))
    write_mask("mask.nii", np.zeros((3, 4, 10), int), fine)
    mask = nibabel.load("mask.nii")
    assert mask.header.get_xyzt_units()[0] == "micron"
    np.testing.assert_allclose(mask.header.get_zooms(), (20, 20, 50))


def volume_of(array: Array, spacing: tuple[float, float, float], codes: str = "LPS") -> Volume:
    path = save(Path("volume.nii"), array, affine_of(codes, spacing))
    return read_volume(path) if array.ndim == 4 else read_mask(path)


def test_a_linear_ramp_stays_where_it_is_in_the_body() -> None:
    """Values are millimeters along each axis; inside, linear interpolation is exact."""
    grid = np.stack(np.meshgrid(*map(np.arange, (8, 10, 12)), indexing="ij"), -1)
    affine = affine_of("RAS", (3, 1.5, 0.5))
    places = (grid @ affine[:3, :3].T + affine[:3, 3]).astype("float32")
    volume = volume_of(places, (3, 1.5, 0.5), "RAS")
    found = resample(volume, (1, 1, 1))
    assert found.array.shape == (24, 15, 6, 3)
    np.testing.assert_allclose(found.spacing, (1, 1, 1))
    grid = np.stack(np.meshgrid(*map(np.arange, (24, 15, 6)), indexing="ij"), -1)
    expected = grid @ found.affine[:3, :3].T + found.affine[:3, 3]
    np.testing.assert_allclose(found.array[2:-2, 1:-1], expected[2:-2, 1:-1], atol=1e-4)


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 4)] * 3),
    wanted=st.tuples(*[st.floats(0.3, 4)] * 3),
    how=st.sampled_from([Resampling.NEAREST, Resampling.CLASSES]),
)
def test_the_outer_faces_stay_and_no_class_is_made(
    shape: Any, spacing: Any, wanted: Any, how: Resampling
) -> None:
    mask = (noise(*shape) % 3 * 2).astype("int32")
    volume = volume_of(mask, spacing)
    found = resample(volume, wanted, how)
    assert found.array.shape == tuple(
        max(1, round(side * old / new))
        for side, old, new in zip(shape, volume.spacing, wanted, strict=True)
    )
    for index in ([-0.5] * 3, [side - 0.5 for side in shape]):
        other = [
            (place + 0.5) * new / old - 0.5
            for place, new, old in zip(index, found.array.shape, shape, strict=True)
        ]
        np.testing.assert_allclose(
            found.affine @ [*other, 1], volume.affine @ [*index, 1], atol=1e-3
        )
    assert set(np.unique(found.array)) <= set(np.unique(mask))


@pytest.mark.parametrize("axis", range(3))
def test_a_mask_of_a_resampled_volume_fits_the_file(axis: int) -> None:
    """A slab, whose faces are faces of voxels in both grids, comes back as it was."""
    mask = np.zeros((6, 8, 4), np.int16)
    mask[(slice(None),) * axis + (slice(1, 3),)] = 3
    volume = volume_of(mask, (2, 1, 3), "PIL")
    fine = resample(volume, (1, 1, 1), Resampling.CLASSES)
    assert (fine.array == 3).sum() == (volume.array == 3).sum() * 6
    write_mask("back.nii.gz", fine.array, fine)
    np.testing.assert_array_equal(nibabel.load("back.nii.gz").get_fdata(), mask)


def test_impossible_resampling_is_refused() -> None:
    volume = volume_of(np.zeros((2, 2, 2), np.int16), (1, 2, 3))
    with pytest.raises(ValueError, match="not resampled linearly"):
        resample(volume, (1, 1, 1))
    with pytest.raises(ValueError, match="three lengths above 0"):
        resample(volume, (1, 0, 1))


def test_the_values_of_a_ct_are_cut_and_standardized() -> None:
    """Metal, a single voxel, changes little: without the cut, the deviation would be 3,000 times
    that of the others."""
    array = np.random.default_rng(1).normal(100, 20, (20, 20, 20, 2)).astype("float32")
    array[..., 1] = 7
    array[0, 0, 0, 0] = 3e6
    found = standardized(array)
    low, high = np.percentile(array[..., 0], [0.5, 99.5])
    cut = array[..., 0].clip(low, high)
    np.testing.assert_allclose(found[..., 0], (cut - cut.mean()) / cut.std(), atol=1e-4)
    assert (found[..., 1] == 0).all()
    assert found.dtype == np.float32


def _bad_files(folder: Path) -> dict[str, Path]:
    whole = gzip.compress(nibabel.Nifti1Image(noise(9, 9, 9), np.eye(4)).to_bytes())
    large = gzip.compress(nibabel.Nifti1Image(noise(20, 20, 20), np.eye(4)).to_bytes())
    (folder / "cut.nii.gz").write_bytes(large[:-100])
    (folder / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "stub.nii.gz").write_bytes(whole[:40])
    (folder / "short.nii").write_bytes(gzip.decompress(whole)[:900])
    (folder / "text.nii").write_text("no header")
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "folder.nii").mkdir()
    (folder / "gone.nii").unlink(missing_ok=True)
    flat = bytearray(gzip.decompress(whole))
    flat[280:328] = bytes(48)  # the affine
    (folder / "flat.nii").write_bytes(flat)
    huge = bytearray(gzip.decompress(whole))
    huge[42:48] = np.array([30_000] * 3, "<i2").tobytes()  # dim[1:4]
    (folder / "huge.nii").write_bytes(huge)
    save(folder / "series.nii", noise(2, 2, 2, 3, 4))
    save(folder / "picture.nii", noise(4, 4))
    save(folder / "complex.nii", noise(2, 2, 2).astype("complex64"))
    save(folder / "nan.nii", np.full((2, 2, 2), np.nan, "float32"))
    return {path.name: path for path in folder.iterdir()}


BAD = {
    "cut.nii.gz": "damaged",
    "half.nii.gz": "damaged",
    "stub.nii.gz": "damaged",
    "short.nii": "damaged",
    "text.nii": "not a NIfTI",
    "empty.nii.gz": "damaged",
    "folder.nii": "damaged",
    "gone.nii": "no such file",
    "flat.nii": "no size",
    "huge.nii": "claims 30000 x 30000 x 30000 voxels",
    "series.nii": "5 dimensions",
    "picture.nii": "claims 4 x 4",
    "complex.nii": "real numbers",
    "nan.nii": "not finite",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(name: str, tmp_path: Path) -> None:
    _bad_files(tmp_path)
    with pytest.raises(BadImageError, match=BAD[name]) as caught:
        read_volume(tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadImageError):
        read_mask(tmp_path / name)


def test_masks_are_whole_numbers() -> None:
    with pytest.raises(BadImageError, match="a mask of fractions"):
        read_mask(save(Path("a.nii"), np.full((2, 2, 2), 0.5)))
    with pytest.raises(BadImageError, match="4 dimensions"):
        read_mask(save(Path("b.nii"), noise(2, 2, 2, 2)))
    assert (
        read_mask(save(Path("c.nii"), np.full((2, 2, 2, 1), 3.0))).array.tolist()
        == [[[3, 3], [3, 3]]] * 2
    )


def test_wrong_masks_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    volume = read_volume(save(Path("a.nii"), noise(2, 3, 4)))
    with pytest.raises(RequestError, match=r"mask.png: masks of volumes are .nii"):
        write_mask("mask.png", np.zeros((2, 3, 4), int), volume)
    for wrong in (np.zeros((4, 3, 2), int), np.zeros((2, 3, 4))):
        with pytest.raises(ValueError, match=r"a mask of"):
            write_mask("mask.nii", wrong, volume)
    with pytest.raises(OSError, match="nowhere"):
        write_mask("nowhere/mask.nii", np.zeros((2, 3, 4), int), volume)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_a_missing_extra_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(RequestError, match=r"need the extra `nifti`: pip install"):
        read_volume("a.nii")
