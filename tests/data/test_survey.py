"""What is said about data is what NumPy says of the same arrays."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from reskeras.cli import main
from reskeras.data import from_arrays, load
from reskeras.data.embedded import EMBEDDED
from reskeras.data.label_facts import ClassFacts
from reskeras.data.near import near_groups, small_versions
from reskeras.data.survey import examples, survey
from reskeras.spec import AUGMENTATIONS


def test_numbers_are_those_of_the_arrays(blobs: dict[str, np.ndarray]) -> None:
    arrays = {key: array.copy() for key, array in blobs.items()}
    arrays["x_train"][:3] = arrays["x_train"][0]
    arrays["x_test"][5] = arrays["x_train"][0]
    arrays["x_test"][7] = arrays["x_val"][9]
    arrays["y_val"][:] = 1
    arrays["y_val"][:12] = 2
    arrays["y_train"][:70] = 2
    found = survey(from_arrays(arrays))
    assert isinstance(found.labels, ClassFacts)
    for split in ("train", "val", "test"):
        counts = np.bincount(arrays[f"y_{split}"], minlength=3)
        assert found.labels.counts[split] == tuple(counts)
    x = arrays["x_train"].astype(np.float64)
    np.testing.assert_allclose((found.low, found.high), (x.min(), x.max()))
    np.testing.assert_allclose((*found.mean, *found.deviation), (x.mean(), x.std()))
    assert found.labels.baseline is not None
    assert found.labels.baseline.score == 12 / 48  # class 2 is the commonest in training
    assert found.copies == (
        ("train[0]", "train[1]", "train[2]", "test[5]"),
        ("val[9]", "test[7]"),
    )
    assert found.leaks == 1
    shares = np.bincount(arrays["y_train"]) / 96
    assert (found.labels.largest_share, found.labels.smallest_share) == (shares.max(), shares.min())
    assert found.labels.mask_values is None


def test_masks_are_counted_by_pixels(blobs: dict[str, np.ndarray]) -> None:
    masks = {f"y_{split}": (blobs[f"x_{split}"][..., 0] > 0.5) * 1 for split in ("train", "val")}
    data = from_arrays({key: blobs[key] for key in ("x_train", "x_val")} | masks)
    found = survey(data).labels
    assert isinstance(found, ClassFacts)
    assert found.counts["val"] == tuple(np.bincount(masks["y_val"].ravel()))
    assert found.mask_values == (0, 1)


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
    (tmp_path / "photos" / "ok" / "cut.png").touch()
    done = CliRunner().invoke(main, ["data", "./photos", "-o", "sheet.png"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["class", "train", "val", "test"]
    assert lines[1].split()[0] == "ok"  # the most common one comes first
    assert any(line.startswith("values     0 to 1, mean of each channel 0.4") for line in lines)
    assert "copies     sets of equal images: 1" in lines
    assert "photos/bad/copy.png" in done.stdout
    assert "files      all 12x10 (height x width)" in lines
    assert "           1 unreadable; --json names all of them" in lines
    assert any(line.startswith("reading    ") for line in lines)
    assert any(
        line.startswith("training   ") and "tune's default network (resnet, " in line
        for line in lines
    )
    assert lines[-1] == "saved: sheet.png"
    assert np.ptp(np.asarray(Image.open("sheet.png"))) == 255
    done = CliRunner().invoke(main, ["data", "./photos", "--json", "--no-time"])
    told = json.loads(done.stdout)
    assert (told["class_names"], told["image_shape"]) == (["bad", "ok"], [12, 10, 3])
    assert sum(map(sum, told["counts"].values())) == 25
    assert told["files"]["unreadable"] == {"ok/cut.png": "the file is empty"}
    assert set(told["time"]) == {"read_per_second"}


def test_embedded_data_are_listed_and_mistakes_are_refused_before_reading() -> None:
    done = CliRunner().invoke(main, ["data"])
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(EMBEDDED)
    assert set(json.loads(CliRunner().invoke(main, ["data", "--json"]).stdout)) == set(EMBEDDED)
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


def test_real_digits_are_not_alike() -> None:
    """By scikit-learn's own arrays: none of them is the same digit twice."""
    digits = (load_digits().images / 16).astype(np.float32)[..., None]
    assert near_groups(small_versions(digits), 1.0) == []


