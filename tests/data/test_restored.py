"""Folders of images and of what is to be made of them, by Pillow's own resize."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reskeras
from reskeras.data import DataOptions, ImageData, load
from reskeras.tasks import Labels

COUNT = 20


def write(
    sides: tuple[int, int] = (16, 24),
    times: int = 2,
    *,
    root: str = "set",
    first: str = "inputs",
    color: bool = False,
    suffix: str = "",
) -> dict[int, np.ndarray]:
    """Random targets, whose first pixel of the middle is their number, and their means."""
    random = np.random.default_rng(0)
    made = {}
    for number in range(COUNT):
        height, width = (times * side for side in sides)
        target = random.integers(0, 256, (height, width, 3 if color else 1), np.uint8)
        blocks = target.reshape(sides[0], times, sides[1], times, -1)
        small = np.round(blocks.mean((1, 3))).astype(np.uint8)
        for name, array in ((first, small), (f"targets{suffix}", target)):
            folder, _, end = name.partition("_")
            place = Path(root, folder)
            place.mkdir(parents=True, exist_ok=True)
            end = f"_{end}" if end else ""
            Image.fromarray(array.squeeze()).save(place / f"{number:02}{end}.png")
        made[number] = target
    return made


def pairs(data: ImageData, split: str) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Images and targets as they are stored, and their numbers."""
    found = data.reader.stored(split).as_numpy_iterator()
    return [
        (image, label, int(Path(data.reader.called(split, place)).stem))
        for place, (image, label) in enumerate(found)
    ]


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("color", [False, True])
def test_images_are_enlarged_as_pillow_does(times: int, color: bool) -> None:
    made = write(times=times, color=color, first="images", suffix="_target")
    data = load("./set")
    channels = 3 if color else 1
    height, width = min(64, 16 * times), min(64, 24 * times)
    assert data.task.labels is Labels.IMAGE
    assert (data.image_shape, data.classes) == ((height, width, channels), channels)
    assert (data.enlarge, data.pixels, data.resize) == (times, "bytes", "crop")
    assert data.sizes == {"train": 14, "val": 3, "test": 3}
    left = (24 * times - width) // 2  # of 72, the middle 64
    for split in data.sizes:
        for image, label, number in pairs(data, split):
            assert image.dtype == label.dtype == np.uint8
            np.testing.assert_array_equal(label, made[number][:, left : left + width])
            small = Image.open(f"set/images/{number:02}.png")
            large = small.resize((24 * times, 16 * times), Image.Resampling.BICUBIC)
            wanted = np.asarray(large).reshape(16 * times, 24 * times, -1)
            np.testing.assert_array_equal(image, wanted[:, left : left + width])


def test_the_middle_is_used_pixel_by_pixel() -> None:
    made = write((12, 20), 2)
    larger = np.zeros((16, 30), np.uint8)
    Image.fromarray(larger).save("set/inputs/07.png")
    Image.fromarray(larger.repeat(2, 0).repeat(2, 1)).save("set/targets/07.png")
    data = load("./set")
    assert data.image_shape == (24, 40, 1)
    assert data.files is not None
    assert data.files.sizes[-1] == (16, 30)
    (note,) = data.notes
    assert note.startswith("of 1 of 20 images, the middle 24x40 pixels are used")
    data = load("./set", (8, 16, 1))
    for split in data.sizes:
        for image, label, number in pairs(data, split):
            assert image.shape == label.shape == (8, 16, 1)
            if number != 7:
                np.testing.assert_array_equal(label, made[number][8:16, 12:28])


def test_splits_may_be_given_and_gray_images_may_get_colors() -> None:
    write((8, 8), 1, root="all", color=True)
    for split, numbers in (("train", range(16)), ("val", range(16, 20))):
        for name in ("inputs", "targets"):
            Path("set", split, name).mkdir(parents=True)
            for number in numbers:
                image = Image.open(f"all/{name}/{number:02}.png")
                image.convert("L" if name == "inputs" else "RGB").save(
                    Path("set", split, name, f"{number:02}.png")
                )
    data = load("./set")
    assert data.sizes == {"train": 16, "val": 4}
    assert (data.image_shape, data.classes, data.label_shape) == ((8, 8, 1), 3, (8, 8, 3))
    image, label = next(data.split("val").as_numpy_iterator())
    assert (image.shape, label.shape) == ((8, 8, 1), (8, 8, 3))
    assert load("./set", (8, 8, 3)).image_shape == (8, 8, 3)


def test_16_bits_keep_their_range() -> None:
    write((8, 8), 1)
    for place in Path("set/targets").iterdir():
        array = np.asarray(Image.open(place)).astype(np.uint16)
        Image.fromarray(array * 257).save(place)
    data = load("./set")
    assert data.peak == 65535
    for image, label, _ in pairs(data, "train"):
        assert image.dtype == label.dtype == np.float32
        np.testing.assert_allclose(image, label, atol=1e-6)


def refused(name: str = "./set", **options: str) -> str:
    with pytest.raises(reskeras.RequestError) as error:
        load(name, options=DataOptions(**options))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_named() -> None:
    write((8, 8), 2)
    assert "train.resize: stretch changes how sharp" in refused(resize="stretch")
    assert "'segmentation' takes masks, but the data hold" in refused(task="segmentation")
    target = Path("set/targets/03.png")
    whole = target.read_bytes()
    Image.new("L", (24, 24)).save(target)
    assert refused() == (
        "set/targets/03.png: the target has 24x24 for an image of 8x8 pixels: 3 times larger "
        "sides, where others are 2 times larger; a network enlarges all alike"
    )
    Image.new("L", (20, 16)).save(target)
    assert refused().startswith("set/targets/03.png: the target has 16x20 for an image of 8x8 pix")
    target.unlink()
    assert refused() == "set/inputs: images without a target of their name in targets/: 03.png"
    target.write_bytes(whole)
    with pytest.raises(reskeras.RequestError, match=r"16x16 pixels .*, fewer than the network's"):
        load("./set", (32, 32, 1))
    write((3, 3), 2, root="tiny")
    assert refused("./tiny").startswith("tiny/targets: targets of 6x6 pixels (height x width) are")


def test_masks_beside_targets_are_asked_about_and_images_alone_are_refused() -> None:
    write((8, 8), 1)
    Path("set/masks").mkdir()
    for number in range(COUNT):
        mask = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2
        Image.fromarray(mask).save(f"set/masks/{number:02}.png")
    (Path("set/inputs")).rename("set/images")
    assert "holds masks and targets for its images; --task segmentation or" in refused()
    for task, kind in (("segmentation", Labels.MASK), ("restoration", Labels.IMAGE)):
        assert load("./set", options=DataOptions(task=task)).task.labels is kind
    Path("photos").mkdir()
    Image.new("L", (8, 8)).save("photos/1.png")
    assert refused("./photos", task="restoration") == (
        "photos: holds no targets; images to restore lie in photos/inputs/ and what is to be made "
        "of them, under the same names, in photos/targets/"
    )


def test_targets_are_part_of_the_digest() -> None:
    write((8, 8), 1)
    before = load("./set").digest
    assert load("./set").digest == before
    Image.new("L", (8, 8)).save("set/targets/03.png")
    assert load("./set").digest != before
