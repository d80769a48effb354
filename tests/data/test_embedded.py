"""The data sets that need no download, by Pillow, scipy and scikit-learn's own arrays."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import interpolate, ndimage, stats
from sklearn.datasets import load_digits

from reskeras.data import DataOptions, load
from reskeras.data.embedded import ABOUT, EMBEDDED, canvas, embedded, signals
from reskeras.data.embedded.digits_keypoints import POINTS, points_of
from reskeras.data.embedded.real_digits import Digit, digits_by_split
from reskeras.tasks import Labels

SPLITS = ("train", "validation", "test")
MADE = [name for name in EMBEDDED if name != "digits"]
OF_DIGITS = [name for name in MADE if name != "signals"]
WRITTEN = load_digits()
ONE_DIGIT = st.builds(lambda place: digits_by_split()["train"][place], st.integers(0, 1076))


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = str(tmp_path_factory.mktemp("embedded"))
    return {name: embedded(name, folder) for name in EMBEDDED}


def first(builder: Any, count: int, split: str = "train") -> list[dict[str, Any]]:
    """The first examples of a split."""
    return [example for _, example in itertools.islice(builder._generate_examples(split), count)]


def enlarged(ink: np.ndarray, times: int) -> np.ndarray:
    """An image, enlarged by Pillow."""
    height, width = ink.shape
    image = Image.fromarray(ink.astype(np.float32))
    return np.asarray(image.resize((width * times, height * times), Image.Resampling.BICUBIC))


def test_the_digits_are_scikit_learns_each_in_one_split(builders: dict[str, Any]) -> None:
    found = {split: dict(builders["digits"]._generate_examples(split)) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [1077, 360, 360]
    everything = {place: example for split in SPLITS for place, example in found[split].items()}
    assert sorted(everything) == list(range(1797))
    for place, example in everything.items():
        np.testing.assert_allclose(
            example["image"][..., 0] / 255 * 16, WRITTEN.images[place], 0, 0.04
        )
        assert example["label"] == WRITTEN.target[place]


DIGESTS = {
    "digits": "9147e54023ae27e8",
    "digits_segmentation": "b1df5cf201ec65e9",
    "digits_multilabel": "6a1dd736d6d78475",
    "digits_keypoints": "8e7d95e7a420abec",
    "digits_superres": "9479c02116a1c940",
    "digits_angle": "6e3737d7e05e498c",
    "signals": "146e7adafe8d3de3",
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_they_are_the_same_on_every_machine(builders: dict[str, Any], name: str) -> None:
    """A change of these needs another version. Floats may differ in their last bits."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for example in first(builders[name], 8, split):
            for key, value in sorted(example.items()):
                array = np.asarray(value)
                if array.dtype == np.float32:
                    array = np.nan_to_num(array, nan=-99)
                    array = np.round(array * 100).astype(np.int32)
                digest.update(f"{key} {array.tolist()}".encode())
    assert digest.hexdigest()[:16] == DIGESTS[name]


@pytest.mark.parametrize("name", OF_DIGITS)
def test_each_split_is_made_of_its_own_digits(builders: dict[str, Any], name: str) -> None:
    used = {}
    for split in SPLITS:
        own = {digit.source for digit in digits_by_split()[split]}
        used[split] = {
            s for example in first(builders[name], 60, split) for s in example["sources"]
        }
        assert used[split] <= own
        assert len(used[split]) > 30
    assert not used["train"] & used["validation"]
    assert not (used["train"] | used["validation"]) & used["test"]


@pytest.mark.xdist_group("embedded")  # TensorFlow is imported once
@pytest.mark.parametrize("name", MADE)
def test_tfds_gives_back_what_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    builder = embedded(name, str(tmp_path))
    monkeypatch.setattr(type(builder), "SIZES", {"train": 12, "validation": 2, "test": 2})
    builder.download_and_prepare()
    info = embedded(name, str(tmp_path)).info  # as a later process opens it
    assert {split: one.num_examples for split, one in info.splits.items()} == builder.SIZES
    image, label = info.supervised_keys

    def key(example: Any) -> bytes:
        return np.asarray(example[image]).tobytes()

    read = sorted(tfds.as_numpy(builder.as_dataset(split="train")), key=key)
    for one, made in zip(read, sorted(first(builder, 12), key=key), strict=True):
        assert one.keys() == made.keys()
        for part, value in made.items():
            coded = info.features[part].str2int(value) if isinstance(value, str) else value
            np.testing.assert_array_equal(one[part], coded)
    match name:
        case "digits_keypoints":
            assert info.metadata["keypoints"] == list(POINTS)
        case "digits_segmentation":
            assert info.features[label].names == ["background", *"0123456789"]
        case "signals":
            assert info.features[label].names == list(signals.SHAPES)
    assert info.description
    assert info.citation


