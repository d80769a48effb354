"""What is said about data is what NumPy says of the same arrays."""

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from reskeras.cli import main
from reskeras.data import from_arrays, load
from reskeras.data.survey import examples, survey


def test_numbers_are_those_of_the_arrays(blobs: dict[str, np.ndarray]) -> None:
    arrays = {key: array.copy() for key, array in blobs.items()}
    arrays["x_train"][:3] = arrays["x_train"][0]
    arrays["x_test"][5] = arrays["x_train"][0]
    arrays["x_test"][7] = arrays["x_val"][9]
    arrays["y_val"][:] = 1
    arrays["y_val"][:12] = 2
    arrays["y_train"][:70] = 2
    found = survey(from_arrays(arrays))
    for split in ("train", "val", "test"):
        assert found.counts[split] == tuple(np.bincount(arrays[f"y_{split}"], minlength=3))
    x = arrays["x_train"].astype(np.float64)
    np.testing.assert_allclose((found.low, found.high), (x.min(), x.max()))
    np.testing.assert_allclose((*found.mean, *found.deviation), (x.mean(), x.std()))
    assert found.baseline == 12 / 48  # class 2 is the commonest in training
    assert found.copies == (
        ("train[0]", "train[1]", "train[2]", "test[5]"),
        ("val[9]", "test[7]"),
    )
    assert found.leaks == 1


def test_masks_are_counted_by_pixels(blobs: dict[str, np.ndarray]) -> None:
    masks = {f"y_{split}": (blobs[f"x_{split}"][..., 0] > 0.5) * 1 for split in ("train", "val")}
    data = from_arrays({key: blobs[key] for key in ("x_train", "x_val")} | masks)
    assert survey(data).counts["val"] == tuple(np.bincount(masks["y_val"].ravel()))


def photos(root: Path) -> None:
    random = np.random.default_rng(0)
    for name, count in (("ok", 18), ("bad", 6)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "bad" / "copy.png").write_bytes((root / "ok" / "3.png").read_bytes())


def test_the_command_tells_it_and_draws_the_images_with_their_labels(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    done = CliRunner().invoke(main, ["data", "./photos", "-o", "sheet.png"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["class", "train", "val", "test"]
    assert lines[1].split()[0] == "ok"  # the most common one comes first
    assert any(line.startswith("values     0 to 1, mean of each channel 0.4") for line in lines)
    assert "copies     sets of equal images: 1" in lines
    assert "photos/bad/copy.png" in done.stdout
    assert lines[-1] == "saved: sheet.png"
    assert np.ptp(np.asarray(Image.open("sheet.png"))) == 255
    told = json.loads(CliRunner().invoke(main, ["data", "./photos", "--json"]).stdout)
    assert (told["class_names"], told["image_shape"]) == (["bad", "ok"], [12, 10, 3])
    assert sum(map(sum, told["counts"].values())) == 25


def test_embedded_data_are_listed_and_mistakes_are_refused_before_reading() -> None:
    assert CliRunner().invoke(main, ["data"]).stdout == "digits\n"
    done = CliRunner().invoke(main, ["data", "digits", "-o", "sheet.pdf"])
    assert (done.exit_code, done.stderr) == (
        2,
        "error: sheet.pdf: unknown suffix .pdf; use .svg or .png\n",
    )


def test_examples_are_random_and_of_every_class(blobs: dict[str, np.ndarray]) -> None:
    order = np.argsort(blobs["y_train"], kind="stable")
    data = from_arrays(blobs | {key: blobs[key][order] for key in ("x_train", "y_train")})
    labels = [int(label) for _, label in examples(data, 12)]
    assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4
    assert labels != sorted(labels)


def test_pictures_of_masks_show_their_borders(tmp_path: Path) -> None:
    x = np.zeros((6, 16, 16), np.uint8)
    masks = np.zeros((6, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 1
    np.savez("cells.npz", x_train=x, y_train=masks, x_val=x, y_val=masks)
    done = CliRunner().invoke(main, ["data", "cells.npz", "-o", "sheet.png"])
    assert done.exit_code == 0, done.output
    assert "class (pixels)" in done.stdout
    picture = np.asarray(Image.open("sheet.png").convert("RGB")).astype(int)
    border = np.abs(picture - [0xB4, 0x43, 0x0F]).sum(-1) < 30  # palette.HIGHLIGHT
    assert border.sum() > 100
    assert load("cells.npz").classes == 2
