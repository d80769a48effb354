"""Folders of volumes in NIfTI with masks: found, resampled, trained on, and answered in place."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

import reskeras
from reskeras.cli import main
from reskeras.data import DataOptions, ImageData, load
from reskeras.spec import Level, PlainBlock, Recipe, Segmenter, TrainSpec, UNet
from reskeras.spec.text import dump_recipe
from reskeras.tasks import IGNORED

SPACING = (1.0, 1.0, 2.0)
FLIPPED = np.diag([-1.0, 1.0, 2.0, 1.0])
"""Axes to the left, the front and the head, at `SPACING`."""


def volumes(root: Path, count: int = 7, names: tuple[str, str] = ("images", "masks")) -> None:
    """Noise with a bright box, which is class 1, of 16x18x8 voxels; the first one has half as many
    along the first axis, each twice as long."""
    random = np.random.default_rng(0)
    suffix = "_0000" if names[0] == "imagesTr" else ""
    for number in range(count):
        mask = np.zeros((16, 18, 8), np.uint8)
        top, left, front = (int(random.integers(side - 5)) for side in mask.shape)
        mask[top : top + 5, left : left + 5, front : front + 5] = 1
        image = random.normal(size=mask.shape) * 40 + np.where(mask, 400, 0) - 1000
        affine = FLIPPED.copy()
        if number == 0:
            image, mask, affine = image[::2], mask[::2], FLIPPED @ np.diag([2, 1, 1, 1])
        for name, array, end in zip(
            names, (image.astype("int16"), mask), (suffix, ""), strict=True
        ):
            (root / name).mkdir(parents=True, exist_ok=True)
            path = root / name / f"case{number}{end}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), path)


def grids(data: ImageData, split: str) -> list[tuple[Any, Any]]:
    return list(data.reader.stored(split).as_numpy_iterator())


def test_a_class_that_training_lacks_is_said(tmp_path: Path) -> None:
    volumes(tmp_path / "set")
    for split, names in (("train", (1, 2, 3)), ("val", (4, 5)), ("test", (6,))):
        for folder in ("images", "masks"):
            (tmp_path / "given" / split / folder).mkdir(parents=True)
            for number in names:
                path = Path(folder, f"case{number}.nii.gz")
                (tmp_path / "set" / path).rename(tmp_path / "given" / split / path)
    path = tmp_path / "given/val/masks/case4.nii.gz"
    mask = nibabel.load(path)
    doubled = nibabel.Nifti1Image(np.asarray(mask.dataobj) * 2, mask.affine)
    path.unlink()
    nibabel.save(doubled, path)
    assert "the train split has no images of 2" in load("./given").notes


@pytest.mark.parametrize("names", [("images", "masks"), ("imagesTr", "labelsTr")])
def test_volumes_are_cut_at_one_spacing(tmp_path: Path, names: tuple[str, str]) -> None:
    volumes(tmp_path / "set", names=names)
    shutil.copy(Path("set", names[1], "case1.nii.gz"), Path("set", names[1], "case9.nii.gz"))
    data = load("./set", (8, 8, 8, 1))
    assert f"set/{names[1]}: masks without a volume left out: case9.nii.gz" in data.notes
    assert (data.spacing, data.resize, data.pixels) == (SPACING, "patch", "floats")
    assert (data.image_shape, data.classes, data.ignores) == ((8, 8, 8, 1), 2, True)
    assert data.about()["spacing"] == [1, 1, 2]
    assert "resampled to 1x1x2 mm" in data.notes[-2]
    assert not any("no images of" in note for note in data.notes)
    assert data.describe().endswith("patches of 8x8x8x1 in 2 classes")
    assert load("./set").image_shape == (16, 16, 8, 1)
    for split in ("val", "test"):
        masks = [mask for _, mask in grids(data, split)]
        # Each voxel counts once, also of the volume that is resampled to twice as many.
        places = {data.reader.called(split, n).split(" at ")[0] for n in range(len(masks))}
        assert sum((mask != IGNORED).sum() for mask in masks) == len(places) * 16 * 18 * 8
    image, mask = grids(data, "val")[0]
    path = Path(data.reader.called("val", 0).split(" at ")[0])
    upright, wanted = (
        np.asarray(nibabel.load(each).dataobj)[::-1].astype("float64")
        for each in (path, next(Path("set", names[1]).glob(f"{path.name[:5]}.nii.gz")))
    )
    if upright.shape[0] == 16:
        low, high = np.percentile(upright, (0.5, 99.5))
        cut = upright.clip(low, high)
        expected = (cut - cut.mean()) / cut.std()
        np.testing.assert_allclose(image[..., 0], expected[:8, :8, :8], atol=1e-4)
        counted = mask != IGNORED
        np.testing.assert_array_equal(mask[counted], wanted[:8, :8, :8][counted])


def test_a_network_answers_in_the_place_of_the_file(tmp_path: Path) -> None:
    volumes(tmp_path / "set")
    spec = UNet(
        input_shape=(8, 8, 8, 1),
        block=PlainBlock(),
        stages=(Level(width=8), Level(width=16)),
        head=Segmenter(classes=2),
    )
    train = TrainSpec(epochs=4, batch_size=8, learning_rate=0.02)
    Path("spec.yaml").write_text(dump_recipe(Recipe(spec=spec, train=train)))
    for words in (
        ("train", "spec.yaml", "--data", "./set", "--out", "net"),
        ("predict", "net", "set/images", "--out", "out"),
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (done.output, done.exc_info)
    assert json.loads(Path("net/data.json").read_text())["spacing"] == [1, 1, 2]
    both = hits = 0
    for number in range(7):
        found, wanted = (
            nibabel.load(f"{folder}/case{number}.nii.gz") for folder in ("out", "set/masks")
        )
        np.testing.assert_array_equal(found.affine, wanted.affine)
        assert found.shape == wanted.shape
        answer, mask = (np.asarray(each.dataobj) > 0 for each in (found, wanted))
        both, hits = both + (answer | mask).sum(), hits + (answer & mask).sum()
        if answer.any():  # not in a mirror image
            distance = np.subtract(*map(ndimage.center_of_mass, (answer, mask)))
            assert np.abs(distance).max() < 3
    assert hits / both > 0.5


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("p_{:04}.nii.gz", "p_{:04}.nii.gz"),  # 0000 and 0001 are cases
        ("p_{:04}.nii.gz", "p_{:04}_mask.nii.gz"),
        ("p_{:04}_0000.nii.gz", "p_{:04}.nii.gz"),  # a channel of each case
        ("v{}/scan.nii", "v{}/scan.nii"),
    ],
)
def test_numbers_in_names_are_channels_only_where_masks_say_so(
    tmp_path: Path, image: str, mask: str
) -> None:
    volumes(tmp_path / "set")
    for name, pattern in (("images", image), ("masks", mask)):
        for number in range(7):
            old = tmp_path / "set" / name / f"case{number}.nii.gz"
            new = tmp_path / "set" / name / pattern.format(number)
            new.parent.mkdir(exist_ok=True)
            nibabel.save(nibabel.load(old), new)
            old.unlink()
        # What a Mac's zip leaves is no volume.
        (new.parent / f"._{new.name}").write_bytes(b"Mac OS X")
        (tmp_path / "set" / name / "__MACOSX").mkdir()
        (tmp_path / "set" / name / "__MACOSX/case.nii").write_bytes(b"Mac OS X")
    data = load("./set", (8, 8, 8, 1))
    assert "7 images of 16x18x8 keep their size" in data.notes[-1]
    (tmp_path / "set/masks" / mask.format(1)).unlink()
    name = image.format(1).rpartition("/")[2]
    told = f"volumes without a mask of their name in masks/: {name}"
    with pytest.raises(reskeras.RequestError, match=told):
        load("./set", (8, 8, 8, 1))


def test_a_second_channel_is_named(tmp_path: Path) -> None:
    volumes(tmp_path / "set", names=("imagesTr", "labelsTr"))
    first = tmp_path / "set/imagesTr/case3_0000.nii.gz"
    nibabel.save(nibabel.load(first), first.with_name("case3_0001.nii.gz"))
    with pytest.raises(reskeras.RequestError, match=r"case3_0001\.nii\.gz: a second channel; put"):
        load("./set", (8, 8, 8, 1))


def test_a_network_is_evaluated_at_its_own_spacing(tmp_path: Path) -> None:
    """Of volumes of 16x18x8 voxels at 1x1x2 mm, which is 6 windows of 8x8x8 each. In the other
    folder most have twice as long voxels along the first axis: at those they had 3 windows."""
    volumes(tmp_path / "set", 5)
    volumes(tmp_path / "other", 5)
    for number in range(1, 5):
        for name in ("images", "masks"):
            path = tmp_path / "other" / name / f"case{number}.nii.gz"
            array = np.asarray(nibabel.load(path).dataobj)[::2]
            nibabel.save(nibabel.Nifti1Image(array, FLIPPED @ np.diag([2, 1, 1, 1])), path)
    data = load("./set", (8, 8, 8, 1))
    assert (data.spacing, load("./other").spacing) == (SPACING, (2, 1, 2))
    asked = load("./other", (8, 8, 8, 1), DataOptions(spacing=(1, 1, 2)))
    assert asked.spacing == SPACING
    assert "resampled to 1x1x2 mm, as asked" in asked.notes[-2]
    assert asked.about()["options"] == {"spacing": [1, 1, 2]}
    assert DataOptions().over(asked.about()["options"]) == asked.options
    assert asked.options.words() == []
    with pytest.raises(reskeras.RequestError, match="three numbers of millimeters above 0"):
        load("./other", None, DataOptions(spacing=(1, 0, 2)))
    spec = UNet(
        input_shape=(8, 8, 8, 1),
        block=PlainBlock(),
        stages=(Level(width=4), Level(width=4)),
        head=Segmenter(classes=2),
    )
    Path("net").mkdir()
    reskeras.build(spec).save("net/model.keras")
    Path("net/data.json").write_text(json.dumps(data.about()))
    done = CliRunner().invoke(main, ["evaluate", "net", "--data", "./other", "--json"])
    assert done.exit_code == 0, (done.output, done.exc_info)
    told = json.loads(done.stdout)
    assert (told["images"], told["windows"], told["kind"]) == (1, 6, "volumes")
    assert told["rivals"][0]["text"].endswith("by mean_dice: 6 windows of 1 volume are too few")
    x = np.zeros((2, 8, 8, 8, 1), "float32")
    y = np.arange(2 * 8**3).reshape(2, 8, 8, 8) % 2
    splits = ("train", "val", "test")
    arrays = {f"{axis}_{split}": z for split in splits for axis, z in (("x", x), ("y", y))}
    np.savez("arrays.npz", **arrays)
    done = CliRunner().invoke(main, ["evaluate", "net", "--data", "arrays.npz"])
    assert done.exit_code == 2
    assert (
        "have volumes that are used as they are, but net was trained on volumes that are resampled "
        "to 1x1x2 mm" in done.stderr
    )


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    volumes(tmp_path / "set", 3)

    def refused(**options: Any) -> str:
        with pytest.raises(reskeras.RequestError) as caught:
            load("./set", None, DataOptions(**options))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "train.resize: crop: volumes are cut into patches" in refused(resize="crop")
    mask = Path("set/masks/case1.nii.gz")
    kept = mask.read_bytes()
    array = np.asarray(nibabel.load(mask).dataobj)
    nibabel.save(nibabel.Nifti1Image(array[:-1], FLIPPED), mask)
    assert "another size than its volume (15x18x8 and 16x18x8)" in refused()
    moved = FLIPPED.copy()
    moved[0, 3] = 7
    nibabel.save(nibabel.Nifti1Image(array, moved), mask)
    assert "the mask lies elsewhere than its volume" in refused()
    mask.write_bytes(kept[: len(kept) // 2])
    message = refused()
    assert "masks/case1.nii.gz: " in message
    assert "damaged" in message
    mask.rename("set/masks/other.nii.gz")
    assert "volumes without a mask of their name in masks/: case1.nii.gz" in refused()
