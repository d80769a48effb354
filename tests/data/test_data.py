"""Images from every source, and what is said of those that do not fit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import reskeras
from reskeras.data import from_arrays, load, tfds


def as_arrays(data: object, split: str) -> tuple[np.ndarray, np.ndarray]:
    return next(data.split(split).batch(5000).as_numpy_iterator())


def test_digits_are_scikit_learns_in_three_splits_that_share_nothing() -> None:
    data = load("digits", (32, 32, 3))
    assert data.describe() == "digits: 1,077 train, 360 val, 360 test images of 8x8x1 in 10 classes"
    images, labels = (
        np.concatenate(parts)
        for parts in zip(*(as_arrays(data, split) for split in data.sizes), strict=True)
    )
    assert images.dtype == np.float32
    assert images.max() == 1.0
    ours = sorted(
        (label, tuple(np.round(image * 16).astype(int).ravel()))
        for image, label in zip(images, labels, strict=True)
    )
    raw = load_digits()
    theirs = sorted(
        (label, tuple(image.astype(int).ravel()))
        for image, label in zip(raw.images, raw.target, strict=True)
    )
    assert ours == theirs
    for split in data.sizes:
        shares = np.bincount(as_arrays(data, split)[1]) / np.bincount(raw.target)
        np.testing.assert_allclose(shares, data.sizes[split] / 1797, atol=0.01)  # split by class


def test_arrays_are_scaled_when_bytes_and_taken_as_they_are_when_floats(
    blobs: dict[str, np.ndarray],
) -> None:
    data = from_arrays(blobs)
    np.testing.assert_array_equal(as_arrays(data, "val")[0], blobs["x_val"])
    as_bytes = {
        key: (value * 100).clip(0, 255).astype("uint8")[..., 0] if key[0] == "x" else value
        for key, value in blobs.items()
    }
    scaled = from_arrays(as_bytes)
    np.testing.assert_allclose(
        as_arrays(scaled, "val")[0][..., 0], as_bytes["x_val"] / 255, rtol=1e-6
    )
    assert scaled.digest != data.digest
    assert from_arrays(blobs).digest == data.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_val": None}, "x_val is missing"),
        ({"y_test": None}, "x_test and y_test go together"),
        ({"x_extra": np.zeros(3)}, "unknown array 'x_extra'"),
        ({"x_train": np.zeros((96, 64))}, "x_train has shape (96, 64); images are"),
        ({"x_val": np.zeros((48, 9, 8, 1))}, "x_val has shape (48, 9, 8, 1)"),
        (
            {"x_train": np.zeros((96, 8, 8, 1), "int64")},
            "x_train is int64; images are uint8 or floats",
        ),
        ({"x_train": np.full((96, 8, 8, 1), np.nan)}, "x_train holds values that are not finite"),
        ({"y_train": np.zeros(96)}, "y_train is float64; labels are integers"),
        ({"y_train": np.full(96, -1)}, "y_train holds -1"),
        (
            {"y_train": np.zeros(95, int)},
            "y_train has shape (95,); for 96 images it is (96,) (labels) or (96, 8, 8) (masks)",
        ),
        ({"y_train": np.arange(96) % 3 * 127}, "y_train holds 3 labels, but they go up to 254"),
        (
            {"y_train": np.arange(96) * 10**9},
            "y_train holds 95000000000; labels are counted from 0, up to 65,536 classes",
        ),
        ({"x_train": np.float64(3)}, "single numbers"),
        (
            {
                f"x_{split}": np.zeros((n, 0, 8, 1))
                for split, n in (("train", 96), ("val", 48), ("test", 48))
            },
            "images without pixels",
        ),
        (
            {
                f"y_{split}": np.zeros(n, int)
                for split, n in (("train", 96), ("val", 48), ("test", 48))
            },
            "y_train holds only the class 0; at least two are needed",
        ),
        ({"x_val": np.zeros((0, 8, 8, 1)), "y_val": np.zeros(0, int)}, "x_val holds no images"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    blobs: dict[str, np.ndarray], changes: dict[str, object], message: str
) -> None:
    arrays = {key: value for key, value in (blobs | changes).items() if value is not None}
    with pytest.raises(reskeras.RequestError) as error:
        from_arrays(arrays, where="my.npz")
    assert message in str(error.value)
    assert all(line.startswith("my.npz: ") for line in str(error.value).splitlines())


def test_an_npz_is_checked_before_it_is_believed(tmp_path: Path, blobs_npz: Path) -> None:
    assert load(str(blobs_npz), (8, 8, 1)).sizes == {"train": 96, "val": 48, "test": 48}
    with pytest.raises(reskeras.RequestError, match=r"none\.npz: no such file"):
        load("none.npz", (8, 8, 1))
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(reskeras.RequestError, match=r"text\.npz: not an \.npz"):
        load("text.npz", (8, 8, 1))
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name in ("empty", "one"):
        with pytest.raises(reskeras.RequestError, match=rf"{name}\.npz: not an \.npz"):
            load(f"{name}.npz", (8, 8, 1))
    np.savez(tmp_path / "none.npz")
    with pytest.raises(
        reskeras.RequestError, match=r"none\.npz: holds no arrays; x_train, y_train"
    ):
        load("none.npz", (8, 8, 1))
    np.savez(tmp_path / "objects.npz", x_train=np.array([{}], dtype=object))
    with pytest.raises(reskeras.RequestError, match=r"objects\.npz: not an \.npz of plain arrays"):
        load("objects.npz", (8, 8, 1))


def write_images(folder: Path, count: int, value: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (12, 10), (value, 0, 0)).save(folder / f"{number}.png")


def test_a_folder_of_classes_is_split_within_each_class(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "cat", 20, 255)
    write_images(tmp_path / "pets" / "dog", 40, 51)
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("not an image")
    data = load("./pets", (8, 8, 3))
    assert (data.name, data.classes, data.image_shape) == ("pets", 2, (8, 8, 3))
    assert data.sizes == {"train": 42, "val": 9, "test": 9}
    images, labels = as_arrays(data, "train")
    np.testing.assert_allclose(images[labels == 0][..., 0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(images[labels == 1][..., 0], 0.2, rtol=1e-5)
    assert load("./pets", (8, 8, 3)).digest == data.digest


def test_a_folder_with_splits_keeps_them(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate("ab"):
            write_images(tmp_path / "set" / split / name, count, 50 * label)
    assert load("./set", (8, 8, 3)).sizes == {"train": 8, "val": 4}
    write_images(tmp_path / "set" / "test" / "c", 1, 0)
    with pytest.raises(reskeras.RequestError, match="classes that train/ does not have: c"):
        load("./set", (8, 8, 3))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    for name in "ab":
        write_images(tmp_path / "set" / name, 10, 9)
    Image.new("L", (5, 5), 77).save(tmp_path / "set" / "a" / "gray.bmp")
    assert as_arrays(load("./set", (8, 8, 1)), "train")[0].shape[1:] == (8, 8, 1)
    (tmp_path / "set" / "b" / "3.png").write_text("oops")
    with pytest.raises(
        reskeras.RequestError, match=r"set/b/3\.png: not a PNG, JPEG, GIF or BMP image"
    ):
        load("./set", (8, 8, 3))


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(reskeras.RequestError, match="no such folder"):
        load("./none", (8, 8, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        reskeras.RequestError, match=r"found no class; at least two are needed, as .*CLASS/\*\.png"
    ):
        load("./empty", (8, 8, 3))
    (tmp_path / "one" / "cats").mkdir(parents=True)
    Image.new("L", (8, 8)).save("one/cats/1.png")
    with pytest.raises(reskeras.RequestError, match="found only one class, 'cats'"):
        load("./one", (8, 8, 3))


def test_an_unknown_data_set_is_told_its_nearest() -> None:
    with pytest.raises(
        reskeras.RequestError, match="unknown data set 'mnistt'; did you mean 'mnist'"
    ):
        load("mnistt", (8, 8, 3))


def test_a_data_set_to_download_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tfds, "_PROBE_URL", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        reskeras.RequestError, match="must be downloaded, but the network does not answer"
    ):
        load("mnist", (8, 8, 3))


@dataclasses.dataclass
class _Info:
    splits: dict[str, int]


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        (["train", "validation", "test"], ("train", "validation", "test")),
        (["train", "test"], ("train[:90%]", "train[90%:]", "test")),
        (["train", "validation"], ("train[:90%]", "train[90%:]", "validation")),
        (["train"], ("train[:80%]", "train[80%:90%]", "train[90%:]")),
    ],
)
def test_missing_splits_are_cut_from_the_end_of_train(
    have: list[str], expected: tuple[str, ...]
) -> None:
    assert tuple(tfds._splits(_Info(dict.fromkeys(have, 1)), "x").values()) == expected
    with pytest.raises(reskeras.RequestError, match="has no split 'train'"):
        tfds._splits(_Info({"all": 1}), "x")
