"""Augmentation: each change against another library, and labels that stay true."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from sklearn.decomposition import PCA

import reskeras
from reskeras.data import DataOptions, colors, from_arrays
from reskeras.data.augment import Augmenter, check_augmentation, color_components
from reskeras.data.mix import mixed
from reskeras.data.motion import Motion, elastic_field
from reskeras.data.options import Cache
from reskeras.errors import RequestError
from reskeras.spec import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    Augmentation,
    ColorJitter,
    RandAugment,
    Recipe,
    TrainSpec,
)
from reskeras.spec.text import dump_recipe, parse_augmentation, parse_recipe, write_augmentation
from reskeras.tasks.labels import Labels
from reskeras.training.feed import Feed
from reskeras.training.targets import Targets
from tuning.search.tune import tune
from tuning.space import Space

JITTER = ColorJitter(brightness=0.2, contrast=0.3, saturation=0.3, hue=0.1)
MOVES = Augmentation(shift=0.1, flip="both", rotate=30, scale=0.3, elastic=0.02)
ALL = dataclasses.replace(
    MOVES, color=JITTER, pca_noise=0.1, erase=0.7, randaugment=RandAugment(number=2)
)
EACH = [
    AUGMENTATIONS["shift_flip"],
    Augmentation(rotate=30),
    Augmentation(elastic=0.03),
    Augmentation(color=JITTER),
    Augmentation(pca_noise=0.2),
    Augmentation(erase=1.0),
    Augmentation(randaugment=RandAugment(number=3)),
    ALL,
]
NAMES = ["shift_flip", "rotate", "elastic", "color", "pca_noise", "erase", "randaugment", "all"]


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(shape, "float32")


def augmenter(how: Augmentation, labels: Labels = Labels.CLASS, border: int = 0) -> Augmenter:
    components = np.diag([0.1, 0.05, 0.2]).astype("float32")
    return Augmenter(augmentation=how, labels=labels, border=border, components=components)


def floats(high: float, low: float = 0.0) -> Any:
    return st.just(0.0) | st.floats(low, high)


augmentations = st.builds(
    Augmentation,
    shift=floats(0.5),
    flip=st.sampled_from(["none", "horizontal", "vertical", "both"]),
    rotate=floats(180),
    elastic=floats(0.1),
    color=st.builds(ColorJitter, hue=floats(0.5), contrast=floats(0.9)),
    randaugment=st.builds(RandAugment, number=st.integers(0, 3), magnitude=floats(10)),
    mixup=floats(10),
    pairs=st.sampled_from([(), ((0, 1),), ((0, 2), (3, 1))]),
)


@given(augmentations)
def test_augmentations_are_read_as_they_are_written(how: Augmentation) -> None:
    recipe = Recipe(spec=reskeras.preset("resnet20"), train=TrainSpec(augment=how))
    import yaml

    assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "x") == recipe
    assert parse_augmentation(write_augmentation(how), "x") == how


def test_names_are_augmentations_and_are_written_as_names() -> None:
    assert TrainSpec(augment="shift").augment == Augmentation(shift=0.125)  # type: ignore[arg-type]
    assert write_augmentation(Augmentation(flip="horizontal", shift=0.125)) == "shift_flip"
    how = Augmentation(rotate=15, color=ColorJitter(hue=0.1))
    assert write_augmentation(how) == "{rotate: 15.0, color: {hue: 0.1}}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("shfit", "x: unknown value; did you mean 'shift'? (got 'shfit'); known: none, shift,"),
        ("{rotat: 5}", "x: rotat: unknown key; did you mean 'rotate'? (got 5)"),
        ("{rotate: 500}", "x: rotate: input should be less than or equal to 180 (got 500)"),
        ("{color: {hue: 2}}", "x: color.hue: input should be less than or equal to 0.5 (got 2)"),
        ("{pairs: [[0, 1], [1, 2]]}", "x: pairs: each point is in one pair only"),
        ("{rotate: [", "x: not YAML"),
    ],
)
def test_mistakes_are_named(given: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_augmentation(given, "x")
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


def test_names_and_fields_can_vary_but_not_both() -> None:
    spec = reskeras.preset("resnet20")
    names = Space(spec, {"train.augment": ["none", "shift"]})
    assert names.recipe({"train.augment": "shift"}).train.augment == AUGMENTATIONS["shift"]
    base = Recipe(spec=spec, train=TrainSpec(augment=AUGMENTATIONS["shift"]))
    vary = {
        "train.augment.mixup": {"low": 0, "high": 0.4},
        "train.augment.randaugment.number": {"low": 0, "high": 3},
        "train.augment.flip": ["none", "both"],
    }
    fields = Space(base, vary)
    assert fields.is_whole("train.augment.randaugment.number")
    point = dict(zip(vary, (0.25, 2, "both"), strict=True))
    assert fields.recipe(point).train.augment == Augmentation(
        shift=0.125, mixup=0.25, randaugment=RandAugment(number=2), flip="both"
    )
    with pytest.raises(RequestError, match=r"train\.augment: this is not a single value"):
        Space(base, vary | {"train.augment": ["none", "shift"]})
    with pytest.raises(RequestError, match=r"did you mean 'train\.augment\.mixup'"):
        Space(base, {"train.augment.mixupp": [0, 1]})


@pytest.mark.parametrize("how", EACH, ids=NAMES)
def test_a_number_gives_one_picture_whatever_the_batch(how: Augmentation) -> None:
    images, numbers = random(6, 12, 16, 3), [5, 9, 5, 2**31 - 1, 7, 0]
    images[2] = images[0]
    one = augmenter(how)
    alone = [one(tf.constant(image), 1, n)[0] for image, n in zip(images, numbers, strict=True)]
    stream = tf.data.Dataset.from_tensor_slices((images, np.ones(6), np.int64(numbers)))
    together = stream.map(one, num_parallel_calls=2).batch(4)
    streamed = np.concatenate([batch for batch, _ in together.as_numpy_iterator()])
    np.testing.assert_allclose(streamed, alone, atol=2e-6)
    np.testing.assert_array_equal(streamed[0], streamed[2])
    assert all(np.abs(other - streamed[0]).max() > 0.01 for other in streamed[[1, 3, 4]])
    assert streamed.min() >= 0
    assert streamed.max() <= 1


def test_shifts_and_flips_are_those_of_tf_image() -> None:
    image = random(16, 24, 3)
    for number in range(12):
        padded = np.pad(image, ((2, 2), (3, 3), (0, 0)))
        wanted = tf.image.stateless_random_crop(padded, image.shape, [number, 0])
        wanted = tf.image.stateless_random_flip_left_right(wanted, [number, 1])
        found, _ = augmenter(AUGMENTATIONS["shift_flip"])(tf.constant(image), 0, number)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("flip", ["horizontal", "vertical", "both"])
@pytest.mark.parametrize("sides", [(5,), (4, 5), (3, 4, 5)], ids=["1-D", "2-D", "3-D"])
def test_mirrors_reverse_sides(sides: tuple[int, ...], flip: Any) -> None:
    if (len(sides), flip) == (1, "vertical"):
        return
    image = random(*sides, 2)
    seen = set()
    for number in range(60):
        found, _ = augmenter(Augmentation(flip=flip))(tf.constant(image), 0, number)
        seen |= {
            axes
            for mask in range(2 ** len(sides))
            if np.array_equal(found, np.flip(image, axes := chosen(mask, len(sides))))
        }
    last = len(sides) - 1
    one = {"horizontal": (last,), "vertical": (last - 1,)}
    every = {chosen(mask, len(sides)) for mask in range(2 ** len(sides))}
    assert seen == (every if flip == "both" else {(), one[flip]})


def chosen(mask: int, count: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(count) if mask >> axis & 1)


@pytest.mark.parametrize("bent", [False, True], ids=["straight", "elastic"])
@pytest.mark.parametrize("sides", [(30,), (11, 14), (6, 7, 8)], ids=["1-D", "2-D", "3-D"])
def test_moved_images_are_those_of_scipy(sides: tuple[int, ...], bent: bool) -> None:
    count, draws = len(sides), np.random.default_rng(1)
    matrix = (np.eye(count) + draws.normal(0, 0.2, (count, count))).astype("float32")
    offset = draws.normal(0, 1.5, count).astype("float32")
    field = draws.normal(0, 1, (*sides, count)).astype("float32") if bent else None
    image, motion = random(*sides, 2), Motion(sides, matrix, offset, field)
    center = (np.array(sides) - 1) / 2
    grid = np.moveaxis(np.indices(sides), 0, -1)
    places = (grid - center) @ matrix.T + center + offset + (0 if field is None else field)
    for order, fill in ((1, 0.0), (0, -1.0)):
        found = motion.images(tf.constant(image), fill=fill, nearest=order == 0)
        for channel in range(2):
            wanted = scipy.ndimage.map_coordinates(
                image[..., channel],
                np.moveaxis(places, -1, 0),
                order=order,
                mode="grid-constant",
                cval=fill,
            )
            np.testing.assert_allclose(found[..., channel], wanted, atol=1e-5)


def test_a_quarter_turn_is_a_transposed_mirror_and_zooms_keep_the_center() -> None:
    from reskeras.data.motion import turn

    image = tf.constant(random(9, 9, 1))
    for degrees, times in ((90.0, 1), (180.0, 2), (-90.0, -1)):
        found = Motion((9, 9), turn(degrees, 2), np.zeros(2, "float32")).images(image)
        assert any(np.allclose(found, np.rot90(image, sign * times), atol=1e-5) for sign in (1, -1))
    volume = tf.constant(random(3, 9, 9, 1))
    found = Motion((3, 9, 9), turn(90.0, 3), np.zeros(3, "float32")).images(volume)
    flat = Motion((9, 9), turn(90.0, 2), np.zeros(2, "float32"))
    np.testing.assert_allclose(found, [flat.images(plane) for plane in volume], atol=1e-5)


def test_elastic_fields_are_bicubic_as_pillow_has_it() -> None:
    vectors = np.random.default_rng(0).normal(0, 3, (3, 3, 2)).astype("float32")
    field = elastic_field(vectors, (20, 33))
    for axis in range(2):
        coarse = Image.fromarray(vectors[..., axis])
        wanted = coarse.resize((33, 20), Image.Resampling.BICUBIC)
        # TensorFlow takes its weights from a table.
        np.testing.assert_allclose(field[..., axis], wanted, atol=0.01)
    signal = Image.fromarray(vectors[:, :1, 0]).resize((1, 20), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(elastic_field(vectors[:, 0, :1], (20,)), signal, atol=0.01)


def test_elastic_vectors_have_the_stated_deviation() -> None:
    from reskeras.data.motion import elastic_vectors

    drawn = np.array([elastic_vectors(0.02, (512, 100), [n, 4]) for n in range(200)])
    np.testing.assert_allclose(drawn.std((0, 1, 2)), [10.24, 2.0], rtol=0.1)


@pytest.fixture(scope="module", params=[MOVES, AUGMENTATIONS["shift_flip"]])
def moved_points(request: pytest.FixtureRequest) -> Any:
    return tf.function(augmenter(request.param, Labels.POINTS).__call__)


@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 2**31 - 1))
def test_points_go_where_their_pixels_go(moved_points: Any, number: int) -> None:
    """A spot's center of mass, moved with the image, is where the point goes.

    But for what a bend does within the spot: less than 0.25 in 8,000 spots.
    """
    points = np.array([[16, 14], [24.5, 17.5], [12, 22], [np.nan, np.nan]], "float32")
    y, x = np.indices((32, 40))
    image = np.stack(
        [np.exp(-((x - px) ** 2) - (y - py) ** 2) for px, py in points[:3]], -1
    ).astype("float32")
    found, moved = moved_points(
        tf.constant(image), tf.constant(points), tf.constant(number, tf.int64)
    )
    assert np.isnan(moved[3]).all()
    for spot, (px, py) in zip(np.moveaxis(found.numpy(), -1, 0), moved.numpy()[:3], strict=True):
        if not (6 < px < 33 and 6 < py < 25):  # NaN, or a spot that is cut off
            continue
        mass = spot.sum()
        assert abs((spot * x).sum() / mass - px) < 0.4
        assert abs((spot * y).sum() / mass - py) < 0.4


def test_points_that_leave_are_missing_and_pairs_change_places_in_a_mirror() -> None:
    points = tf.constant([[0.0, 5.0], [7.0, 5.0], [3.0, 3.0]])
    image = tf.constant(random(8, 8, 1))
    swap = augmenter(Augmentation(flip="horizontal", pairs=((0, 1),)), Labels.POINTS)
    both = augmenter(Augmentation(flip="both", pairs=((0, 1),)), Labels.POINTS)
    seen, turned = set(), set()
    for number in range(30):
        seen.add(tuple(swap(image, points, number)[1].numpy().ravel()))
        turned.add(tuple(both(image, points, number)[1].numpy().ravel()))
    assert seen == {(0, 5, 7, 5, 3, 3), (0, 5, 7, 5, 4, 3)}
    # Upside down is a mirror, but both mirrors together are a turn.
    assert turned == seen | {(7, 2, 0, 2, 3, 4), (7, 2, 0, 2, 4, 4)}
    away = Motion((8, 8), np.eye(2, dtype="float32"), np.array([1.0, -2.0], "float32"))
    np.testing.assert_array_equal(away.points(points), [[2, 4], [np.nan] * 2, [5, 2]])


@pytest.mark.parametrize("border", [0, -1])
def test_masks_move_with_their_images(border: int) -> None:
    """Far from edges, an image of two values and its mask agree; outside is the border."""
    y, x = np.indices((24, 30))
    mask = ((x // 10 + y // 8) % 2 + 1).astype("int32")
    image = tf.constant(mask[..., np.newaxis].astype("float32"))
    outside = 0
    for number in range(10):
        moved, maps = augmenter(MOVES, Labels.MASK, border)(image, tf.constant(mask), number)
        assert maps.dtype == tf.int32
        values, maps = moved.numpy()[..., 0], maps.numpy()
        for value, wanted in ((0, border), (1, 1), (2, 2)):
            inside = scipy.ndimage.minimum_filter(abs(values - value) < 1e-4, 3)
            assert set(maps[inside]) <= {wanted}
            outside += inside.sum() if value == 0 else 0
        assert set(np.unique(maps)) <= {border, 1, 2}
    assert outside > 100


@pytest.mark.parametrize("how", [MOVES, AUGMENTATIONS["shift_flip"]], ids=["moves", "shift_flip"])
def test_images_as_labels_move_as_their_images(how: Augmentation) -> None:
    image = tf.constant(random(12, 16, 1))
    for number in range(5):
        moved, label = augmenter(how, Labels.IMAGE)(
            image, tf.concat([2 * image, -image], -1), number
        )
        np.testing.assert_allclose(label, tf.concat([2 * moved, -moved], -1), atol=1e-5)
        raw = tf.cast(tf.round(255 * image), tf.uint8)
        both = tf.cast(raw, tf.float32) / 255
        moved, label = augmenter(how, Labels.IMAGE)(both, raw, number)
        np.testing.assert_allclose(label, 255 * moved, atol=0.501)
        assert label.dtype == tf.uint8


@pytest.mark.parametrize("shape", [(20, 2), (6, 8, 10, 1)], ids=["signal", "volume"])
def test_signals_and_volumes_have_most_changes(shape: tuple[int, ...]) -> None:
    how = Augmentation(
        shift=0.2, flip="both", scale=0.2, elastic=0.02, erase=1.0, pca_noise=0.1,
        rotate=0 if len(shape) == 2 else 10, color=ColorJitter(brightness=0.1, contrast=0.1),
    )  # fmt: skip
    check_augmentation(how, Labels.MASK, shape, 3)
    components = np.eye(shape[-1], dtype="float32")
    one = Augmenter(augmentation=how, labels=Labels.MASK, components=components)
    mask = tf.ones(shape[:-1], tf.int32)
    image, moved = one(tf.constant(random(*shape)), mask, 3)
    assert (tuple(image.shape), tuple(moved.shape)) == (shape, shape[:-1])
    assert set(np.unique(moved)) <= {0, 1}


@pytest.mark.parametrize(
    ("how", "labels", "shape", "words"),
    [
        (Augmentation(rotate=5), Labels.CLASS, (96, 1), "rotate: a signal cannot be turned"),
        (Augmentation(flip="vertical"), Labels.CLASS, (96, 1), "flip: a signal has no top"),
        (Augmentation(randaugment=RandAugment(number=1)), Labels.MASK, (8, 8, 8, 1), "randaug"),
        (Augmentation(color=ColorJitter(hue=0.1)), Labels.CLASS, (8, 8, 1), "color.hue: only"),
        (Augmentation(color=JITTER), Labels.IMAGE, (8, 8, 3), "color: labels that are images"),
        (Augmentation(erase=0.5), Labels.IMAGE, (8, 8, 3), "erase: labels that are images"),
        (Augmentation(pairs=((0, 1),)), Labels.MASK, (8, 8, 3), "pairs: only points"),
        (
            Augmentation(pairs=((0, 1), (2, 3))),
            Labels.POINTS,
            (8, 8, 3),
            "pairs: there is no point 3: the data have 3, counted from 0",
        ),
        (Augmentation(mixup=0.2), Labels.POINTS, (8, 8, 3), "mixup: points cannot be mixed"),
        (Augmentation(cutmix=1), Labels.POINTS, (8, 8, 3), "cutmix: points cannot be mixed"),
    ],
)
def test_changes_that_the_data_do_not_have_are_refused(
    how: Augmentation, labels: Labels, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(RequestError) as error:
        check_augmentation(how, labels, shape, 3)
    assert str(error.value).startswith(f"train.augment.{words}")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("base", "vary", "words"),
    [
        (Augmentation(color=JITTER), {"stages.*.blocks": [1, 2]}, "color.saturation: only"),
        (NO_AUGMENTATION, {"train.augment.color.hue": {"low": 0, "high": 0.2}}, "color.hue: only"),
        (NO_AUGMENTATION, {"train.augment.randaugment.number": {"low": 0, "high": 2}}, ""),
    ],
)
def test_a_search_refuses_them_before_it_writes(
    base: Augmentation, vary: dict[str, Any], words: str, tmp_path: Path
) -> None:
    y = np.arange(6) % 2
    x = random(6, 8, 8, 1)
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
    recipe = Recipe(spec=reskeras.preset("digits_basic"), train=TrainSpec(augment=base))
    # The last space fits, but has no end.
    with pytest.raises(RequestError, match=words or "needs an end") as error:
        tune(Space(recipe, vary), data, directory=tmp_path / "search", trials=None)
    assert str(error.value).startswith(f"train.augment.{words}") or not words
    assert not (tmp_path / "search").exists()


def bytes_of(image: Any) -> Any:
    return np.rint(255 * np.asarray(image)).astype("uint8")


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_change_as_in_pillow(channels: int) -> None:
    draws = np.random.default_rng(2).normal(90, 30, (17, 23, channels))
    raw = draws.clip(0, 255).astype("uint8")
    image = tf.constant(raw / np.float32(255))
    picture = Image.fromarray(raw.squeeze())

    def check(found: Any, wanted: Any, most: int = 0) -> None:
        difference = bytes_of(found).squeeze().astype(int) - np.asarray(wanted)
        assert abs(difference).max() <= most

    check(colors.equalized(image), ImageOps.equalize(picture))
    check(colors.stretched(image), ImageOps.autocontrast(picture), 1)  # it rounds down
    for bits in (1, 4, 8):
        check(colors.posterized(image, bits), ImageOps.posterize(picture, bits))
    check(colors.solarized(image, 96 / 255), ImageOps.solarize(picture, 96))
    smooth = picture.filter(ImageFilter.SMOOTH)
    check(colors.sharpened(image, 0.0), smooth, 1)
    half = Image.blend(smooth, picture, 0.5)
    check(colors.sharpened(image, 0.5), half, 1)


def test_flat_channels_stay_as_they_are() -> None:
    flat = tf.fill([6, 6, 1], 0.4)
    for change in (colors.equalized, colors.stretched):
        np.testing.assert_allclose(change(flat), flat, atol=0.5 / 255)


def test_color_jitter_of_an_image_that_is_not_in_0_to_1_stays_in_its_range() -> None:
    image = tf.constant(np.random.default_rng(0).normal(0, 2, (8, 8, 3)).astype("float32"))
    low, high = float(tf.reduce_min(image)), float(tf.reduce_max(image))
    how = Augmentation(color=JITTER, pca_noise=0.5)
    for number in range(10):
        found, _ = augmenter(how)(image, 0, number)
        assert low - 1e-4 <= float(tf.reduce_min(found))
        assert float(tf.reduce_max(found)) <= high + 1e-4
        assert np.corrcoef(np.ravel(found), np.ravel(image))[0, 1] > 0.5


def test_pca_noise_has_the_covariance_of_the_papers_formula() -> None:
    draws = np.random.default_rng(0)
    mixing = draws.normal(0, 0.06, (3, 3))
    x = (0.5 + draws.normal(size=(40, 8, 8, 3)) @ mixing).clip(0, 1).astype("float32")
    y = np.arange(40) % 2
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x[:8], "y_val": y[:8]})
    found = color_components(data).astype("float64")
    fitted = PCA().fit(x.reshape(-1, 3))
    wanted = (fitted.components_.T * fitted.explained_variance_).astype("float64")
    covariance = wanted @ wanted.T
    np.testing.assert_allclose(found @ found.T, covariance, rtol=1e-3, atol=1e-9)
    one = Augmenter(
        augmentation=Augmentation(pca_noise=0.1), labels=Labels.CLASS, components=100 * found
    )
    flat = tf.fill([2, 2, 3], 0.5)
    noise = np.array([one(flat, 0, number)[0] - flat for number in range(300)])
    np.testing.assert_array_equal(noise, np.broadcast_to(noise[:, :1, :1], noise.shape))
    measured = np.cov(noise[:, 0, 0], rowvar=False)
    np.testing.assert_allclose(measured, 100**2 * 0.1**2 * covariance, atol=0.3 * measured.max())


def test_boxes_are_erased_as_often_and_as_large_as_stated() -> None:
    image = tf.zeros([40, 60, 1])
    one, shares = augmenter(Augmentation(erase=0.3)), []
    erase = tf.function(lambda number: one(image, 0, number)[0])
    for number in range(300):
        rows, columns = np.nonzero(erase(tf.constant(number, tf.int64)).numpy()[..., 0])
        if len(rows):
            box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert len(rows) == box
            shares.append(box / 2400)
    assert scipy.stats.binomtest(len(shares), 300, 0.3).pvalue > 0.001
    # Whole pixels, and boxes that would be longer than the image.
    assert min(shares) > 0.01
    assert max(shares) < 0.43
    assert np.mean(shares) == pytest.approx(0.2, abs=0.05)


def test_randaugment_is_stronger_with_its_magnitude_and_draws_every_change() -> None:
    image = tf.constant(np.sort(random(16, 16, 3), 0))
    still = augmenter(Augmentation(randaugment=RandAugment(number=1, magnitude=0)))
    strong = augmenter(Augmentation(randaugment=RandAugment(number=1, magnitude=10)))

    def pictures(one: Augmenter) -> set[bytes]:
        make = tf.function(lambda number: one(image, 0, number)[0])
        return {np.round(make(tf.constant(n, tf.int64)).numpy(), 3).tobytes() for n in range(120)}

    # Without strength, only what has none changes anything: stretching, equalizing, and the bytes.
    assert len(pictures(still)) <= 5
    # Twice the nine changes with a sign, and the five others.
    assert len(pictures(strong)) >= 20


def test_randaugment_solarizes_from_nothing_to_all_pixels_as_pillow_does() -> None:
    raw = np.arange(256, dtype="uint8").reshape(16, 16)  # stretched and equalized, it is the same
    picture, image = Image.fromarray(raw), tf.constant(raw[..., None] / np.float32(255))

    def pictures(magnitude: float) -> set[bytes]:
        one = augmenter(Augmentation(randaugment=RandAugment(number=1, magnitude=magnitude)))
        make = tf.function(lambda number: one(image, 0, number)[0])
        return {bytes_of(make(tf.constant(n, tf.int64))).tobytes() for n in range(60)}

    for magnitude, threshold in ((0, 256), (5, 128), (10, 0)):
        found = pictures(magnitude)
        assert np.asarray(ImageOps.solarize(picture, threshold)).tobytes() in found
        assert len(found) == 1 or magnitude


def dense(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Images of one value each, and targets that say which: [value, 1 - value]."""
    values = np.linspace(0, 1, shape[0], dtype="float32")
    images = np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return tf.constant(images), tf.constant(np.stack([values, 1 - values], -1))


