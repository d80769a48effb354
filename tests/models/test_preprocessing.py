"""Exported and served models answer for raw images as `predict` does for files.

The oracle of pixels is Pillow.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import randomize, small
from PIL import Image

import reskeras
from reskeras.cli import main
from reskeras.data import load
from reskeras.data.decode import in_sides
from reskeras.data.pixels import resized
from reskeras.errors import RequestError
from reskeras.models.preprocessing import Preprocessing, preprocessed
from reskeras.spec import Classifier, Recipe, Resize, TrainSpec
from reskeras.spec.text import dump_recipe
from tuning.tracking.champion import _pack

BILINEAR = Image.Resampling.BILINEAR


def _raw(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Random bytes; half of them black or white, where sums are the largest."""
    random = np.random.default_rng([height, width, channels, seed])
    pixels = random.integers(0, 256, (height, width, channels), np.uint8)
    extreme = random.integers(0, 2, pixels.shape, np.uint8) * np.uint8(255)
    return np.where(random.random(pixels.shape) < 0.5, pixels, extreme)


def _pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resized to this width and height by Pillow: along rows, then along columns."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    found = image.resize((size[0], image.height), BILINEAR).resize(size, BILINEAR)
    return np.asarray(found).reshape(*size[::-1], -1)


@settings(max_examples=120)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    sides=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 9),
)
def test_bytes_are_resized_as_pillow_does_bit_for_bit(
    height: int, width: int, sides: tuple[int, int], channels: int, seed: int
) -> None:
    pixels = _raw(height, width, channels, seed)
    found = Preprocessing(sides)(pixels[np.newaxis]).numpy()
    wanted = _pillow(pixels, sides[::-1])
    np.testing.assert_array_equal(np.rint(255 * found[0]), wanted)
    np.testing.assert_allclose(found[0], wanted / 255, rtol=1e-6)


@pytest.mark.parametrize("size", [(1000, 4), (5, 3000), (4096, 16)])
def test_extreme_factors_are_exact(size: tuple[int, int]) -> None:
    pixels = _raw(*size, 1)
    for sides in ((4, 4), (16, 12)):
        found = Preprocessing(sides)(pixels[np.newaxis]).numpy()[0]
        np.testing.assert_array_equal(np.rint(255 * found), _pillow(pixels, sides[::-1]))
    white = np.full((1, *size, 1), 255, np.uint8)
    np.testing.assert_array_equal(Preprocessing((4, 4))(white), np.ones((1, 4, 4, 1), "float32"))


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize=st.sampled_from(["stretch", "crop", "pad"]),
)
def test_every_way_to_resize_is_that_of_files(
    size: tuple[int, int], sides: tuple[int, int], resize: Resize
) -> None:
    pixels = _raw(*size, 3)
    wanted = np.asarray(in_sides(Image.fromarray(pixels), sides, resize, BILINEAR))
    found = Preprocessing(sides, resize)(np.stack([pixels, 255 - pixels])).numpy()
    np.testing.assert_array_equal(np.rint(255 * found[0]), wanted)
    np.testing.assert_array_equal(resized(pixels, sides, resize), wanted)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_floats_are_not_rounded(size: tuple[int, int], sides: tuple[int, int]) -> None:
    values = np.random.default_rng(0).uniform(-900, 4095, (1, *size, 1)).astype("float32")
    found = Preprocessing(sides, pixels="floats", peak=4095.0)(values).numpy()
    image = Image.fromarray(values[0, ..., 0] / np.float32(4095))
    wanted = np.asarray(image.resize(sides[::-1], BILINEAR))
    np.testing.assert_allclose(found[0, ..., 0], wanted, rtol=0, atol=1e-6)