KINDS = {
    "digits_segmentation": Labels.MASK,
    "digits_multilabel": Labels.CLASSES,
    "digits_keypoints": Labels.POINTS,
    "digits_superres": Labels.IMAGE,
    "digits_angle": Labels.NUMBERS,
    "signals": Labels.CLASS,
}


@pytest.mark.xdist_group("embedded")
@pytest.mark.parametrize("name", MADE)
def test_load_gives_what_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    builder = embedded(name, str(tmp_path))
    monkeypatch.setattr(type(builder), "SIZES", {"train": 12, "validation": 4, "test": 3})
    data = load(name, options=DataOptions(data_dir=str(tmp_path)))
    examples = first(builder, 12)
    image, label = builder.info.supervised_keys
    feature = builder.info.features[label]
    assert data.task.labels is KINDS[name]
    assert data.sizes == {"train": 12, "val": 4, "test": 3}
    found = [(x, y) for x, y in data.split("train").as_numpy_iterator()]

    def seen(example: Any) -> tuple[np.ndarray, np.ndarray]:
        """An image in bytes or floats and its label, as a network should see them."""
        x, y = np.asarray(example[image]), np.asarray(example[label])
        match data.task.labels:
            case Labels.MASK:
                y = y[..., 0]
            case Labels.CLASSES:
                y = np.isin(np.arange(10), y)
            case Labels.IMAGE:
                small = Image.fromarray(x[..., 0])
                x = np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC))[..., None]
            case Labels.NUMBERS:
                y = y.reshape(1)
            case Labels.CLASS:
                y = np.asarray(feature.str2int(str(y)))
        return x / 255 if name != "signals" else x, y

    wanted = list(map(seen, examples))
    for x, y in found:
        assert x.shape == data.image_shape
        assert y.shape == data.label_shape
        near = [np.abs(x - other).max() for other, _ in wanted]
        assert min(near) < 1e-6
        np.testing.assert_allclose(y, wanted[int(np.argmin(near))][1], rtol=1e-6)
    assert len({x.tobytes() for x, _ in found}) == 12
    match name:
        case "digits_segmentation":
            assert data.class_names == ("background", *"0123456789")
        case "digits_keypoints":
            assert data.class_names == POINTS
        case "digits_superres":
            assert (data.enlarge, data.classes, data.class_names) == (2, 1, ())
        case "digits_angle":
            angles = np.array([example["angle"] for example in examples])
            np.testing.assert_allclose((*data.mean, *data.spread), (angles.mean(), angles.std()))
            assert data.class_names == ("angle",)
        case "signals":
            assert data.class_names == tuple(signals.SHAPES)


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_is_said_of_them_is_so(builders: dict[str, Any], name: str) -> None:
    builder = builders[name]
    sizes = getattr(builder, "SIZES", {"train": 1077, "validation": 360, "test": 360})
    told = ", ".join(
        f"{size:,} {split.replace('validation', 'val')}" for split, size in sizes.items()
    )
    image, label = builder.info.supervised_keys
    shape = "x".join(map(str, builder.info.features[image].shape))
    assert f", {shape}, " in ABOUT[name]
    assert f": {told} {'signals' if image == 'signal' else 'images'}" in ABOUT[name]
    feature = builder.info.features[label]
    match label:
        case "label":
            assert f"{feature.num_classes} classes" in ABOUT[name]
        case "mask":
            assert f"{len(feature.names)} classes" in ABOUT[name]
        case "labels":
            assert f"{feature.feature.num_classes} classes" in ABOUT[name]
        case "keypoints":
            assert f"{feature.shape[0]} points" in ABOUT[name]
        case "target":
            assert f"as {'x'.join(map(str, feature.shape))}" in ABOUT[name]


@settings(max_examples=30)
@given(
    ONE_DIGIT,
    st.floats(1.2, 2.5),
    st.floats(-180, 180),
    st.tuples(st.floats(17, 22), st.floats(17, 22)),
)
def test_points_go_where_the_ink_goes(
    digit: Digit, zoom: float, angle: float, center: tuple[float, float]
) -> None:
    """The center of mass of the ink moves as a point does, and ink grows with the area."""
    placement = canvas.Placement(zoom=zoom, angle=angle, center=center)
    ink = placement.ink(digit, 40)
    y, x = ndimage.center_of_mass(digit.ink)
    moved = placement.on_canvas(np.array([x, y]), digit)
    np.testing.assert_allclose(ndimage.center_of_mass(ink)[::-1], moved, atol=0.3)
    assert ink.sum() == pytest.approx(digit.ink.sum() * zoom**2, rel=0.12)


