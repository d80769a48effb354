"""Pixels and images without a class are no class, whatever the value that marks them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import reskeras
from reskeras.cli import main
from reskeras.data import DataOptions, from_arrays, load
from reskeras.data.augment import Augmenter
from reskeras.data.label_facts import ClassFacts
from reskeras.data.survey import survey
from reskeras.spec import AUGMENTATIONS
from reskeras.tasks import IGNORED, Labels, task_called

SEGMENTATION = task_called("segmentation")


def masks_of(values: tuple[int, ...], size: int = 9, sides: tuple[int, int] = (8, 8)) -> np.ndarray:
    """Masks of these values, with every one of them in each."""
    random = np.random.default_rng(3)
    masks = random.choice(values, (size, *sides))
    masks[:, 0, : len(values)] = values
    return masks


def arrays_of(masks: np.ndarray) -> dict[str, np.ndarray]:
    x = np.random.default_rng(4).integers(0, 256, masks.shape, dtype=np.uint8)
    return {"x_train": x[:6], "y_train": masks[:6], "x_val": x[6:], "y_val": masks[6:]}


@pytest.mark.parametrize(
    ("values", "ignore", "names"),
    [
        ((0, 1, 2, 255), 255, ()),
        ((0, 1, 2, -1), -1, ()),
        ((0, 1, 2), 0, ("1", "2")),
        ((0, 1, 3), 1, ("0", "3")),
        ((7, 77, 255), 255, ("7", "77")),
    ],
)
def test_any_value_can_mean_no_class(
    values: tuple[int, ...], ignore: int, names: tuple[str, ...]
) -> None:
    masks = masks_of(values)
    data = from_arrays(arrays_of(masks), options=DataOptions(ignore=ignore))
    kept = [value for value in values if value != ignore]
    assert (data.classes, data.ignores, data.class_names) == (len(kept), True, names)
    wanted = np.full(masks.shape, IGNORED)
    for number, value in enumerate(kept):
        wanted[masks == value] = number
    for split, part in (("train", wanted[:6]), ("val", wanted[6:])):
        np.testing.assert_array_equal(data.tensors(split)[1], part)
        found = survey(data).labels
        assert isinstance(found, ClassFacts)
        counts = tuple(int((part == number).sum()) for number in range(len(kept)))
        assert found.counts[split] == counts
        assert split != "train" or data.class_counts() == counts
    share = f"{100 * (masks[:6] == ignore).mean():.1f} %"
    assert data.notes[0].startswith(f"{share} of the pixels of training masks are {ignore}")
    assert load(arrays_of(masks), options=DataOptions(ignore=ignore)).digest == data.digest


def test_a_class_that_no_mask_shows_is_kept_and_the_ignored_number_is_not() -> None:
    data = from_arrays(arrays_of(masks_of((0, 1, 3, 4))), options=DataOptions(ignore=2))
    assert (data.classes, data.ignores) == (4, False)
    named = arrays_of(masks_of((0, 1, 2))) | {"class_names": np.array(["void", "cat", "dog"])}
    assert from_arrays(named, options=DataOptions(ignore=0)).class_names == ("cat", "dog")


def test_without_such_pixels_nothing_changes_but_a_note() -> None:
    arrays = arrays_of(masks_of((0, 1, 2)))
    plain, other = from_arrays(arrays), from_arrays(arrays, options=DataOptions(ignore=255))
    assert other.notes == (*plain.notes, "nothing has the value 255 that is to be ignored")
    assert (other.digest, other.ignores) == (plain.digest, False)


def test_images_whose_label_means_no_class_are_left_out() -> None:
    x = np.random.default_rng(0).random((12, 8, 8)).astype("float32")
    y = np.arange(12) % 3 - 1
    arrays = {"x_train": x[:9], "y_train": y[:9], "x_val": x[9:], "y_val": y[9:]}
    data = from_arrays(arrays, options=DataOptions(ignore=-1))
    assert data.notes[0] == "left out 4 of 12 images, whose label is -1"
    images, labels = data.tensors("train")
    np.testing.assert_array_equal(images[..., 0], x[:9][y[:9] >= 0])
    assert (labels.numpy().tolist(), data.classes, data.ignores) == ([0, 1] * 3, 2, False)


def test_what_cannot_be_is_refused_in_a_line() -> None:
    def refused(arrays: dict[str, np.ndarray], ignore: int | None) -> str:
        with pytest.raises(reskeras.RequestError) as error:
            from_arrays(arrays, options=DataOptions(ignore=ignore))
        return str(error.value)

    masks = masks_of((0, 1, 255))
    assert refused(arrays_of(masks), None) == (
        "data: masks hold 255 beside 0, 1; if it marks pixels without a class, --ignore 255 (from "
        "Python, ignore=255) leaves them out; otherwise give them another number"
    )
    assert "only the class 0" in refused(arrays_of(masks_of((0, 255))), 255)
    masks[6:] = 255
    assert refused(arrays_of(masks), 255) == "data: y_val holds hardly anything but 255, --ignore"


def cells(root: Path, size: tuple[int, int] = (24, 16)) -> np.ndarray:
    masks = masks_of((0, 1, 255), 20, size).astype(np.uint8)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
        Image.fromarray(np.full(size, 9 * number, np.uint8)).save(
            root / "images" / f"{number:02}.png"
        )
    return masks


def test_folders_of_masks_and_the_command(tmp_path: Path) -> None:
    masks = cells(tmp_path / "cells")
    with pytest.raises(reskeras.RequestError, match=r"masks hold 255 beside 0, 1; .*--ignore 255"):
        load("./cells")
    data = load("./cells", options=DataOptions(ignore=255))
    assert (data.classes, data.ignores, data.class_names) == (2, True, ())
    assert data.options.document() == {"ignore": 255}
    for split in data.sizes:
        for image, mask in zip(*data.tensors(split), strict=True):
            wanted = masks[int(image[0, 0, 0]) // 9].astype(int)
            np.testing.assert_array_equal(mask, np.where(wanted == 255, -1, wanted))
    arguments = ["data", "./cells", "--ignore", "255"]
    told = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert sum(map(sum, told["counts"].values())) == (masks != 255).sum()
    assert "are 255: they have no class" in told["notes"][0]
    done = CliRunner().invoke(main, [*arguments, "-o", "sheet.png"])
    assert done.exit_code == 0, done.output


def test_borders_that_are_added_have_no_class(tmp_path: Path) -> None:
    cells(tmp_path / "cells", (16, 8))
    padded = load("./cells", (16, 16, 1), DataOptions(ignore=255, resize="pad"))
    for image, mask in zip(*padded.tensors("train"), strict=True):
        assert (mask.numpy()[:, [0, 1, 2, 3, 12, 13, 14, 15]] == IGNORED).all()
        assert (mask.numpy()[:, 4:12] != IGNORED).any()
        assert (image.numpy()[:, :4] == 0).all()
    random = np.random.default_rng(1)
    image = random.uniform(0.5, 1, (16, 16, 1)).astype("float32")
    mask = (image[..., 0] > 0.75).astype("int32")
    borders = 0
    augmenter = Augmenter(augmentation=AUGMENTATIONS["shift_flip"], labels=Labels.MASK, border=-1)
    for number in range(8):
        moved, maps = (part.numpy() for part in augmenter(*as_tensors(image, mask), number))
        empty = moved[..., 0] == 0
        np.testing.assert_array_equal(maps, np.where(empty, -1, moved[..., 0] > 0.75))
        borders += empty.sum()
    assert borders > 0


def as_tensors(*arrays: np.ndarray) -> tuple[object, ...]:
    import tensorflow as tf

    return tuple(map(tf.constant, arrays))


@pytest.mark.parametrize("data", ["digits", "./photos"])
def test_images_with_a_class_each_have_none_to_ignore(tmp_path: Path, data: str) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    done = CliRunner().invoke(main, ["data", data, "--ignore", "-1"])
    assert done.exit_code == 2
    where = {"digits": "data set 'digits'", "./photos": "photos"}[data]
    assert done.stderr.splitlines()[-1].startswith(f"error: {where}: --ignore -1 is for masks")
