"""Windows against the whole image: by convolutions of SciPy and a network of Keras."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from reskeras.models.windows import cut, window_starts, windowed, with_flips


def blur(images: Any) -> Any:
    """Two convolutions with zero padding: each answer depends on 2 pixels around it. Channels are
    the blurred image and its negative squared, which is not symmetric."""
    answers = []
    for image in images:
        random, values = np.random.default_rng(3), image[..., 0].astype("float64")
        for _ in range(2):
            kernel = random.normal(size=(3,) * values.ndim) / 3
            values = np.tanh(scipy.ndimage.correlate(values, kernel, mode="constant"))
        answers.append(np.stack([values, -(values**2)], -1))
    return np.stack(answers).astype("float32")


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@settings(max_examples=30)
@given(
    sides=st.lists(st.integers(8, 24), min_size=1, max_size=3).flatmap(
        lambda sides: st.tuples(
            st.just(sides), st.tuples(*(st.integers(5, side) for side in sides))
        )
    ),
    overlap=st.sampled_from([0, 0.25, 0.5, 0.8]),
    batch=st.integers(1, 5),
)
def test_windows_equal_the_whole_image(sides: Any, overlap: float, batch: int) -> None:
    whole, window = sides
    window = [max(side, full // 3) for side, full in zip(window, whole, strict=True)]
    image = noise(*whole, 1)
    found = windowed(blur, window, overlap=overlap, margin=2, batch=batch)(image)
    np.testing.assert_allclose(found, blur(image[None])[0], atol=1e-5)


@given(whole=st.tuples(st.integers(5, 20), st.integers(5, 20)))
def test_small_images_are_equal_inside(whole: tuple[int, int]) -> None:
    """What the network sees beyond their rims are their mirror images, not zeros."""
    image = noise(*whole, 1)
    found = windowed(blur, (16, 12), margin=2)(image)
    assert found.shape == (*whole, 2)
    np.testing.assert_allclose(found[2:-2, 2:-2], blur(image[None])[0][2:-2, 2:-2], atol=1e-5)


def test_the_rim_of_a_window_has_no_weight_within_the_margin() -> None:
    """Without a margin the seams are blended, but not exact."""
    image = noise(40, 40, 1)
    expected = blur(image[None])[0]
    blended = windowed(blur, (16, 16))(image)
    tiles = windowed(blur, (16, 16), overlap=0)(image)
    assert 1e-5 < np.abs(blended - expected).mean() < np.abs(tiles - expected).mean() / 4


def test_a_network_without_padding_gets_a_mirrored_border() -> None:
    """The overlap-tile strategy of the U-Net paper, Fig. 2."""

    def valid(images: Any) -> Any:
        return blur(images)[:, 2:-2, 2:-2]

    image = noise(23, 31, 1)
    found = windowed(valid, (16, 12), border=2)(image)
    mirrored = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(found, valid(mirrored[None])[0], atol=1e-5)


def twice(images: Any) -> Any:
    return images.repeat(2, axis=1).repeat(2, axis=2)


def quarter(images: Any) -> Any:
    count, height, width, channels = images.shape
    return images.reshape(count, height // 4, 4, width // 4, 4, channels).mean((2, 4))


@given(sides=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_answers_may_have_another_scale(sides: tuple[int, int]) -> None:
    image = noise(*sides, 3)
    found = windowed(twice, (8, 12))(image)
    np.testing.assert_allclose(found, twice(image[None])[0], atol=1e-6)
    full = np.pad(image, [(0, -side % 4) for side in sides] + [(0, 0)], mode="symmetric")
    found = windowed(quarter, (8, 12), multiple=4)(image)
    np.testing.assert_allclose(found, quarter(full[None])[0], atol=1e-6)


def test_a_network_of_keras_that_halves_twice_equals_itself_on_the_whole_image() -> None:
    import keras

    keras.utils.set_random_seed(1)
    x = given_ = keras.Input((None, None, 1))
    for stride in (2, 1, 2):
        x = keras.layers.Conv2D(4, 3, stride, padding="same", activation="relu")(x)
    x = keras.layers.UpSampling2D(4)(x)
    model = keras.Model(given_, keras.layers.Conv2D(2, 3, padding="same")(x))

    def predict(images: Any) -> Any:
        return model(images).numpy()

    image = noise(64, 80, 1)
    expected = predict(image[None])[0]
    # 11 pixels, rounded up to a multiple of 4
    found = windowed(predict, (32, 32), margin=11, multiple=4)(image)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(sides=st.tuples(st.integers(1, 30), st.integers(1, 30)), overlap=st.floats(0, 0.9))
def test_a_constant_stays_a_constant(sides: tuple[int, int], overlap: float) -> None:
    found = windowed(lambda images: np.full((len(images), 7, 6, 2), 3.0), (7, 6), overlap=overlap)
    np.testing.assert_allclose(found(noise(*sides, 1)), np.full((*sides, 2), 3), rtol=1e-5)


def test_windows_can_come_in_any_order_and_number() -> None:
    """A turned image has its windows in another order, and the turned answer."""

    def edges(images: Any) -> Any:
        return np.stack([scipy.ndimage.gaussian_laplace(image, (2, 2, 0)) for image in images])

    image = noise(37, 26, 1)
    found = windowed(edges, (12, 12), batch=1)(image)
    turned = windowed(edges, (12, 12), batch=5)(image.transpose(1, 0, 2))
    np.testing.assert_allclose(turned.transpose(1, 0, 2), found, atol=1e-5)


def test_flips_are_the_mean_of_explicit_flips() -> None:
    images = noise(2, 9, 12, 1)
    expected = np.mean(
        [
            blur(images),
            blur(images[:, ::-1])[:, ::-1],
            blur(images[:, :, ::-1])[:, :, ::-1],
            blur(images[:, ::-1, ::-1])[:, ::-1, ::-1],
        ],
        axis=0,
    )
    np.testing.assert_allclose(with_flips(blur, (0, 1))(images), expected, atol=1e-6)
    found = windowed(blur, (9, 12), flips=(0, 1))(images[0])
    np.testing.assert_allclose(found, expected[0], atol=1e-6)


@given(
    side=st.integers(1, 60),
    window=st.integers(1, 60),
    step=st.integers(1, 60),
    multiple=st.integers(1, 4),
)
def test_windows_cover_the_side_at_no_longer_steps(
    side: int, window: int, step: int, multiple: int
) -> None:
    side, window, step = (multiple * max(window, side), multiple * window, multiple * step)
    starts = window_starts(side, window, step, multiple)
    assert (starts[0], starts[-1]) == (0, side - window)
    assert all(0 < b - a <= step for a, b in itertools.pairwise(starts))
    assert all(start % multiple == 0 for start in starts)
    assert len(starts) == 1 + -(-(side - window) // step)


@given(side=st.integers(1, 6), before=st.integers(0, 20), after=st.integers(0, 20))
def test_images_are_mirrored_as_numpy_does(side: int, before: int, after: int) -> None:
    image = noise(side, 4, 2)
    expected = np.pad(image, ((before, after), (1, 0), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(cut(image, (-before, -1), expected.shape[:2]), expected)


def test_memory_holds_the_answer_and_few_windows() -> None:
    image = np.zeros((1000, 1000, 1), np.uint8)
    predict = windowed(lambda windows: windows.astype("float32"), (64, 64))
    tracemalloc.start()
    try:
        predict(image)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * 4 * image.size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": 1}, "overlap must be in"),
        ({"margin": 4}, "nothing inside a margin of 4"),
        ({"border": 4}, "without a border of 4"),
        ({"multiple": 3}, "multiples of 3"),
    ],
)
def test_windows_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        windowed(blur, (8, 8), **options)


def test_answers_that_do_not_fit_are_refused() -> None:
    image = noise(20, 20, 1)
    with pytest.raises(ValueError, match="answers of 8x4 for windows of 8x8"):
        windowed(lambda images: images[:, :, :4], (8, 8))(image)
    with pytest.raises(ValueError, match="begin at multiples of 4, not of 1"):
        windowed(quarter, (8, 8))(image)
    with pytest.raises(ValueError, match=r"shape \(20, 20\)"):
        windowed(blur, (8, 8))(image[..., 0])