def test_angles_turn_as_pillow_turns(builders: dict[str, Any]) -> None:
    """Turned back by its angle, each image is its digit again."""
    examples = first(builders["digits_angle"], 60)
    alike, worse = [], []
    for example in examples:
        digit = np.zeros((16, 16), np.float32)
        upright = Image.fromarray(WRITTEN.images[example["sources"][0]].astype(np.float32))
        # 8 pixels are 11.2; an affine map of Pillow's takes pixel corners
        upright = upright.transform(
            (16, 16),
            Image.Transform.AFFINE,
            (1 / 1.4, 0, 4 - 8 / 1.4, 0, 1 / 1.4, 4 - 8 / 1.4),
            Image.Resampling.BICUBIC,
        )
        digit = np.asarray(upright)
        image = Image.fromarray(example["image"][..., 0].astype(np.float32))
        for angle, found in ((-example["angle"], alike), (example["angle"], worse)):
            back = np.asarray(image.rotate(angle, Image.Resampling.BICUBIC))
            found.append(np.corrcoef(back.ravel(), digit.ravel())[0, 1])
    assert min(alike) > 0.95
    assert np.mean(worse) < 0.8
    angles = [example["angle"] for example in first(builders["digits_angle"], 300)]
    assert stats.kstest(angles, stats.uniform(-45, 90).cdf).pvalue > 0.01


def test_masks_are_where_the_ink_is(builders: dict[str, Any]) -> None:
    """A mask that is moved, by a pixel in any direction, tells ink from paper less well."""
    examples = first(builders["digits_segmentation"], 80)
    contrast = {}
    for move in itertools.product((-1, 0, 1), repeat=2):
        masks = [np.roll(example["mask"][..., 0], move, (0, 1)) > 0 for example in examples]
        images = [example["image"][..., 0].astype(float) for example in examples]
        contrast[move] = np.mean(
            [
                image[mask].mean() - image[~mask].mean()
                for image, mask in zip(images, masks, strict=True)
            ]
        )
    assert max(contrast, key=contrast.__getitem__) == (0, 0)
    assert contrast[0, 0] > 60  # of 255
    for example in examples:
        classes = {int(WRITTEN.target[source]) + 1 for source in example["sources"]}
        assert set(np.unique(example["mask"])) == {0} | classes
        assert 2 <= len(example["sources"]) <= 4


def test_each_digit_of_a_mask_is_where_its_own_ink_is() -> None:
    """The same random numbers with ones alone, sevens alone and both put ink at the same places."""
    digits = digits_by_split()["train"]
    one, other = (next(d for d in digits if d.label == label) for label in (1, 7))
    from reskeras.data.embedded.digits_segmentation import DigitsSegmentation as Made

    for number in range(12):
        ones, others, both = (
            Made.example(canvas.random_of(1, "train", number), [*of])["mask"]
            for of in ((one, one), (other, other), (one, other))
        )
        assert set(np.unique(ones)) == {0, 2}
        assert set(np.unique(others)) == {0, 8}
        assert set(np.unique(both)) <= {0, 2, 8}
        assert (ones[both == 2] == 2).all()
        assert (others[both == 8] == 8).all()


def test_labels_are_the_classes_that_are_there(builders: dict[str, Any]) -> None:
    examples = first(builders["digits_multilabel"], 120)
    bright = []
    for example in examples:
        assert example["labels"] == sorted({*WRITTEN.target[example["sources"]].tolist()})
        bright.append((ndimage.gaussian_filter(example["image"][..., 0], 1.0) > 130).mean())
    counts = [len(example["sources"]) for example in examples]
    assert {*counts} == {0, 1, 2, 3, 4}
    assert max(b for b, count in zip(bright, counts, strict=True) if count == 0) < 0.03
    assert stats.spearmanr(bright, counts).statistic > 0.7


def test_low_images_are_pillows_reduction_of_the_high_ones(builders: dict[str, Any]) -> None:
    for example in first(builders["digits_superres"], 40):
        reduced = np.asarray(Image.fromarray(example["target"][..., 0]).reduce(2))
        np.testing.assert_allclose(example["image"][..., 0], reduced, atol=1)
        assert example["image"].mean() == pytest.approx(example["target"].mean(), abs=0.3)


def test_keypoints_are_the_tips_of_strokes() -> None:
    """On digits that Pillow enlarges: nothing lies farther out, and the point is at the ink."""
    times = 16
    for digit in digits_by_split()["test"][:80]:
        fine = enlarged(np.pad(digit.ink, 1), times)
        y, x = (index[fine > 0.4] / times - 1.5 + 0.5 / times for index in np.indices(fine.shape))
        for (px, py), (dx, dy) in zip(
            points_of(digit)[:4], ((-1, -1), (1, -1), (1, 1), (-1, 1)), strict=True
        ):
            outermost = ((x * dx + y * dy) / np.sqrt(2)).max()
            assert -1.1 < (px * dx + py * dy) / np.sqrt(2) - outermost < 0.1
            assert np.hypot(x - px, y - py).min() < 0.6