def _files(channels: int) -> None:
    """`set/{a,b}/*`: ten files each, PNG and JPEG, of different sizes."""
    for place in range(20):
        height, width = np.random.default_rng(place).integers(5, 40, 2)
        path = Path(f"set/{'ab'[place % 2]}/{place:02}.{'png' if place % 4 < 2 else 'jpg'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = _raw(height, width, channels, place) // 2 + 100 * (place % 2)
        Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(path)


def _run(*words: object) -> Result:
    done = CliRunner().invoke(main, list(map(str, words)), env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done


def _predicted(*paths: Path) -> np.ndarray:
    told = json.loads(_run("predict", "trained/net", *paths, "--json").stdout)
    return np.array(
        [
            [one["probability"] for one in sorted(each["classes"], key=lambda one: one["class"])]
            for each in told
        ]
    )


def _answers(form: str, images: np.ndarray) -> Any:
    """What each runtime says."""
    match form:
        case "saved":
            loaded = tf.saved_model.load("saved")
            return loaded.serve(images).numpy()
        case "net.onnx":
            onnxruntime = pytest.importorskip("onnxruntime")
            session = onnxruntime.InferenceSession(form, providers=["CPUExecutionProvider"])
            return session.run(None, {session.get_inputs()[0].name: images})[0]
        case "net.tflite":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                interpreter = tf.lite.Interpreter(model_path=form)
            place = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(place, images.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(place, images)
            interpreter.invoke()
            return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        case _:
            import mlflow

            return mlflow.pyfunc.load_model("packed").predict(images)


@pytest.mark.parametrize(("resize", "channels"), [("stretch", 3), ("pad", 1)])
def test_every_export_answers_for_raw_images_as_predict_does_for_files(
    resize: Resize, channels: int
) -> None:
    _files(channels)
    spec = small(input_shape=(8, 12, channels), head=Classifier(classes=2))
    recipe = Recipe(spec=spec, train=TrainSpec(epochs=1, batch_size=4, resize=resize))
    Path("spec.yaml").write_text(dump_recipe(recipe))
    _run("train", "spec.yaml", "--data", "./set", "--out", "trained/net")
    model = keras.saving.load_model("trained/net/model.keras", compile=False)
    randomize(model)  # an epoch on noise leaves answers that are all alike
    model.save("trained/net/model.keras")
    record = json.loads(Path("trained/net/data.json").read_text())
    assert (record["pixels"], record["resize"]) == ("bytes", resize)
    for out in ("saved", "net.onnx", "net.tflite"):
        told = _run("export", "trained/net", out).stdout
        assert f"input [N, ?, ?, {channels}] uint8, output [N, 2] float32" in told
    _pack(Path("trained/net/model.keras"), Path("none.npy"), record, Path("packed"))
    files = sorted(Path("set").rglob("*.*"))
    wanted = _predicted(*files)
    assert np.ptp(wanted[:, 0]) > 0.01
    for place in np.random.default_rng(1).choice(len(files), 4, replace=False):
        answer, image = wanted[place], np.asarray(Image.open(files[place]))
        pixels = image.reshape(1, *image.shape[:2], channels)
        np.save("raw.npy", pixels)
        np.testing.assert_allclose(_predicted(Path("raw.npy"))[0], answer, atol=1e-6)
        for form in ("saved", "net.onnx", "net.tflite", "packed"):
            np.testing.assert_allclose(_answers(form, pixels)[0], answer, atol=1e-5, err_msg=form)


def test_scans_of_more_bits_stay_numbers() -> None:
    for place in range(20):
        path = Path(f"set/{'ab'[place % 2]}/{place:02}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(place).integers(0, 4000, (9 + place, 14), np.uint16)
        Image.fromarray(values).save(path)
    data = load("./set", (8, 8, 1))
    assert (data.pixels, data.peak) == ("floats", 4095)
    network = reskeras.build(small())
    model = preprocessed(network, {"pixels": data.pixels, "peak": data.peak, "resize": data.resize})
    assert model.inputs[0].dtype == "float32"
    raw = np.asarray(Image.open("set/a/04.png")).astype("float32")[np.newaxis, ..., np.newaxis]
    Path("trained/net").mkdir(parents=True)
    network.save("trained/net/model.keras")
    record = {"pixels": "floats", "peak": 4095.0, "resize": data.resize}
    Path("trained/net/data.json").write_text(json.dumps(record))
    (wanted,) = _predicted(Path("set/a/04.png"))
    np.testing.assert_allclose(model(raw)[0], wanted, atol=1e-5)


def test_images_take_the_form_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _raw(9, 7, 3)[np.newaxis]
    shares = _pillow(pixels[0], (4, 2)) / np.float32(255)
    first, flat = keras.Input((3, 2, 4)), keras.Input((24,))
    networks = [
        keras.Model(
            first,
            keras.layers.Flatten(data_format="channels_first")(
                keras.layers.ZeroPadding2D(0, data_format="channels_first")(first)
            ),
        ),
        keras.Model(flat, keras.layers.Activation("linear")(flat)),
    ]
    found = preprocessed(networks[1], {"image_shape": [2, 4, 3]})(pixels)
    np.testing.assert_allclose(found[0], shares.ravel(), rtol=1e-6)
    found = preprocessed(networks[0], {})(pixels)
    np.testing.assert_allclose(found[0], networks[0](shares.transpose(2, 0, 1)[None])[0], rtol=1e-6)
    with pytest.raises(RequestError, match=r"inputs of shape \[24\], not images"):
        preprocessed(networks[1], {})
    with pytest.raises(RequestError, match="resize 'squeeze'; known: stretch, crop, pad"):
        preprocessed(networks[0], {"resize": "squeeze"})
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RequestError, match="need Keras on TensorFlow, not on jax"):
        preprocessed(networks[0], {})


def test_a_model_of_raw_images_is_saved_and_loaded_again() -> None:
    model = preprocessed(reskeras.build(small()), {"resize": "pad"})
    model.save("raw.keras")
    again = keras.saving.load_model("raw.keras")
    pixels = _raw(30, 20, 1)[np.newaxis]
    np.testing.assert_array_equal(again(pixels), model(pixels))
    assert again.get_layer("preprocessing").resize == "pad"


def test_what_has_no_raw_images_is_exported_bare() -> None:
    signal = keras.Input((16, 2))
    keras.Model(signal, keras.layers.Flatten()(signal)).save("signal.keras")
    assert "input [N, 16, 2] float32" in _run("export", "signal.keras", "signal").stdout
    flat = keras.Input((24,))
    keras.Model(flat, keras.layers.Dense(2)(flat)).save("flat.keras")
    done = CliRunner().invoke(main, ["export", "flat.keras", "flat"])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].endswith(
        "inputs of shape [24], not images of one size; --bare exports the network alone"
    )
    assert not Path("flat").exists()
    assert "input [N, 24] float32" in _run("export", "flat.keras", "flat", "--bare").stdout