@pytest.mark.parametrize("sides", [(20,), (8, 12), (4, 6, 8)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("how", [Augmentation(mixup=0.5), Augmentation(cutmix=1.0)])
def test_targets_are_mixed_as_their_images(how: Augmentation, sides: tuple[int, ...]) -> None:
    images, targets = dense((12, *sides, 2))
    maps = tf.concat([images[..., :1], 1 - images[..., :1]], -1)
    coarse = maps[(slice(None), *[slice(1, None, 2)] * len(sides))]
    given = {"head": targets, "maps": maps, "half": coarse}
    for number in range(4):
        new, found = mixed(images, given, how, number)
        means = tf.reduce_mean(new, range(1, len(sides) + 2))
        np.testing.assert_allclose(found["head"][:, 0], means, atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(found["head"], -1), 1, atol=1e-5)
        np.testing.assert_allclose(found["maps"][..., 0], new[..., 0], atol=1e-6)
        half = found["maps"][(slice(None), *[slice(1, None, 2)] * len(sides))]
        np.testing.assert_array_equal(found["half"], half)
        middle = (slice(None), *[slice(1, -1)] * len(sides))
        inner = tuple(side - 2 for side in sides)
        _, cropped = mixed(images, {"maps": maps[middle]}, how, number, crop=inner)
        np.testing.assert_array_equal(cropped["maps"], found["maps"][middle])
        again, _ = mixed(images, given, how, number)
        np.testing.assert_array_equal(again, new)
        assert not np.array_equal(mixed(images, given, how, number + 9)[0], new)


def test_mixup_is_that_of_keras() -> None:
    images, targets = random(8, 6, 6, 3), np.eye(8, dtype="float32")
    new, found = mixed(tf.constant(images), tf.constant(targets), Augmentation(mixup=1.0), 3)
    share = np.diag(found)  # of the eight images, each is a class of its own
    partner = np.where(share < 1, (found - np.diag(share)).numpy().argmax(-1), np.arange(8))
    layer = keras.layers.MixUp(alpha=1.0)
    how = {"mix_weight": tf.constant(share), "permutation_order": tf.constant(partner)}
    alone = partner == np.arange(8)
    np.testing.assert_allclose(new, layer.transform_images(images, how), atol=1e-6)
    wanted = layer.transform_labels(targets, how)
    np.testing.assert_allclose(found[~alone], wanted[~alone], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    count = 600
    images, targets = tf.zeros([count, 2, 2, 1]), tf.eye(count)
    _, found = mixed(images, targets, Augmentation(mixup=alpha), 5)
    share = np.diag(found)[np.count_nonzero(found, -1) > 1]
    assert scipy.stats.kstest(share, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_cutmix_takes_a_box_and_both_alternate() -> None:
    images, targets = dense((16, 10, 14, 1))
    new, _ = mixed(images, targets, Augmentation(cutmix=1.0), 1)
    boxes = 0
    for old, image in zip(images.numpy(), new.numpy(), strict=True):
        rows, columns = np.nonzero(image[..., 0] != old[..., 0])
        if len(rows):
            boxes += 1
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert len(np.unique(image)) <= 2
    assert boxes > 6
    both = Augmentation(mixup=1.0, cutmix=1.0)
    kinds = [len(np.unique(mixed(images, targets, both, n)[0][5])) == 2 for n in range(40)]
    assert 5 < sum(kinds) < 36


def test_cutmix_boxes_are_as_large_as_those_of_the_papers_code() -> None:
    count, side, draws = 800, 32, np.random.default_rng(0)
    images, targets = tf.zeros([count, side, side, 1]), tf.eye(count)
    _, found = mixed(images, targets, Augmentation(cutmix=1.0), 2)
    kept = np.diag(found)[np.count_nonzero(found, -1) > 1]
    # Algorithm 1 of arXiv 1905.04899: a box around a uniform place, cut off at the edges.
    cut = side * np.sqrt(1 - draws.random((count, 1)))
    middle = draws.uniform(0, side, (count, 2))
    ends = [(middle + sign * cut / 2).clip(0, side) for sign in (-1, 1)]
    wanted = 1 - np.prod(ends[1] - ends[0], -1) / side**2
    assert scipy.stats.ks_2samp(kept, wanted).statistic < 0.09  # of 800 each; pixels are whole


def test_tiny_alphas_and_single_images_are_no_problem_and_wrong_sides_are_one() -> None:
    images, targets = dense((9, 4, 4, 1))
    new, _ = mixed(images, targets, Augmentation(mixup=1e-6), 0)
    assert set(np.ravel(new)) <= set(np.ravel(images))
    alone, one = mixed(images[:1], targets[:1], Augmentation(cutmix=1.0), 0)
    np.testing.assert_array_equal(alone, images[:1])
    np.testing.assert_array_equal(one, targets[:1])
    assert mixed(images, targets, NO_AUGMENTATION, 0) == (images, targets)
    with pytest.raises(ValueError, match="side 3 are no part of images of side 4"):
        mixed(images, tf.zeros([9, 3, 4, 2]), Augmentation(mixup=1.0), 0)


def test_an_epoch_has_the_same_pictures_whether_data_are_in_memory_or_read() -> None:
    data = from_arrays(
        {f"x_{split}": random(12, 8, 8, 3) for split in ("train", "val")}
        | {f"y_{split}": np.arange(12) % 2 for split in ("train", "val")}
    )
    read = dataclasses.replace(data, options=DataOptions(cache=Cache.DISK))
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(image)))
    how = Augmentation(shift=0.1, rotate=30, pca_noise=0.1)
    epochs = []
    for source, number in ((data, 1), (read, 1), (data, 2), (data, 1)):
        feed = Feed(Targets(model, source))
        batches = feed.training(TrainSpec(batch_size=5, augment=how), number)
        epochs.append(np.concatenate([images for images, _ in batches]))
    np.testing.assert_allclose(epochs[1], epochs[0], atol=2e-6)
    np.testing.assert_array_equal(epochs[3], epochs[0])
    assert np.abs(epochs[2] - epochs[0]).max() > 0.1
