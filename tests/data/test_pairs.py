"""Folders of images and masks: each image gets its own mask, and what does not fit is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reskeras
from reskeras.data import ImageData, load
from reskeras.tasks import task_called

SEGMENTATION = task_called("segmentation")


def pairs(folder: Path, count: int = 20, suffix: str = "", start: int = 0) -> None:
    """An image is as bright as its number; the bottom rows of its mask are as many as its number
    plus one."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        image = np.full((24, 16), 10 * (number % 20), np.uint8)
        mask = np.zeros((24, 16), np.uint8)
        mask[24 - (number % 20 + 1) :] = 1
        Image.fromarray(image).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}{suffix}.png")


def check(data: ImageData, rows: int = 24) -> None:
    """Every image has its own mask."""
    assert data.task == SEGMENTATION
    for split, size in data.sizes.items():
        images, masks = next(data.split(split).batch(999).as_numpy_iterator())
        assert len(images) == size
        for image, mask in zip(images, masks, strict=True):
            number = round(float(image[0, 0, 0]) * 25.5)
            assert abs(int(mask[:, 0].sum()) - (number + 1) * rows / 24) <= 0.5


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_pairs_are_found_by_name_and_split(tmp_path: Path, suffix: str) -> None:
    pairs(tmp_path / "cells", suffix=suffix)
    data = load("./cells")
    assert (data.image_shape, data.classes, data.notes) == ((24, 16, 1), 2, ())
    assert data.sizes == {"train": 14, "val": 3, "test": 3}
    check(data)
    check(load("./cells", (12, 8, 1)), rows=12)
    assert load("./cells").digest == data.digest
    Image.fromarray(np.ones((24, 16), np.uint8)).save(tmp_path / f"cells/masks/03{suffix}.png")
    other = load("./cells")
    assert other.digest != data.digest
    Image.fromarray(np.ones((24, 16), np.uint8)).save(tmp_path / f"cells/masks/99{suffix}.png")
    more = load("./cells")
    assert more.notes == (f"cells/masks: masks without an image left out: 99{suffix}.png",)
    assert more.digest == other.digest


def test_given_splits_are_kept(tmp_path: Path) -> None:
    pairs(tmp_path / "cells" / "Train", 8)
    pairs(tmp_path / "cells" / "Test", 4, start=8)
    data = load("./cells")
    assert data.sizes == {"train": 7, "val": 1, "test": 4}
    assert data.notes == ("no val/: 15.0 % of the training images are for validation",)
    check(data)
    rest = tmp_path / "cells/Test/masks/09.png"
    Image.fromarray(np.asarray(Image.open(rest)) * 2).save(rest)
    assert "the train split has no images of 2" in load("./cells").notes


