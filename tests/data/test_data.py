"""Images from every source, and what is said of those that do not fit."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import reskeras
from reskeras.data import from_arrays, load
from reskeras.data.unlabeled import Source, View, open_images
from reskeras.tasks import task_called

SEGMENTATION = task_called("segmentation")


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
        ({"x_train": None}, "x_train is missing"),
        ({"x_val": None}, "x_val and y_val go together"),
        ({"y_test": None}, "x_test and y_test go together"),
        ({"x_extra": np.zeros(3)}, "unknown array 'x_extra'"),
        (
            {"x_train": np.zeros((96, 64))},
            "arrays of shape (96, 64) could be flat images or signals",
        ),
        ({"x_val": np.zeros((48, 9, 8, 1))}, "x_val has shape (48, 9, 8, 1)"),
        (
            {"x_train": np.zeros((96, 8, 8, 1), "complex64")},
            "x_train is complex64; images are uint8, other integers, or floats",
        ),
        (
            {"x_val": np.full((48, 8, 8, 1), 1e300)},
            "x_val holds values that are not finite, or bey",
        ),
        ({"x_train": np.full((96, 8, 8, 1), np.nan)}, "x_train holds values that are not finite"),
        (
            {"y_train": np.zeros(95, int)},
            "y_train has shape (95,); for 96 images it is (96,) (labels) or (96, 8, 8) (masks)",
        ),
        (
            {"y_train": np.arange(96) * 10**9},
            "y_train holds 98 different labels for 96 images; labels are classes",
        ),
        ({"y_train": np.full(96, "a", "S1")}, "y_train holds only the class a; at least two are"),
        (
            {
                f"x_{split}": np.zeros((n, 3, 16, 16), np.uint8)
                for split, n in (("train", 96), ("val", 48), ("test", 48))
            },
            "x_train has shape (96, 3, 16, 16), which looks like channels first",
        ),
        (
            {
                f"y_{split}": np.tile(np.array([0, 1, 255, 0], np.uint8), (n, 8, 2))
                for split, n in (("train", 96), ("val", 48), ("test", 48))
            },
            "masks hold 255 beside 0, 1",
        ),
        (
            {
                f"y_{split}": np.full((n, 8, 8), "a")
                for split, n in (("train", 96), ("val", 48), ("test", 48))
            },
            "y_val holds words; masks hold whole numbers",
        ),
        ({"class_names": np.array(["a"])}, "class_names has 1 names; labels are 0, 1, 2"),
        ({"class_names": np.array(["a", "b", "a"])}, "class_names holds a name twice"),
        ({"x_train": np.zeros((1, 8, 8)), "y_train": [0]}, "x_train holds one image"),
        ({"x_train": [[1, 2], [3]]}, "x_train is no array"),
        (
            {
                "x_train": np.linspace(0, 1, 96 * 64).reshape(96, 8, 8, 1),
                "x_val": np.full((48, 8, 8, 1), 200.0),
                "x_test": np.zeros((48, 8, 8, 1)),
            },
            "the splits have other scales (x_train up to 1, x_val up to 200, x_test up to 0)",
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
    with np.errstate(over="raise"), pytest.raises(reskeras.RequestError) as error:
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
    (tmp_path / "set" / "b" / "4.png").write_text("oops")
    with pytest.raises(reskeras.RequestError, match=r"\n  b/3\.png: not a PNG, JPEG, GIF, BMP"):
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


def test_folders_that_are_no_classes_are_left_alone(tmp_path: Path) -> None:
    for name in ("cat", "dog", ".ipynb_checkpoints", "__MACOSX"):
        write_images(tmp_path / "pets" / name, 10, 9)
    (tmp_path / "pets" / "cat" / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "pets" / "cat" / "x.png").mkdir()
    (tmp_path / "pets" / "bird").mkdir()
    data = load("./pets", (10, 12, 3))
    assert data.class_names == ("cat", "dog")
    assert sum(data.sizes.values()) == 20
    assert data.notes == ("left out classes without training images: bird",)


def test_a_class_may_be_called_train_and_splits_may_be_capital(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        write_images(tmp_path / "vehicles" / name, 10, 9)
    assert load("./vehicles", (8, 8, 3)).class_names == ("bus", "train")
    for split in ("TRAIN", "Val", "Testing"):
        for name in "ab":
            write_images(tmp_path / "set" / split / name, 2, 9)
    assert load("./set", (8, 8, 3)).sizes == {"train": 4, "val": 4, "test": 4}


def test_a_validation_split_is_cut_where_there_is_none(
    tmp_path: Path, blobs: dict[str, np.ndarray]
) -> None:
    for split, count in (("train", 20), ("test", 3)):
        for name in "ab":
            write_images(tmp_path / "set" / split / name, count, 9)
    data = load("./set", (10, 12, 3))
    assert data.sizes == {"train": 34, "val": 6, "test": 6}
    assert data.notes == ("no val/: 15.0 % of the training images are for validation",)
    data = from_arrays({key: array for key, array in blobs.items() if "val" not in key})
    assert data.sizes == {"train": 82, "val": 14, "test": 48}
    assert np.bincount(as_arrays(data, "val")[1]).tolist() in ([5, 5, 4], [5, 4, 5], [4, 5, 5])
    assert data.notes == ("no x_val: 15.0 % of the training images are for validation",)
    parts = [as_arrays(data, split)[0] for split in ("train", "val")]
    whole = sorted(image.tobytes() for image in blobs["x_train"])
    assert sorted(image.tobytes() for part in parts for image in part) == whole


def test_the_size_of_images_is_chosen_from_the_files_and_said(tmp_path: Path) -> None:
    for name, size in (("a", (320, 240)), ("b", (640, 480))):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", size, number).save(tmp_path / "set" / name / f"{number}.png")
    data = load("./set")
    assert data.image_shape == (48, 64, 1)  # as wide to its height as the images, and gray
    assert data.notes == (
        "20 of 20 images are resized to 48x64 (height x width; the median of each side is "
        "360x480); input_shape in a spec sets another size, train.resize another way",
    )
    Image.new("RGB", (10, 10)).save(tmp_path / "set" / "a" / "color.png")
    data = load("./set")
    assert data.image_shape == (48, 64, 3)
    assert ", cropped where their proportions differ; input_shape" in data.notes[0]
    write_images(tmp_path / "small" / "a", 9, 9)
    write_images(tmp_path / "small" / "b", 9, 9)
    assert (load("./small").image_shape, load("./small").notes) == ((10, 12, 3), ())


def test_a_class_that_is_most_of_the_data_is_said(
    tmp_path: Path, blobs: dict[str, np.ndarray]
) -> None:
    write_images(tmp_path / "set" / "ok", 95, 9)
    write_images(tmp_path / "set" / "broken", 5, 9)
    (note,) = load("./set").notes
    assert re.match(r"9\d\.\d % of the training images are of the class ok: the same answer", note)
    balanced = from_arrays(blobs)
    assert balanced.notes == ()


def test_a_rare_class_is_learned_first_and_said(tmp_path: Path) -> None:
    for name, count in (("one", 1), ("two", 2), ("many", 20), ("more", 20)):
        write_images(tmp_path / "set" / name, count, 9)
    data = load("./set", (10, 12, 3))
    assert set(as_arrays(data, "train")[1]) == {0, 1, 2, 3}
    assert data.notes == (
        "the val split has no images of one",
        "the test split has no images of one, two",
    )


def test_a_split_tears_no_folder_below_a_class_apart(tmp_path: Path) -> None:
    for label in range(2):
        for patient in range(20):
            write_images(tmp_path / "set" / f"{label}" / f"p{patient}", 3, 60 * label + patient)
    data = load("./set", (10, 12, 3))
    assert data.sizes == {"train": 84, "val": 18, "test": 18}
    seen = [
        {int(value) for value in np.rint(as_arrays(data, split)[0][:, 0, 0, 0] * 255)}
        for split in data.sizes
    ]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_names_may_be_of_any_bytes_and_links_are_followed(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "R\u00f6ntgen (neu) 50% #1", 10, 9)
    elsewhere = tmp_path / "set" / ".elsewhere"
    write_images(elsewhere, 10, 90)
    (tmp_path / "set" / "linked").symlink_to(elsewhere)
    latin = os.fsencode(elsewhere) + b"/caf\xe9.png"
    os.rename(elsewhere / "0.png", latin)
    data = load("./set", (8, 8, 3))
    assert data.class_names == ("R\u00f6ntgen (neu) 50% #1", "linked")
    assert len(as_arrays(data, "train")[0]) == data.sizes["train"] == 12


def test_images_without_a_class_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "flat", 10, 9)
    with pytest.raises(reskeras.RequestError, match="images that lie in the folder itself have no"):
        load("./flat", (8, 8, 3))


def test_a_few_unreadable_files_are_left_out_and_many_refuse_the_folder(tmp_path: Path) -> None:
    for name in "ab":
        write_images(tmp_path / "set" / name, 20, 9)
    whole = (tmp_path / "set" / "a" / "0.png").read_bytes()
    (tmp_path / "set" / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "set" / "b" / "gone.png").symlink_to("nothing.png")
    data = load("./set", (10, 12, 3))
    assert sum(data.sizes.values()) == 40
    (note,) = data.notes
    assert note.startswith("2 of 42 files cannot be read, and are left out:\n  a/cut.png: ")
    assert "b/gone.png: a link to nothing" in note
    for number in range(12):
        (tmp_path / "set" / "a" / f"empty{number:02}.png").touch()
    with pytest.raises(reskeras.RequestError) as error:
        load("./set", (10, 12, 3))
    lines = str(error.value).splitlines()
    assert lines[0] == "set: 14 of 54 files cannot be read; fix or delete them:"
    assert (len(lines), lines[-1]) == (12, "  and 4 more")


def test_a_file_that_breaks_later_names_itself(tmp_path: Path) -> None:
    for name in "ab":
        write_images(tmp_path / "set" / name, 10, 9)
    data = load("./set", (8, 8, 3))
    for path in (tmp_path / "set").rglob("*.png"):
        path.write_text("oops")
    with pytest.raises(
        reskeras.RequestError, match=r"^set/a/\d\.png: not a PNG.*; fix or delete it$"
    ):
        data.tensors("train")


def test_other_pixels_under_the_same_names_are_other_data(tmp_path: Path) -> None:
    for name in "ab":
        write_images(tmp_path / "set" / name, 10, 9)
    Image.new("L", (5, 5), 7).save(tmp_path / "set" / "a" / "0.bmp")
    before = load("./set", (8, 8, 3)).digest
    assert load("./set", (8, 8, 3)).digest == before
    Image.new("L", (5, 5), 8).save(tmp_path / "set" / "a" / "0.bmp")  # as large as before
    assert load("./set", (8, 8, 3)).digest != before


def test_scans_of_more_than_8_bits_keep_their_range(tmp_path: Path) -> None:
    for label, name in enumerate("ab"):
        (tmp_path / "scan" / name).mkdir(parents=True)
        for number in range(10):
            value = np.full((8, 8), 1000 + 2000 * label, np.uint16)
            Image.fromarray(value).save(tmp_path / "scan" / name / f"{number}.png")
    data = load("./scan", (8, 8, 1))
    assert data.peak == 4095
    assert (
        "20 images have more than 8 bits, with values up to 3,000; 4,095 becomes" in data.notes[0]
    )
    images, labels = as_arrays(data, "train")
    np.testing.assert_allclose(images[:, 0, 0, 0], (1000 + 2000 * labels) / 4095, rtol=1e-6)
    (files,) = open_images([tmp_path / "scan" / "b"])
    predicted = seen_by(files, peak=data.peak)
    np.testing.assert_allclose(predicted, 3000 / 4095, rtol=1e-6)


FORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[str, ...]]] = {
    "column": (lambda y: y[:, None], ()),
    "one-hot": (lambda y: np.eye(3, dtype="float32")[y], ()),
    "floats": (lambda y: y.astype("float32"), ()),
    "words": (lambda y: np.array(["cat", "dog", "eel"])[y], ("cat", "dog", "eel")),
    "from 1": (lambda y: y + 1, ("1", "2", "3")),
    "with gaps": (lambda y: y * 100 - 1, ("-1", "99", "199")),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_taken_in_every_usual_form(blobs: dict[str, np.ndarray], form: str) -> None:
    change, names = FORMS[form]
    data = from_arrays({k: change(v) if k[0] == "y" else v for k, v in blobs.items()})
    assert (data.classes, data.class_names) == (3, names)
    np.testing.assert_array_equal(as_arrays(data, "val")[1], blobs["y_val"])
    assert bool(data.notes) == (form in ("from 1", "with gaps"))


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask.astype(np.uint8) * 255,
        lambda mask: mask,
        lambda mask: mask.astype("float32"),
        lambda mask: mask[..., None].astype(np.uint16),
        lambda mask: np.eye(2, dtype=np.uint8)[mask.astype(int)],
    ],
    ids=["0 and 255", "bool", "float", "channel", "one-hot"],
)
def test_masks_are_taken_in_every_usual_form(
    blobs: dict[str, np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    masks = {f"y_{split}": blobs[f"x_{split}"][..., 0] > 0.5 for split in ("train", "val")}
    arrays = {key: blobs[key] for key in ("x_train", "x_val")}
    data = from_arrays(arrays | {key: change(mask) for key, mask in masks.items()})
    assert (data.task, data.classes) == (SEGMENTATION, 2)
    np.testing.assert_array_equal(as_arrays(data, "val")[1], masks["y_val"])


@pytest.mark.parametrize(
    ("change", "peak"),
    [
        (lambda x: x.astype("float32"), 255),
        (lambda x: x.astype("float64") / 255, None),
        (lambda x: x.astype("float32") / 127.5 - 1, None),
        (lambda x: x.astype("uint16") * 257, 65535),
        (lambda x: x.astype("uint16") * 16, 4095),
        (lambda x: x.astype("int64"), 255),
    ],
    ids=["floats to 255", "floats to 1", "floats from -1", "16 bits", "12 bits", "int64"],
)
def test_the_range_of_numbers_is_found_and_said(
    change: Callable[[np.ndarray], np.ndarray], peak: float | None
) -> None:
    x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    y = np.arange(4) % 2
    data = from_arrays({"x_train": change(x), "y_train": y, "x_val": change(x), "y_val": y})
    assert (data.peak, len(data.notes)) == (peak, int(peak is not None))
    found = as_arrays(data, "train")[0][..., 0]
    wanted = change(x) / peak if peak else change(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found.max() <= 1


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f4", ">f8", "longdouble"])
def test_arrays_of_every_byte_order_are_read_alike(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.arange(12 * 64).reshape(12, 8, 8)
    y = np.arange(12) % 2
    data = from_arrays(
        {"x_train": x.astype(dtype), "y_train": y, "x_val": x.astype(dtype), "y_val": y}
    )
    wanted = sorted((image / np.float32(1023)).tobytes() for image in x.astype("float32"))
    for images in (data.split("train"), data.shuffled("train", 3)):
        found = sorted(image[..., 0].tobytes() for image, _ in images.as_numpy_iterator())
        assert found == wanted
    assert sorted(image[..., 0].tobytes() for image in data.sampled(99)) == wanted


def test_one_hot_labels_say_how_many_classes_there_are() -> None:
    x, y = np.zeros((12, 8, 8), np.uint8), np.eye(5)[np.arange(12) % 4]
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
    assert (data.classes, data.notes) == (5, ("the train split has no images of 4",))


def test_the_only_image_of_a_class_stays_in_training() -> None:
    y = np.array([0] * 195 + [1, 2, 3, 4, 5])
    for seed in range(20):
        labels = np.random.default_rng(seed).permutation(y)
        data = from_arrays({"x_train": np.zeros((200, 4, 4), np.uint8), "y_train": labels})
        assert set(as_arrays(data, "train")[1]) == set(range(6))


def test_an_npz_that_is_damaged_is_refused_in_a_line(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez_compressed("whole.npz", x_train=x, y_train=np.arange(30) % 2)
    whole = bytearray(Path("whole.npz").read_bytes())
    refused = 0
    for place in range(0, len(whole), 97):
        broken = whole.copy()
        broken[place] ^= 0xFF
        Path("broken.npz").write_bytes(broken)
        try:
            load("broken.npz")
        except reskeras.RequestError:
            refused += 1
    assert refused > 10


def test_patients_of_a_class_called_train_and_stray_images_change_no_layout(tmp_path: Path) -> None:
    for name in ("train", "bus", "car"):
        for patient in range(3):
            write_images(tmp_path / "vehicles" / name / f"p{patient}", 2, 9)
    assert load("./vehicles").class_names == ("bus", "car", "train")
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            write_images(tmp_path / "pets" / split / name, 3, 9)
    Image.new("L", (5, 5)).save(tmp_path / "pets" / "train" / "thumb.png")
    (tmp_path / "pets" / "notes").mkdir()
    (tmp_path / "pets" / "loop").symlink_to(tmp_path / "pets")
    data = load("./pets")
    assert data.sizes == {"train": 6, "val": 6, "test": 6}
    assert data.notes == (
        "left out 1 images that lie in train/ itself",
        "left out folders that are no splits: notes",
    )
    shutil.rmtree(tmp_path / "pets" / "train")
    shutil.rmtree(tmp_path / "pets" / "notes")
    with pytest.raises(reskeras.RequestError, match="pets: has val, test but no train"):
        load("./pets")


def test_fractions_in_tiffs_stay_and_negative_ones_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "scan" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.full((8, 8), number / 10, np.float32)
            Image.fromarray(pixels).save(tmp_path / "scan" / name / f"{number}.tif")
    data = load("./scan")
    assert data.peak == 1
    assert as_arrays(data, "train")[0].max() == pytest.approx(0.9, abs=0.11)
    for pixel, said in ((np.nan, "not finite"), (-3.0, "negative ones have no place")):
        pixels[0, 0] = pixel
        for name in "ab":
            Image.fromarray(pixels).save(tmp_path / "scan" / name / "9.tif")
        with pytest.raises(reskeras.RequestError, match=said):
            load("./scan")


def seen_by(source: Source, **view: Any) -> np.ndarray:
    read = source.reader(View(image_shape=(8, 8, 1), **view))
    return np.stack([read(number).image for number in range(len(source.names))])


def test_arrays_to_predict_are_scaled_as_in_training() -> None:
    x = np.arange(256, dtype=np.uint16).reshape(4, 8, 8) * 16
    np.save("deep.npy", x)
    np.save("shares.npy", x / 4095)
    np.save("bytes.npy", (x // 16).astype(np.uint8))
    for source in open_images([Path(f"{name}.npy") for name in ("deep", "shares", "bytes")]):
        np.testing.assert_allclose(seen_by(source, peak=4095.0)[..., 0], x / 4095, atol=0.004)
    (images,) = open_images([Path("deep.npy")])
    with pytest.raises(reskeras.RequestError, match="values from 0 to 4,080; the network"):
        seen_by(images)


def test_other_words_for_splits_and_names_of_classes_are_known(
    blobs: dict[str, np.ndarray],
) -> None:
    renamed = {key.replace("val", "valid").replace("x_", "X_"): v for key, v in blobs.items()}
    data = from_arrays(renamed | {"class_names": np.array(["a", "b", "c"])})
    assert (dict(data.sizes), data.class_names) == (
        {"train": 96, "val": 48, "test": 48},
        ("a", "b", "c"),
    )


@pytest.mark.parametrize(
    "splits",
    [
        (np.linspace(-1, 1, 640), np.arange(640) % 256),
        (np.arange(640) % 256, np.linspace(-1, 1, 640)),
        (np.linspace(-1, 1, 640), np.linspace(0, 255, 640)),
    ],
)
def test_splits_of_other_scales_are_refused(splits: tuple[np.ndarray, np.ndarray]) -> None:
    arrays = {}
    for name, values in zip(("train", "val"), splits, strict=True):
        pixels = values.reshape(10, 8, 8)
        whole = pixels.dtype.kind == "i"
        arrays |= {f"x_{name}": pixels.astype("uint8" if whole else "float32")}
        arrays |= {f"y_{name}": np.arange(10) % 2}
    with pytest.raises(reskeras.RequestError, match="the splits have other scales"):
        from_arrays(arrays)


def test_too_few_images_for_a_validation_split_are_refused() -> None:
    with pytest.raises(reskeras.RequestError, match="too few images to cut a validation split"):
        from_arrays({"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.arange(3)})


@pytest.mark.parametrize(
    ("peak", "pixels", "values", "white"),
    [
        (None, "bytes", [0, 0.5], None),
        (None, "bytes", [0, 200.0], "bytes: give bytes, or numbers in 0..1"),
        (None, "bytes", [-1, 1.0], "bytes: give bytes, or numbers in 0..1"),
        (255.0, "floats", [0, 1.3], None),
        (255.0, "floats", [0, 200.0], 255.0),
        (255.0, "floats", [0, 60_000], "images from 0 to 255"),
        (255.0, "floats", [-2, 2.0], "images from 0 to 255"),
        (None, "floats", [0, 2.75], None),
        (None, "floats", [-3, 2.5], None),
        (None, "floats", [0, 255.0], "numbers near 0, used as they are"),
    ],
)
def test_arrays_for_prediction_have_the_scale_of_training(
    peak: float | None, pixels: Any, values: list[float], white: float | str | None, tmp_path: Path
) -> None:
    images = np.linspace(*values, 64).reshape(1, 8, 8, 1)
    np.save(tmp_path / "one.npy", images)
    (found,) = open_images([tmp_path / "one.npy"])
    if isinstance(white, str):
        with pytest.raises(reskeras.RequestError, match=f"the network was trained on {white}"):
            seen_by(found, peak=peak, pixels=pixels)
    else:
        seen = seen_by(found, peak=peak, pixels=pixels)
        np.testing.assert_allclose(seen, images / (white or 1), rtol=1e-6)
