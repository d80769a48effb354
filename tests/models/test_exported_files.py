"""What exported files compute, hold and say of themselves.

The oracles are the runtimes, Keras, and numbers worked by hand.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import randomize, small

import reskeras
from reskeras.errors import RequestError
from reskeras.models.export import Exporter
from reskeras.models.export_check import Answers, Check, answers_of, compare, fault
from reskeras.models.export_forms import FileFormat, Precision, Target, targets
from reskeras.models.preprocessing import Preprocessing, preprocessed
from reskeras.spec import Stage

RECORD = {"class_names": ["egg", "ham", "Öl"], "resize": "pad", "pixels": "bytes", "peak": None}


@pytest.mark.parametrize(
    ("names", "precision", "wanted"),
    [
        (["a.onnx", "a"], None, [("ONNX", "float32"), ("SavedModel", "float32")]),
        (["a.int8.tflite", "a-float16.onnx"], None, [("TFLite", "int8"), ("ONNX", "float16")]),
        (["a.tflite", "a_int8.tflite"], "float16", [("TFLite", "float16"), ("TFLite", "int8")]),
        (["a.keras", "a.tflite"], "int8", [("Keras", "float32"), ("TFLite", "int8")]),
        (["paint8.tflite", "a.weights.h5"], None, [("TFLite", "float32"), ("Keras weights", "")]),
    ],
)
def test_names_say_format_and_precision(
    names: list[str], precision: str | None, wanted: list[tuple[str, str]]
) -> None:
    found = targets(list(map(Path, names)), precision and Precision(precision))
    for each, (title, numbers) in zip(found, wanted, strict=True):
        assert (each.form.title, each.precision.value) == (title, numbers or "float32")


@pytest.mark.parametrize(
    ("names", "precision", "message"),
    [
        (["a.int8.onnx"], None, r"a.int8.onnx: ONNX files are written as float32 or float16"),
        (["a.tflite", "a.onnx"], "int8", r"a.onnx: ONNX files .* not int8; .tflite files can"),
        (["a.keras", "b"], "float16", r"--precision float16: for .onnx and .tflite files, and a.k"),
        (["a.tflite", "b", "a.tflite"], None, r"a.tflite: given twice"),
        (
            ["x/c.int8.float16.tflite"],
            None,
            r"c.int8.float16.tflite: its name says int8 and f",
        ),
        (["a.int8"], None, r"a.int8: give a name that ends in .keras, .onnx, .weights.h5, .tflite"),
    ],
)
def test_names_that_ask_for_what_is_not_there(
    names: list[str], precision: str | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        targets(list(map(Path, names)), precision and Precision(precision))


def test_a_missing_extra_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reskeras.models.export_forms.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"net.onnx: ONNX export needs the extra `onnx`"):
        targets([Path("net.tflite"), Path("net.onnx")], None)
    assert targets([Path("net.tflite")], None)[0].form is FileFormat.TFLITE


def _check(**values: Any) -> Check:
    plain = {"difference": 0.0, "largest": 1.0, "equal": 1.0, "kept": 1.0, "milliseconds": 1.0}
    return Check(**plain | values)


@pytest.mark.parametrize(
    ("values", "precision", "is_half", "bad"),
    [
        ({"difference": 0.9e-4}, "float32", False, False),
        ({"difference": 1.1e-4}, "float32", False, True),
        ({"difference": 0.9e-2, "largest": 100.0}, "float32", False, False),
        ({"difference": 0.9e-2}, "float32", True, False),
        ({"difference": 0.9e-2}, "float16", False, False),
        ({"difference": 1.1e-2}, "float16", False, True),
        ({"difference": float("nan")}, "float32", False, True),
        ({"difference": 0.9, "kept": 0.5}, "int8", False, False),
        ({"difference": 0.1, "kept": 0.49}, "int8", False, True),
        ({"kept": -3.0, "equal": None}, "int8", False, True),
        ({"kept": float("nan"), "equal": None}, "int8", False, True),
    ],
)
def test_what_counts_as_a_fault(
    values: dict[str, Any], precision: str, is_half: bool, bad: bool
) -> None:
    assert (fault(_check(**values), Precision(precision), is_half=is_half) is not None) is bad


def _network(activation: str, name: str = "head") -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(2, activation=activation, name=name)(x))


@pytest.mark.parametrize(
    ("activation", "record", "wanted"),
    [
        ("softmax", {}, Answers.ONE),
        ("sigmoid", {}, Answers.EACH),
        ("linear", {}, Answers.NUMBERS),
        ("linear", {"task": "classification"}, Answers.ONE),
        ("sigmoid", {"task": "multilabel"}, Answers.EACH),
        ("linear", {"task": "numbers"}, Answers.NUMBERS),
    ],
)
def test_the_kind_of_answer(activation: str, record: dict[str, str], wanted: Answers) -> None:
    assert answers_of(_network(activation), record) is wanted


def _compared(wanted: np.ndarray, found: np.ndarray, activation: str) -> Check:
    """Images that are their places, so that any batches will do."""
    images = np.arange(len(wanted))[:, np.newaxis]
    network = _network(activation)
    return compare(lambda each: [found[each[:, 0]]], [[wanted]], [images], network, {})


def test_a_comparison_worked_by_hand() -> None:
    # Twelve times class 0 and four times class 1, of which the file knows one.
    wanted = np.array([[0.75, 0.25]] * 12 + [[0.25, 0.75]] * 4, "float32")
    found = wanted.copy()
    found[13:] = [0.5625, 0.4375]
    check = _compared(wanted, wanted, "softmax")
    assert (check.difference, check.largest, check.equal, check.kept) == (0, 0.75, 1, 1)
    check = _compared(wanted, found, "softmax")
    assert (check.difference, check.equal, check.kept) == (0.3125, 13 / 16, 13 / 16)
    # As numbers, the mean of a channel is 0.625 or 0.375: 12 * 0.125^2 + 4 * 0.375^2 = 0.75 each.
    check = _compared(wanted, found, "linear")
    assert check.equal is None
    assert check.kept == pytest.approx(1 - 6 * 0.3125**2 / 1.5)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_file_that_always_answers_the_mean_of_numbers_far_from_0_is_refused(
    precision: str,
) -> None:
    # Years: 2000 with a standard deviation of 10, as many above as below.
    noise = np.random.default_rng(3).normal(0, 10, (16, 2))
    wanted = (2000 + np.concatenate([noise, -noise])).astype("float32")
    right = _compared(wanted, wanted, "linear")
    assert (right.difference, right.kept) == (0, 1)
    check = _compared(wanted, np.full_like(wanted, 2000), "linear")
    # It explains nothing.
    assert check.kept == pytest.approx(0, abs=1e-3)
    assert check.difference == pytest.approx(np.abs(noise).max(), rel=1e-3)
    assert fault(check, Precision(precision), is_half=False) is not None
    # What the precision rounds is no fault: half precision holds whole years, 8 bits every eighth.
    step = {"float32": 2**-13, "float16": 1, "int8": 8}[precision]
    check = _compared(wanted, np.round(wanted / step) * step, "linear")
    assert fault(check, Precision(precision), is_half=False) is None


def test_each_output_is_judged_by_its_own_numbers() -> None:
    x = keras.Input((4,))
    heads = {name: keras.layers.Dense(2, name=name)(x) for name in ("head", "other_head")}
    large, small = (np.random.default_rng(4).normal(0, size, (16, 2)) for size in (1000, 1))
    # Lost in the other head: 3 standard deviations or so, less than 1e-2 of the large numbers.
    check = compare(
        lambda each: [large[each[:, 0]], 0 * small[each[:, 0]]],
        [[large, small]],
        [np.arange(16)[:, np.newaxis]],
        keras.Model(x, heads),
        {},
    )
    assert check.difference == np.abs(small).max()
    assert fault(check, Precision.FLOAT16, is_half=False) is not None


def test_numbers_that_are_all_alike_may_be_rounded() -> None:
    wanted = np.full((16, 1), 7, "float32")
    for error, is_bad in ((7 / 256, False), (7 / 64, True)):
        check = _compared(wanted, wanted + error, "linear")
        assert (fault(check, Precision.INT8, is_half=False) is not None) is is_bad


def test_an_answer_that_is_lost_counts_even_if_it_is_rare() -> None:
    wanted = np.eye(2, dtype="float32")[[0] * 90 + [1] * 10]
    check = _compared(wanted, wanted[[0] * 100], "softmax")
    assert (check.equal, check.kept) == (0.9, 0)
    assert "only 0.0 % of some answer" in str(fault(check, Precision.INT8, is_half=False))


def test_each_yes_and_no_is_an_answer() -> None:
    wanted = np.array([[0.9, 0.2]] * 8 + [[0.4, 0.1]] * 8)
    check = _compared(wanted, wanted - 0.35 * (wanted > 0.8), "sigmoid")
    assert (check.equal, check.kept) == (1, 1)
    check = _compared(wanted, np.minimum(wanted, 0.3), "sigmoid")
    assert check.equal == 24 / 32
    assert check.kept == 24 / 32  # a yes that is there eight times does not count on its own


@pytest.fixture(scope="module")
def network() -> keras.Model:
    model = reskeras.build(small(stages=(Stage(blocks=1, width=8),)))
    randomize(model)
    head = model.get_layer("head")
    head.kernel.assign(10 * head.kernel)  # noise alone leaves answers that are all alike
    return model


def _target(name: str) -> Target:
    (found,) = targets([Path(name)], None)
    return found


def _raw(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


def _tflite(path: str) -> Any:
    resolvers = tf.lite.experimental.OpResolverType
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        return tf.lite.Interpreter(
            path,
            # XNNPACK adds tensors.
            experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )


def test_int8_files_hold_whole_numbers_and_take_bytes_as_they_are(network: keras.Model) -> None:
    exporter, target = (
        Exporter(network=network, record=RECORD, bare=False),
        _target("n.int8.tflite"),
    )
    # No sample has to reach white.
    images = (_raw(40, 8, 8, 1) * np.linspace(0, 0.5, 40).reshape(40, 1, 1, 1)).astype("uint8")
    exporter.write(target, Path("n.int8.tflite"), images)
    exporter.write(_target("n.tflite"), Path("n.tflite"))
    assert Path("n.int8.tflite").stat().st_size < 0.7 * Path("n.tflite").stat().st_size
    interpreter = _tflite("n.int8.tflite")
    (given,) = interpreter.get_input_details()
    assert given["dtype"] == np.uint8
    assert given["quantization"] == (1.0, 0)
    assert given["shape_signature"].tolist() == [-1, 8, 8, 1]
    details = interpreter.get_tensor_details()
    assert [each["name"] for each in details if each["dtype"] == np.float32] == [
        interpreter.get_output_details()[0]["name"]
    ]
    found = interpreter.get_signature_runner()(images=images)["output_0"]
    wanted = network.predict(images / np.float32(255), verbose=0)
    assert np.abs(found - wanted).max() < 0.2 * np.ptp(wanted, axis=0).max()
    np.testing.assert_array_equal(
        exporter.served(target)(images), network(images / np.float32(255))
    )


def test_int8_is_refused_where_tflite_knows_floats_only() -> None:
    model = reskeras.build(small(input_shape=(4, 4, 4, 1), stages=(Stage(blocks=1, width=4),)))
    exporter = Exporter(network=model, record={}, bare=False)
    with pytest.raises(RuntimeError, match="some of its layers in floats only"):
        exporter.write(
            _target("n.int8.tflite"), Path("n.tflite"), np.zeros((2, 4, 4, 4, 1), "float32")
        )
    assert not Path("n.tflite").exists()


@pytest.mark.parametrize("name", ["n.float16.onnx", "n.float16.tflite"])
def test_float16_files_hold_half_and_take_images_of_any_size(
    network: keras.Model, name: str
) -> None:
    exporter = Exporter(network=network, record=RECORD, bare=False)
    exporter.write(_target(name), Path(name))
    images = _raw(3, 21, 14, 1)
    wanted = preprocessed(network, RECORD)(images)
    if name.endswith("onnx"):
        onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_inputs()] == ["images"]
        (found,) = session.run(None, {"images": images})
        weights = onnx.load(name).graph.initializer
        kinds = {each.data_type for each in weights if "conv" in each.name.lower()}
        assert kinds == {onnx.TensorProto.FLOAT16}
    else:
        interpreter = _tflite(name)
        found = interpreter.get_signature_runner()(images=images)["output_0"]
        assert np.float16 in {each["dtype"] for each in interpreter.get_tensor_details()}
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_the_facts_of_each_format_are_read_as_the_docs_say(network: keras.Model) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    exporter = Exporter(network=network, record=RECORD, bare=False)
    for name in ("net.onnx", "net.tflite", "net"):
        exporter.write(_target(name), Path(name))
    lines = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in lines.split("```python\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        assert len(block.splitlines()) <= 4
        names: dict[str, Any] = {}
        exec(block, names)
        assert names["classes"] == ["egg", "ham", "Öl"]
    wanted = {
        "reskeras": reskeras.__version__,
        "input": "raw",
        "precision": "float32",
        **RECORD,
    }
    with zipfile.ZipFile("net.tflite") as archive:
        assert json.loads(archive.read("facts.json")) == wanted
        assert archive.read("labels.txt").decode() == "egg\nham\nÖl\n"
    assert json.loads(Path("net/assets.extra/facts.json").read_text()) == wanted
    facts = onnxruntime.InferenceSession("net.onnx").get_modelmeta().custom_metadata_map
    assert (facts["resize"], facts["peak"], facts["input"]) == ("pad", "null", "raw")
    bytes_ = Path("net.tflite").read_bytes()
    exporter.write(_target("net.tflite"), Path("again.tflite"))
    assert Path("again.tflite").read_bytes() == bytes_


def test_a_network_of_any_size_gets_images_as_large_as_they_are() -> None:
    x = keras.Input((None, None, 1))
    maps = keras.layers.Conv2D(1, 3, padding="same", name="head")(x)
    model = keras.Model(x, keras.layers.Add()([x, maps]))
    images = _raw(2, 9, 13, 1)
    raw = preprocessed(model, {"resize": "stretch"})
    np.testing.assert_allclose(raw(images), model(images / np.float32(255)), atol=1e-6)
    exporter = Exporter(network=model, record={}, bare=False)
    exporter.write(_target("n.tflite"), Path("n.tflite"))
    found = _tflite("n.tflite").get_signature_runner()(images=images)["output_0"]
    np.testing.assert_allclose(found, raw(images), atol=1e-5)


def test_restored_images_are_not_resized() -> None:
    model = reskeras.build(small())
    exporter = Exporter(network=model, record={"task": "restoration"}, bare=False)
    assert exporter.served(_target("n.tflite")).inputs[0].shape == (None, 8, 8, 1)
    assert Exporter(network=model, record={}, bare=False).served(_target("n.tflite")).inputs[
        0
    ].shape == (None, None, None, 1)


def test_scaling_alone_is_division() -> None:
    values = np.array([[[[0.0], [255.0]], [[51.0], [102.0]]]], "float32")
    np.testing.assert_allclose(Preprocessing(None)(values), values / 255)
    np.testing.assert_allclose(Preprocessing(None, "pad", "floats", 51.0)(values), values / 51)
    np.testing.assert_array_equal(Preprocessing(None, "crop", "floats")(values), values)
    assert Preprocessing(None).compute_output_shape((None, 4, 6, 3)) == (None, 4, 6, 3)