@pytest.mark.parametrize("form", ["0 and 255", "palette", "bits", "colors that are gray", "gaps"])
def test_values_of_masks_become_classes(tmp_path: Path, form: str) -> None:
    pairs(tmp_path / "cells")
    for path in (tmp_path / "cells" / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        match form:
            case "0 and 255":
                saved = Image.fromarray(mask * 255)
            case "palette":
                saved = Image.fromarray(mask, mode="P")
                saved.putpalette([9, 9, 9, 200, 0, 0])
            case "bits":
                saved = Image.fromarray(mask.astype(bool))
            case "colors that are gray":
                saved = Image.fromarray(mask).convert("RGB")
            case "gaps":
                saved = Image.fromarray(mask * 70 + 7)
        saved.save(path)
    data = load("./cells")
    names = {"0 and 255": ("0", "255"), "gaps": ("7", "77")}.get(form, ())
    assert (data.classes, data.class_names, len(data.notes)) == (2, names, bool(names))
    check(data)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(reskeras.RequestError) as error:
            load("./cells")
        return str(error.value)

    cells = tmp_path / "cells"
    pairs(cells)
    mask = cells / "masks" / "03.png"
    whole = mask.read_bytes()
    mask.unlink()
    assert refused() == "cells/images: images without a mask of their name in masks/: 03.png"
    Image.new("L", (16, 20)).save(mask)
    assert (
        refused()
        == "cells/masks/03.png: the mask has another size than its image (20x16 and 24x16)"
    )
    Image.fromarray(
        np.arange(24 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(24, 16, 3)
    ).save(mask)
    assert (
        refused() == "cells/masks/03.png: a mask in colors; give one with a number for each class"
    )
    ignored = np.asarray(Image.open(cells / "masks" / "04.png")).copy()
    ignored[0] = 255
    Image.fromarray(ignored).save(mask)
    assert "masks hold 255 beside 0, 1" in refused()
    mask.write_bytes(whole[:40])
    data = load("./cells")  # one file of twenty may be unreadable
    assert sum(data.sizes.values()) == 19
    assert "masks/03.png: damaged" in data.notes[0] or "masks/03.png: not" in data.notes[0]
    check(data)


def test_splits_may_be_folders_of_images_and_masks(tmp_path: Path) -> None:
    for split, count, start in (("train", 9, 0), ("val", 4, 9), ("test", 3, 13)):
        pairs(tmp_path / split, count, start=start)
        for name in ("images", "masks"):
            (tmp_path / "cells" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / split / name).rename(tmp_path / "cells" / name / split)
    (tmp_path / "cells" / "overlays").mkdir()
    data = load("./cells")
    assert data.sizes == {"train": 9, "val": 4, "test": 3}
    check(data)
    (tmp_path / "cells" / "masks" / "test").rename(tmp_path / "cells" / "masks" / "rest")
    with pytest.raises(reskeras.RequestError, match="do not hold the same splits, with train"):
        load("./cells")


def test_a_mask_of_exactly_the_name_is_not_confused_with_others(tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    pairs(cells, 10)
    for number in range(10):  # other images, whose names end like a mask's
        for name in ("images", "masks"):
            source = cells / name / f"{(number + 5) % 10:02}.png"
            (cells / name / f"{number:02}_gt.png").write_bytes(source.read_bytes())
    with pytest.raises(
        reskeras.RequestError, match=r"several masks could be its own: 00.png, 00_gt"
    ):
        load("./cells")
    for number in range(10):
        (cells / "images" / f"{number:02}_gt.png").rename(cells / "images" / f"z{number:02}.png")
        (cells / "masks" / f"{number:02}_gt.png").rename(cells / "masks" / f"z{number:02}_gt.png")
    check(load("./cells"))


def test_masks_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    pairs(cells)

    def refused(mask: np.ndarray, name: str) -> str:
        (cells / "masks" / "03.png").unlink(missing_ok=True)
        Image.fromarray(mask).save(cells / "masks" / name)
        with pytest.raises(reskeras.RequestError) as error:
            load("./cells")
        (cells / "masks" / name).unlink()
        return str(error.value)

    rows = np.arange(24)[:, None].repeat(16, 1)
    assert "masks hold -1 beside 0, 1" in refused((rows > 20).astype("int32") - 1, "03.tif")
    assert "JPEG and WebP change the values" in refused((rows > 9).astype("uint8"), "03.jpg")
    assert "a mask of fractions" in refused((rows / 24).astype("float32"), "03.tif")
    many = (np.arange(24 * 16).reshape(24, 16) % 256).astype("uint8")
    assert "256 different values" in refused(many, "03.png")


def test_a_search_takes_such_a_folder(tmp_path: Path) -> None:
    from reskeras.training.train import train
    from tuning.space import default_space

    pairs(tmp_path / "cells")
    data = load("./cells")
    recipe = default_space(data.facts, data.task).base
    (epoch,) = train(reskeras.build(recipe.spec), data, recipe.train, last_epoch=1)
    assert 0 <= epoch.metrics["val_mean_iou"] <= 1


def test_each_class_may_have_a_folder_of_masks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    wanted = {}
    for number in range(12):
        label = random.integers(0, 3, (8, 8))
        wanted[number] = label
        for place, pixels in [
            ("images", np.full((8, 8), number, np.uint8)),
            ("masks/cell", (label == 1).astype(np.uint8) * 255),
            ("masks/a nucleus", (label == 2).astype(np.uint8)),
        ]:
            (tmp_path / "set" / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "set" / place / f"{number}.png")
    (tmp_path / "set" / "masks" / "a nucleus" / "3.png").unlink()  # an image without one
    for name in ("cell/98", "a nucleus/99"):  # of no image
        Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "set" / "masks" / f"{name}.png")
    data = load("./set")
    assert data.class_names == ("background", "a nucleus", "cell")
    told = "set/masks: masks without an image left out: a nucleus/99.png, cell/98.png"
    assert data.notes == (told,)
    seen = 0
    for split in data.sizes:
        for image, mask in data.split(split).as_numpy_iterator():
            number = round(float(image[0, 0, 0]) * 255)
            label = wanted[number]
            nucleus = 0 if number == 3 else 1
            expected = np.select([label == 1, label == 2], [2, nucleus], 0)
            np.testing.assert_array_equal(mask, expected)
            seen += 1
    assert seen == 12
    assert not any("no images of" in note for note in data.notes)
    split = {"train": range(8), "val": range(8, 10), "test": range(10, 12)}
    for name, numbers in split.items():
        for number in numbers:
            for place in ("images", "masks/cell", "masks/a nucleus"):
                (tmp_path / "given" / name / place).mkdir(parents=True, exist_ok=True)
                file = tmp_path / "set" / place / f"{number}.png"
                if file.exists() and (name != "train" or place != "masks/cell"):
                    shutil.copy(file, tmp_path / "given" / name / place)
    black = np.zeros((8, 8), np.uint8)
    Image.fromarray(black).save(tmp_path / "given/train/masks/cell/3.png")
    assert "the train split has no images of cell" in load("./given").notes
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(
        tmp_path / "set" / "masks" / "cell" / "5.png"
    )
    with pytest.raises(reskeras.RequestError, match=r"cell/5\.png: a pixel of it is in"):
        load("./set")
