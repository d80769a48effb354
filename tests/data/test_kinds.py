"""Arrays with labels of each kind and what is said of them, by NumPy, Pillow and scikit-learn."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import average_precision_score

import reskeras
from reskeras.cli import main
from reskeras.cli.labels import cell_of, print_balance, print_table
from reskeras.data import Cache, DataOptions, Fold, ImageData, from_arrays
from reskeras.data.kinds import mean_and_spread
from reskeras.data.label_facts import (
    ClassFacts,
    NumberFacts,
    PointFacts,
    RestoredFacts,
    SetFacts,
)
from reskeras.data.store import Stored, cached
from reskeras.data.survey import examples, survey
from reskeras.drawing.sheet import sheet
from reskeras.tasks import Labels

SIZES = {"train": 24, "val": 9, "test": 6}
SIDES = (12, 8)


def images(*sides: int) -> dict[str, np.ndarray]:
    """Random bytes."""
    random = np.random.default_rng(1)
    return {
        f"x_{split}": random.integers(0, 256, (size, *(sides or (*SIDES, 1))), np.uint8)
        for split, size in SIZES.items()
    }


def labeled(kind: Labels) -> dict[str, np.ndarray]:
    """Arrays with labels of a kind."""
    random, x = np.random.default_rng(2), images()
    made = {}
    for split, size in SIZES.items():
        match kind:
            case Labels.CLASS:
                y: Any = np.arange(size) % 3
            case Labels.CLASSES:
                y = random.integers(0, 2, (size, 4))
            case Labels.NUMBERS:
                y = random.normal((3, -50), (1, 20), (size, 2))
            case Labels.POINTS:
                y = random.uniform(0, (7, 11), (size, 3, 2))
                y[random.random((size, 3)) < 0.3] = np.nan
            case Labels.MASK:
                y = (x[f"x_{split}"][..., 0] > 127) * 1
            case _:
                y = x[f"x_{split}"] // 2
        made[f"y_{split}"] = y
    return x | made


def opened(arrays: Mapping[str, np.ndarray], kind: Labels, **options: Any) -> ImageData:
    """Gray images to restore look like masks, unless the task says it."""
    task = "restoration" if kind is Labels.IMAGE else None
    return from_arrays(arrays, options=DataOptions(task=task, **options))


def both(data: ImageData, split: str) -> tuple[np.ndarray, np.ndarray]:
    return next(data.split(split).batch(99).as_numpy_iterator())


@pytest.mark.parametrize("shape", [(24, 30, 2), (24, 6, 8, 8, 1)], ids=["signals", "volumes"])
def test_points_are_those_of_images(shape: tuple[int, ...]) -> None:
    x, y = np.ones(shape, np.uint8), np.full((24, 3, 2), 5.0)
    arrays = {"x_train": x, "y_train": y, "x_val": x, "y_val": y}
    with pytest.raises(
        reskeras.RequestError, match="keypoints are those of images: not of signals, nor of volumes"
    ):
        from_arrays(arrays, options=DataOptions(task="keypoints"))


@pytest.mark.parametrize("kind", Labels)
def test_arrays_of_every_kind_come_back(kind: Labels) -> None:
    arrays = labeled(kind)
    data = opened(arrays, kind)
    assert data.task.labels is kind
    for split, size in SIZES.items():
        x, y = both(data, split)
        np.testing.assert_allclose(x, arrays[f"x_{split}"] / 255, rtol=1e-6)
        np.testing.assert_allclose(y, arrays[f"y_{split}"], rtol=1e-6)
        assert y.dtype == (np.uint8 if kind is Labels.IMAGE else kind.dtype)
        assert y.shape == (size, *data.label_shape)
    if kind is Labels.NUMBERS:
        np.testing.assert_allclose(data.mean, arrays["y_train"].mean(0))
        np.testing.assert_allclose(data.spread, arrays["y_train"].std(0))
    assert opened(arrays, kind).digest == data.digest


def test_points_may_say_which_are_there_and_those_outside_are_not() -> None:
    arrays = labeled(Labels.POINTS)
    for split in SIZES:
        points = np.nan_to_num(arrays[f"y_{split}"], nan=5)
        seen = (np.arange(3) % 2)[None, :, None].repeat(len(points), 0)
        points[0, 1] = (8, 0) if split == "train" else (7.4, 0)  # 7.5 is the rim
        arrays[f"y_{split}"] = np.concatenate([points, 2 * seen], -1)
    with pytest.raises(
        reskeras.RequestError, match="no training image has the points 0, 2; points"
    ):
        from_arrays(arrays)
    for split in SIZES:
        arrays[f"y_{split}"][1, :, 2] = 1
    data = from_arrays(arrays)
    assert data.notes == ("1 points outside their image are taken as not there",)
    there = np.isfinite(both(data, "train")[1]).all(-1)
    assert not there[0].any()
    assert there[1].all()
    assert (there[2:] == [False, True, False]).all()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("scale", ["bytes", "shares", "to 255"])
def test_images_to_restore_are_enlarged_as_pillow_does(times: int, scale: str) -> None:
    arrays = images()
    for split in SIZES:
        x = arrays[f"x_{split}"]
        y = x.repeat(times, 1).repeat(times, 2)
        if scale != "bytes":
            x, y = (part.astype(np.float32) / (255 if scale == "shares" else 1) for part in (x, y))
        arrays |= {f"x_{split}": x, f"y_{split}": y}
    data = opened(arrays, Labels.IMAGE)
    assert (data.peak, data.pixels) == (
        255 if scale == "to 255" else None,
        "bytes" if scale == "bytes" else "floats",
    )
    assert (data.enlarge, data.image_shape) == (times, (12 * times, 8 * times, 1))
    x, y = both(data, "val")
    y = y / np.float32(255) if y.dtype == np.uint8 else y
    for image, label, given in zip(x, y, arrays["x_val"], strict=True):
        plane = given[..., 0]
        large = Image.fromarray(plane).resize((8 * times, 12 * times), Image.Resampling.BICUBIC)
        white = 1 if scale == "shares" else 255
        wanted = plane if times == 1 else np.asarray(large)
        np.testing.assert_allclose(image[..., 0], wanted / white, atol=1e-6)
        np.testing.assert_allclose(label[::times, ::times, 0], plane / white, atol=1e-6)


def test_the_task_tells_whole_numbers_from_classes() -> None:
    arrays = labeled(Labels.CLASS)
    data = from_arrays(arrays, options=DataOptions(task="numbers"))
    assert data.task.labels is Labels.NUMBERS
    np.testing.assert_array_equal(both(data, "val")[1][:, 0], np.arange(9) % 3)
    rows = {key: value[:, None] * [1, 2] for key, value in arrays.items() if key[0] == "y"}
    assert from_arrays(arrays | rows).task.labels is Labels.NUMBERS  # neither one-hot nor sets
    one_hot = {key: np.eye(3)[value] for key, value in arrays.items() if key[0] == "y"}
    assert from_arrays(arrays | one_hot).task.labels is Labels.CLASS
    data = from_arrays(arrays | one_hot, options=DataOptions(task="multilabel"))
    np.testing.assert_array_equal(both(data, "val")[1], one_hot["y_val"])


@pytest.mark.parametrize("fold", [None, Fold(1, 3), Fold(3, 3)])
@pytest.mark.parametrize("kind", [Labels.NUMBERS, Labels.POINTS, Labels.CLASSES])
def test_what_labels_say_is_not_from_images_that_validate(kind: Labels, fold: Fold | None) -> None:
    arrays = labeled(kind)
    if fold is None:
        del arrays["x_val"], arrays["y_val"]
    data = opened(arrays, kind, fold=fold)
    x, y = both(data, "train")
    if kind is Labels.NUMBERS:
        np.testing.assert_allclose(data.mean, y.mean(0, np.float64), rtol=1e-6)
        np.testing.assert_allclose(data.spread, y.std(0, np.float64), rtol=1e-6)
    # Nothing is left to learn of what is at place 1; the images that validate say it alone.
    trained = {image.tobytes() for image in np.rint(255 * x).astype(np.uint8)}
    for split in [split for split in ("train", "val") if f"x_{split}" in arrays]:
        for image, label in zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True):
            label[1] = (np.nan if kind is Labels.POINTS else 0) if image.tobytes() in trained else 1
    if kind is Labels.CLASSES:
        assert "none, show the classes 1" in str(opened(arrays, kind, fold=fold).notes)
        return
    wanted = "number 1 is always 0" if kind is Labels.NUMBERS else "no training image has the po"
    with pytest.raises(reskeras.RequestError, match=wanted):
        opened(arrays, kind, fold=fold)


def test_the_number_without_spread_is_named_whatever_the_scales() -> None:
    y = np.array([[1e-7, 1e12], [-1e-7, 1e12 + 2]])  # 1 of 10^12 is nothing, 1e-7 around 0 is not
    with pytest.raises(reskeras.RequestError, match=r"csv: weight is always 1e\+12 in training"):
        mean_and_spread(y, "csv", ("shift", "weight"))
    assert mean_and_spread(y[:, :1], "csv") == ((0,), (1e-7,))


def shares() -> dict[str, np.ndarray]:
    found = labeled(Labels.NUMBERS)
    for split, size in SIZES.items():
        y = np.random.default_rng(0).random((size, 3))
        found[f"y_{split}"] = y / y.sum(-1, keepdims=True)
    return found


def scaled(kind: Labels, factor: float) -> dict[str, np.ndarray]:
    return {k: v * factor if k[0] == "y" else v for k, v in labeled(kind).items()}


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (
            scaled(Labels.MASK, 0.5),
            {},
            "y_train holds fractions for each pixel; masks are whole nu",
        ),
        (
            scaled(Labels.POINTS, 0.05),
            {},
            "all points are in 0..1; give pixels, x from 0 to 7 and y",
        ),
        (scaled(Labels.POINTS, 99), {}, "no training image has the points"),
        (
            scaled(Labels.CLASSES, 2),
            {"task": "multilabel"},
            "y_train holds 0 to 2; for each class,",
        ),
        (scaled(Labels.NUMBERS, 0), {"task": "numbers"}, "number 0 is always 0 in training; there"),
        (
            scaled(Labels.NUMBERS, 1e-30),
            {},
            "in training, too little for float32 arithmetic; multiply it by a constant",
        ),
        (
            {k: v[:, 0] if k[0] == "y" else v for k, v in scaled(Labels.NUMBERS, 1e30).items()},
            {},
            "and not whole numbers up to 2^53; labels are integers or words; --task numbers (from",
        ),
        (scaled(Labels.NUMBERS, np.nan), {}, "y_train holds numbers that are not finite"),
        (scaled(Labels.NUMBERS, 1e300), {}, "y_train holds numbers that are not finite, or beyond"),
        (scaled(Labels.NUMBERS, np.inf), {}, "y_train holds numbers that are not finite"),
        (scaled(Labels.POINTS, 1e300), {}, "no training image has the points"),
        (
            scaled(Labels.IMAGE, 1e300),
            {"task": "restoration"},
            "y_train holds values that are not finite",
        ),
        (shares(), {}, "y_train holds shares of classes that add up to 1; give each image one"),
        (
            labeled(Labels.CLASS) | {f"x_{s}": np.zeros((n, 64)) for s, n in SIZES.items()},
            {},
            "could be flat images or signals; give images as [N,H,W,C], or signals as [N,64,1]",
        ),
        (
            labeled(Labels.NUMBERS) | {"y_val": np.zeros((9, 3))},
            {},
            "labels are [N,K], alike in all",
        ),
        (
            labeled(Labels.NUMBERS) | {"y_val": np.zeros((8, 2))},
            {},
            "y_val has shape (8, 2) for 9 im",
        ),
        (
            labeled(Labels.POINTS) | {"y_val": np.zeros((9, 3, 4))},
            {},
            "labels are [N,K,2]|points of 4",
        ),
        (
            labeled(Labels.IMAGE) | {"y_val": np.zeros((9, 12, 9, 1))},
            {"task": "restoration"},
            "images to restore have the sides of the given ones, or twice, three times",
        ),
        (labeled(Labels.IMAGE), {"task": "keypoints"}, "labels are [N,K,2] (x and y) or [N,K,3]"),
        (labeled(Labels.CLASSES), {"ignore": 0}, "--ignore 0 is for labels that are classes"),
        (
            labeled(Labels.CLASSES) | {"class_names": ["a"]},
            {},
            "class_names has 1 names; labels have",
        ),
        (
            labeled(Labels.CLASSES) | {"y_val": np.full((9, 4), "a")},
            {},
            "y_val has shape (9, 4) for 9",
        ),
    ],
)
def test_labels_that_do_not_fit_are_named(
    arrays: Mapping[str, np.ndarray], options: dict[str, Any], message: str
) -> None:
    with np.errstate(over="raise", invalid="raise"), pytest.raises(reskeras.RequestError) as error:
        from_arrays(arrays, where="my.npz", options=DataOptions(**options))
    assert any(part in str(error.value) for part in message.split("|"))
    assert all(line.startswith("my.npz: ") for line in str(error.value).splitlines())


def test_the_survey_counts_sets() -> None:
    arrays = labeled(Labels.CLASSES)
    found = survey(from_arrays(arrays)).labels
    assert isinstance(found, SetFacts)
    for split in SIZES:
        y = arrays[f"y_{split}"]
        assert found.counts[split] == tuple(y.sum(0))
        assert found.together[split] == tuple(np.bincount(y.sum(1), minlength=5))
    shown = np.flatnonzero(arrays["y_val"].any(0))
    same = np.full(9, 0.5)
    wanted = [average_precision_score(arrays["y_val"][:, k], same) for k in shown]
    assert found.baseline is not None
    assert found.baseline.score == pytest.approx(np.mean(wanted))


def test_the_survey_tells_mean_and_spread_of_numbers() -> None:
    arrays = labeled(Labels.NUMBERS)
    found = survey(from_arrays(arrays)).labels
    assert isinstance(found, NumberFacts)
    for split in SIZES:
        y = arrays[f"y_{split}"]
        for told, of in (
            (found.means, np.mean),
            (found.deviations, np.std),
            (found.lowest, np.min),
            (found.highest, np.max),
        ):
            np.testing.assert_allclose(told[split], of(y, axis=0), rtol=1e-5)
    error = np.abs(arrays["y_val"] - arrays["y_train"].mean(0)).mean()
    assert found.baseline is not None
    assert found.baseline.score == pytest.approx(error)


def test_the_survey_tells_where_points_are() -> None:
    arrays = labeled(Labels.POINTS)
    arrays["y_test"][:, 2] = np.nan
    found = survey(from_arrays(arrays)).labels
    assert isinstance(found, PointFacts)
    for split in SIZES:
        y = arrays[f"y_{split}"]
        np.testing.assert_allclose(found.there[split], (~np.isnan(y[..., 0])).mean(0))
        for k, place in enumerate(found.places[split]):
            if split == "test" and k == 2:
                assert place is None
            else:
                np.testing.assert_allclose(place, np.nanmean(y[:, k], axis=0), rtol=1e-5)
    apart = arrays["y_val"] - np.nanmean(arrays["y_train"], axis=0)
    assert found.baseline is not None
    assert found.baseline.score == pytest.approx(np.nanmean(np.hypot(*np.moveaxis(apart, -1, 0))))


@pytest.mark.parametrize("cache", [Cache.MEMORY, Cache.NONE])
def test_the_survey_tells_the_psnr_of_the_input(cache: Cache) -> None:
    arrays = labeled(Labels.IMAGE)
    found = survey(opened(arrays, Labels.IMAGE, cache=cache)).labels
    assert isinstance(found, RestoredFacts)
    for split in SIZES:
        both = (tf.constant(arrays[f"{axis}_{split}"] / 255, tf.float32) for axis in "xy")
        wanted = tf.image.psnr(*both, max_val=1).numpy()
        assert found.psnr[split] == pytest.approx(wanted.mean(), rel=1e-5)
        assert found.psnr_lowest[split] == pytest.approx(wanted.min(), rel=1e-5)
        assert found.psnr_highest[split] == pytest.approx(wanted.max(), rel=1e-5)
    assert found.baseline is not None
    assert found.baseline.score == found.psnr["val"]
    colored = {k: v.repeat(3, -1) if k[0] == "y" else v for k, v in arrays.items()}
    told = survey(from_arrays(colored, options=DataOptions(task="restoration"))).labels
    assert isinstance(told, RestoredFacts)
    assert told.baseline is None
    assert set(told.psnr.values()) == {None}


@pytest.mark.parametrize("sides", [(40, 2), (4, 6, 8, 1)])
def test_signals_and_volumes_have_statistics_of_channels(sides: tuple[int, ...]) -> None:
    arrays = images(*sides) | {f"y_{s}": np.arange(n) % 2 for s, n in SIZES.items()}
    arrays["x_train"][3] = arrays["x_train"][4]
    found = survey(from_arrays(arrays))
    axes = tuple(range(len(sides)))
    x = arrays["x_train"] / 255
    np.testing.assert_allclose(found.mean, x.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, x.std(axes), rtol=1e-4)
    assert (found.copies, found.near) == ((("train[3]", "train[4]"),), None)
    assert isinstance(found.labels, ClassFacts)


def drawn(arrays: Mapping[str, np.ndarray], **options: str) -> Any:
    """The first axes of each block of a sheet."""
    data = from_arrays(arrays, options=DataOptions(**options))  # type: ignore[arg-type]
    cells = [cell_of(data, *example) for example in examples(data, 6)]
    figure = sheet({"one": cells, "two": cells[:2]}, data.class_names)
    first, second = figure.subfigs
    assert sum(axis.has_data() for axis in second.axes) == 2
    return first


def test_the_sheet_draws_labels_of_each_kind() -> None:
    classes = labeled(Labels.CLASSES) | {"class_names": np.array(["ant", "bee", "cow", "dog"])}
    titles = {axis.get_title() for axis in drawn(classes).axes}
    assert all(
        set(title.split(", ")) <= {"ant", "bee", "cow", "dog", "none", ""} or len(title) == 18
        for title in titles
    )
    numbers = drawn(labeled(Labels.NUMBERS)).axes[0].get_title()
    assert len(numbers.split(", ")) == 2
    points = labeled(Labels.POINTS)
    points["class_names"] = np.array(["eye", "ear", "tip"])
    part = drawn(points)
    assert [text.get_text() for text in part.legends[0].get_texts()] == ["eye", "ear", "tip"]
    places = np.concatenate([dot.get_offsets() for dot in part.axes[0].collections])
    data = from_arrays(points)
    np.testing.assert_allclose(places, examples(data, 6)[0][1])
    (shown,) = drawn(labeled(Labels.IMAGE), task="restoration").axes[0].images
    assert shown.get_array().shape == (12, 17, 3)  # 8, a gap and 8
    masks = drawn(labeled(Labels.MASK))
    assert masks.axes[0].collections  # the borders


def test_the_sheet_draws_signals_and_slices_of_volumes() -> None:
    y = {f"y_{s}": np.arange(n) % 2 for s, n in SIZES.items()}
    assert len(drawn(images(40, 2) | y).axes[0].lines) == 3  # two channels and the ground
    volumes = images(4, 6, 8, 1)
    (shown,) = drawn(volumes | y).axes[0].images
    data = from_arrays(volumes | y)
    middle = examples(data, 6)[0][0][2]
    np.testing.assert_allclose(shown.get_array()[..., :1], middle / 255)
    masks = {key: (x[..., 0] > 127) * 1 for key, x in volumes.items()}
    part = drawn(volumes | {f"y_{s}": masks[f"x_{s}"] for s in SIZES})
    assert part.axes[0].collections
    signals = images(40, 1)
    cleaner = {f"y_{s}": signals[f"x_{s}"] // 2 for s in SIZES}
    assert len(drawn(signals | cleaner, task="restoration").axes[0].lines) == 3


@pytest.mark.parametrize("kind", Labels)
def test_the_command_tells_every_kind(kind: Labels, tmp_path: Path) -> None:
    np.savez("some.npz", **labeled(kind))
    words = ["--task", "restoration"] if kind is Labels.IMAGE else []
    done = CliRunner().invoke(main, ["data", "some.npz", "--no-time", "--json", *words])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["sizes"] == SIZES
    assert set(told["baseline"]) == {"metric", "score", "answer"}
    data = opened(labeled(kind), kind)
    facts = survey(data).labels
    assert facts.baseline is not None
    assert told["baseline"]["score"] == pytest.approx(facts.baseline.score)
    assert told["baseline"]["metric"] in {metric.name for metric in data.task.metrics}


@pytest.mark.parametrize("kind", Labels)
def test_the_table_has_a_row_for_each(kind: Labels, capsys: pytest.CaptureFixture[str]) -> None:
    data = opened(labeled(kind), kind)
    facts = survey(data).labels
    print_table(data, facts)
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split("train")[1].split()[:2] == ["val", "test"]
    assert len(rows) - 1 == (3 if kind is Labels.IMAGE else data.classes)
    print_balance(facts)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("baseline")]
    assert line.endswith(", on val")


@pytest.mark.parametrize("kind", Labels)
def test_labels_of_every_kind_are_kept_on_disk(
    kind: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = opened(labeled(kind), kind, cache=Cache.DISK)
    monkeypatch.setattr(type(data.reader), "encoded_bytes", 1)  # as if they were files
    kept = cached(data)
    assert isinstance(kept.reader, Stored)
    for split in SIZES:
        for (x, y), (kept_x, kept_y) in zip(
            data.reader.stored(split), kept.reader.stored(split), strict=True
        ):
            assert (kept_x.dtype, kept_y.dtype) == (x.dtype, y.dtype)
            np.testing.assert_array_equal(kept_x, x)
            np.testing.assert_array_equal(kept_y, y)
