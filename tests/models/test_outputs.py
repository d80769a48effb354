"""Which part of an image maps are of: shapes of twins on a larger image say it."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import reskeras
from reskeras.models.asking import border_of, by_windows
from reskeras.models.outputs import outputs_by_name
from reskeras.models.predictor import answerer
from reskeras.spec import AnySpec, Hourglass, Level, Segmenter, UNet

HEAD = Segmenter(classes=3)


def hourglass(*sides: int) -> AnySpec:
    return Hourglass(input_shape=(*sides, 1), stacks=2, depth=1, width=4, head=HEAD)


def unet(*sides: int, **options: Any) -> AnySpec:
    levels = [Level(width=4)] * 2
    return UNet(input_shape=(*sides, 1), stages=levels, head=HEAD, **options)


def foreign(*sides: int) -> keras.Model:
    """Padded by hand, strided, with a network as a layer: maps of half the resolution."""
    x = keras.Input((None, None, 4))
    inner = keras.Model(x, layers.Conv2D(4, 3, padding="valid")(layers.ZeroPadding2D(1)(x)))
    image = keras.Input((*sides, 1))
    x = layers.Conv2D(4, 7, strides=2, padding="valid")(layers.ZeroPadding2D(3)(image))
    x = layers.UpSampling2D(2)(inner(layers.MaxPooling2D(2)(x)))
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax")(x))


def trimming(*sides: int) -> keras.Model:
    """No padding, and half the resolution."""
    image = keras.Input((*sides, 1))
    x = layers.MaxPooling2D(2)(layers.Conv2D(4, 3)(image))
    return keras.Model(image, layers.Conv2D(3, 3, activation="softmax")(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda *sides: reskeras.build(hourglass(*sides)),
        lambda *sides: reskeras.build(unet(*sides)),
        lambda *sides: reskeras.build(unet(*sides, deep_supervision=True)),
        lambda *sides: reskeras.build(unet(*sides, padding="valid")),
        lambda *sides: reskeras.build(unet(*sides, padding="valid", up="nearest")),
        foreign,
        trimming,
    ],
)
def test_the_middle_is_what_maps_grow_with(make: Callable[..., keras.Model]) -> None:
    """With 32 more pixels, maps have 32/s more sides, so theirs are s times as many pixels."""
    small, large = (outputs_by_name(make(side, 32)) for side in (32, 64))
    for name, output in small.items():
        side, more = output.shape[1], large[name].shape[1] - output.shape[1]
        pixels = side * 32 // more
        middle = None if output.middle is None else output.middle[0]
        assert middle == (None if pixels == 32 else pixels)


def test_16x16_maps_are_the_middle_of_32x32_or_all_of_it_at_half_the_resolution() -> None:
    valid = answerer(reskeras.build(unet(32, 32, padding="valid")))
    assert valid.form.shape[1:3] == (16, 16)
    assert border_of(valid) == 8
    image = keras.Input((32, 32, 1))
    half = answerer(keras.Model(image, layers.Conv2D(3, 2, 2, activation="softmax")(image)))
    assert half.form.shape[1:3] == (16, 16)
    assert border_of(half) == 0


def test_coarser_masks_have_the_pixels_of_the_image_by_windows() -> None:
    """A network that only pools answers as much for the whole image as for its windows."""
    image = keras.Input((8, 8, 1))
    x = layers.AveragePooling2D(4)(image)
    model = keras.Model(image, layers.Activation("softmax")(layers.Concatenate()([x, -x])))
    ask = answerer(model)
    picture = np.random.default_rng(0).uniform(size=(16, 24, 1)).astype("float32")
    means = picture.reshape(4, 4, 6, 4).mean(axis=(1, 3)).repeat(4, 0).repeat(4, 1)
    found = by_windows(ask, ask, "it")(picture)
    assert found.shape == (16, 24, 2)
    np.testing.assert_allclose(found[..., 0], 1 / (1 + np.exp(-2 * means)), rtol=1e-4)