def windows(side: int) -> list[Image.Image]:
    """Parts of scikit-learn's two photos that do not overlap."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    return [
        photo.crop((x, y, x + side, y + side))
        for photo in photos
        for y in range(0, photo.height - side + 1, side)
        for x in range(0, photo.width - side + 1, side)
    ]


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompressed,
    "brighter": lambda image: image.point(lambda value: min(255, round(1.03 * value))),
    "smaller": lambda image: image.resize((90, 90), Image.Resampling.LANCZOS),
}


def network_size(images: list[Image.Image]) -> np.ndarray:
    found = [np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR)) for image in images]
    return np.stack(found).astype(np.float32) / 255


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_photo_saved_again_is_found_and_others_are_not(change: str) -> None:
    originals = windows(100)
    shown = [n for n, image in enumerate(originals) if np.asarray(image).std((0, 1)).max() > 30]
    assert len(shown) > 20
    images = network_size([*originals, *(CHANGES[change](originals[n]) for n in shown)])
    groups = near_groups(small_versions(images), 1.0)
    assert sorted(groups) == [[n, len(originals) + place] for place, n in enumerate(shown)]


def test_flat_images_are_not_all_alike() -> None:
    random = np.random.default_rng(0)
    images = random.random((40, 1, 1, 3)) + random.normal(0, 0.003, (40, 32, 32, 3))
    assert near_groups(small_versions(images.astype(np.float32)), 1.0) == []
    assert near_groups(small_versions(np.zeros((5, 8, 8, 1), np.float32)), 0.0) == []


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 8, 1), (21, 16, 3), (40, 5, 1)]))
def test_no_pair_is_missed(seed: int, shape: tuple[int, int, int]) -> None:
    """By comparing all pairs: what is near to none before it begins a group of those after it."""
    random = np.random.default_rng(seed)
    base = random.random((6, *shape))
    images = base[random.integers(6, size=30)] + random.normal(0, 0.02, (30, *shape))
    small = small_versions(images.astype(np.float32))
    exact = small.astype(np.float64)
    flat = (exact - exact.mean((1, 2), keepdims=True)).reshape(30, -1)
    alike = flat / flat.std(1, keepdims=True)
    apart = np.sqrt(((alike[:, None] - alike[None]) ** 2).mean(-1))
    wanted, free = [], set(range(30))
    for one in range(30):
        if one in free:
            group = [n for n in sorted(free) if n == one or (n > one and apart[one, n] <= 0.08)]
            free -= set(group)
            wanted += [group] if len(group) > 1 else []
    assert near_groups(small, 1.0) == wanted


@pytest.mark.parametrize("side", [5, 16, 24, 37])
def test_small_versions_are_averages(side: int) -> None:
    """By Pillow's box filter, which weighs pixels by the share of them that lies in a cell."""
    image = np.random.default_rng(0).random((side, side)).astype(np.float32)
    small = small_versions(image[None, ..., None])[0, ..., 0]
    cells = min(side, 16)
    wanted = Image.fromarray(image).resize((cells, cells), Image.Resampling.BOX)
    if side % cells == 0:
        np.testing.assert_allclose(small, np.asarray(wanted), atol=1e-3)
    np.testing.assert_allclose(small.mean(dtype=np.float64), image.mean(), atol=1e-3)


def test_nearly_equal_images_of_other_splits_are_leaks() -> None:
    images = network_size(windows(100))
    photos = images[images.std((1, 2, 3)) > 0.15][:16]
    again = 0.97 * photos[:2]
    arrays = {"x_train": photos[:10], "y_train": np.arange(10) % 2}
    arrays |= {"x_val": np.concatenate([photos[10:13], again[:1]]), "y_val": np.arange(4) % 2}
    arrays |= {"x_test": np.concatenate([photos[13:], again[1:]]), "y_test": np.arange(4) % 2}
    found = survey(from_arrays(arrays))
    assert found.near == (("train[0]", "val[3]"), ("train[1]", "test[3]"))
    assert (found.copies, found.leaks, found.near_leaks) == ((), 0, 2)


def test_the_sheet_shows_the_same_images_augmented(blobs: dict[str, np.ndarray]) -> None:
    data = from_arrays(blobs)
    plain, flipped = examples(data, 12), examples(data, 12, AUGMENTATIONS["shift_flip"])
    assert [label for _, label in plain] == [label for _, label in flipped]
    for (image, _), (other, _) in zip(plain, flipped, strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        assert any(
            np.array_equal(other, padded[y : y + 8, x : x + 8][:, ::step])
            for y in range(3)
            for x in range(3)
            for step in (1, -1)
        )
    assert any(not np.array_equal(a, b) for (a, _), (b, _) in zip(plain, flipped, strict=True))


def test_sheets_have_two_blocks_or_one(blobs_npz: Path) -> None:
    heights = []
    for augment in ("shift", "none"):
        done = CliRunner().invoke(
            main, ["data", "blobs.npz", "-o", "a.png", "--augment", augment, "--no-time"]
        )
        assert done.exit_code == 0, done.output
        assert "training   " not in done.stdout
        with Image.open("a.png") as picture:
            heights.append(picture.height)
    assert heights[0] == 2 * heights[1]