def test_holes_are_what_a_flood_does_not_reach() -> None:
    """Water from the border of digits that Pillow enlarges leaves them dry."""
    times, alike = 8, []
    there = np.zeros((10, 2), int)
    for digit in digits_by_split()["test"][:100]:
        flooded = Image.fromarray(np.uint8(enlarged(np.pad(digit.ink, 1), times) > 0.4)).copy()
        ImageDraw.floodfill(flooded, (0, 0), 2)
        dry = np.asarray(flooded) == 0
        point = points_of(digit)[4]
        there[digit.label, int(np.isfinite(point).all())] += 1
        if np.isnan(point).all():
            alike.append(dry.sum() < times**2)  # nothing, or a gap
        elif dry.any():
            y, x = (index[dry] / times - 1.5 + 0.5 / times for index in np.indices(dry.shape))
            highest = y < y.min() + 3
            center = x[highest].mean(), y[highest].mean()
            alike.append(np.hypot(*(point - center)) < 1)
        else:
            alike.append(False)
    assert np.mean(alike) > 0.95
    share = there[:, 1] / there.sum(1)
    assert (share[[0, 6, 8, 9]] > 0.65).all()
    assert (share[[1, 2, 3, 4, 5, 7]] < 0.2).all()


def test_keypoints_are_on_the_canvas_and_the_stroke(builders: dict[str, Any]) -> None:
    examples = first(builders["digits_keypoints"], 200)
    tips, holes, around = [], [], []
    for example in examples:
        points, image = example["keypoints"], example["image"][..., 0].astype(float)
        assert points.dtype == np.float32
        there = points[~np.isnan(points[:, 0])]
        assert (there > -0.5).all()
        assert (there < 31.5).all()
        values = ndimage.map_coordinates(image, points[:4, ::-1].T, order=1, mode="nearest")
        tips.append(values.mean() - image.mean())
        if len(there) == 5:
            holes.append(ndimage.map_coordinates(image, points[4:, ::-1].T, order=1)[0])
            around.append(values.mean())
    assert np.mean(tips) > 60
    assert np.mean(np.array(holes) < around) > 0.9


def test_signals_without_noise_are_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one of the paddings and shifts, by scipy's interpolation."""
    for noise in ("_SLOW_NOISE", "_NOISE", "_SHEAR"):
        monkeypatch.setattr(signals, noise, 0)
    for number, (name, points) in enumerate([*signals.SHAPES.items()][::3]):
        assert points[0] == points[-1] == 0
        found = signals.signal_of(name, canvas.random_of(0, "train", number))
        worst, scale = min(
            difference(found, np.array(points) / np.std(points), padding, shift)
            for padding, shift in itertools.product(range(36, 61), range(48))
        )
        assert worst < 1e-9
        assert 0.8 <= scale <= 1.2


def difference(
    found: np.ndarray, points: np.ndarray, padding: int, shift: int
) -> tuple[float, float]:
    """How far a signal is from a shape, and how much larger it is."""
    padded = np.concatenate([points, np.zeros(padding)])
    long = interpolate.interp1d(np.linspace(0, 1, len(padded)), padded)(np.linspace(0, 1, 72))
    moved = np.concatenate([long[72 - shift :], long[: 72 - shift]])
    short = interpolate.interp1d(np.linspace(0, 1, 72), moved)(np.linspace(0, 1, 40))
    scale = float(found @ short / (short @ short))
    return float(np.abs(found - scale * short).max()), scale


def test_a_matched_filter_finds_the_shapes_in_the_noise(builders: dict[str, Any]) -> None:
    examples = first(builders["signals"], 300)
    templates = []
    for points in signals.SHAPES.values():
        template = np.pad(np.interp(np.linspace(0, 11, 9), range(12), points), 3)
        template -= template.mean()
        templates.append(template / np.linalg.norm(template))
    labels = list(signals.SHAPES)
    right = 0
    for example in examples:
        signal = np.pad(example["signal"][:, 0], 3, mode="edge")
        scores = [np.correlate(signal, template, "valid").max() for template in templates]
        right += labels[int(np.argmax(scores))] == example["label"]
    assert 0.6 < right / len(examples) < 0.9
    counts = np.unique([example["label"] for example in examples], return_counts=True)[1]
    assert (counts == 30).all()
