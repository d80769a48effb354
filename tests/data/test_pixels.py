"""Every source gives the same pixels, NumPy and TensorFlow alike, and models get them in their
form."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from reskeras.data import from_arrays, load
from reskeras.data.pixels import resized, scaled
from reskeras.data.unlabeled import View, open_images
from reskeras.models.inputs import Layout, input_form

BYTES = np.random.default_rng(4).integers(0, 256, (6, 9, 5, 3), dtype=np.uint8)


def test_bytes_are_shares_of_255_and_floats_stay() -> None:
    found = scaled(BYTES)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (BYTES / np.float64(255)).astype(np.float32))
    np.testing.assert_array_equal(scaled(tf.constant(BYTES)), found)
    floats = np.array([-3.5, 0.25, 200.0])
    assert scaled(floats).tolist() == floats.tolist()
    assert scaled(tf.constant(floats)).numpy().tolist() == floats.tolist()


def test_resizing_is_pillows_where_it_shrinks() -> None:
    images = scaled(BYTES[:, :8, :4])
    found = resized(images, (4, 2))
    for image, one in zip(BYTES[:, :8, :4], found, strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[..., channel].astype("float32"), mode="F")
            wanted = np.asarray(plane.resize((2, 4), Image.Resampling.BILINEAR)) / 255
            np.testing.assert_allclose(one[..., channel], wanted, atol=1e-4)
    assert resized(images, (8, 4)) is images


def test_one_image_is_the_same_from_arrays_a_folder_and_a_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number, image in enumerate(BYTES):
            path = tmp_path / "set" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    labels = np.arange(6) % 2
    arrays = {"x_train": BYTES, "y_train": labels, "x_val": BYTES, "y_val": labels}
    by_array = next(from_arrays(arrays).split("train").batch(99).as_numpy_iterator())[0]
    folder = load(str(tmp_path / "set"), (9, 5, 3)).split("train")
    np.savez("images.npz", images=BYTES)
    (files, packed) = open_images([tmp_path / "set" / "a", Path("images.npz")])
    for source in (files, packed):
        read = source.reader(View(image_shape=(9, 5, 3)))
        seen = np.stack([read(number).image for number in range(len(source.names))])
        np.testing.assert_array_equal(seen, by_array)
    assert {image.tobytes() for image, _ in folder.as_numpy_iterator()} <= {
        image.tobytes() for image in by_array
    }


@pytest.mark.parametrize("tensors", [False, True], ids=["numpy", "tensorflow"])
def test_images_take_the_form_of_the_model(tensors: bool) -> None:
    images = np.arange(24, dtype="float32").reshape(2, 2, 3, 2)
    given = tf.constant(images) if tensors else images

    def model(shape: tuple[int, ...], **options: str) -> keras.Model:
        x = keras.Input(shape)
        layer = keras.layers.Conv2D(1, 1, **options) if len(shape) > 1 else keras.layers.Dense(1)
        return keras.Model(x, layer(x))

    for built, layout, wanted in (
        (model((2, 3, 2)), Layout.CHANNELS_LAST, images),
        (
            model((2, 2, 3), data_format="channels_first"),
            Layout.CHANNELS_FIRST,
            np.moveaxis(images, -1, 1),
        ),
        (model((12,)), Layout.FLAT, images.reshape(2, 12)),
    ):
        form = input_form(built)
        assert form.layout is layout
        np.testing.assert_array_equal(form.arrange(given), wanted)
        np.testing.assert_array_equal(form.arrange(given[1]), wanted[1])
