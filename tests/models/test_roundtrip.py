"""What leaves the process computes the same where it arrives: files of models and weights, and the
two export formats."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import reskeras
from reskeras.data import from_arrays
from reskeras.models.folding import fold_batch_norm
from reskeras.models.onnx import export_onnx
from reskeras.spec import (
    BasicBlock,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DeepStem,
    DenseBlock,
    DenseNet,
    DenseStage,
    GroupNorm,
    Heatmaps,
    Hourglass,
    ImagenetStem,
    Level,
    ResNet,
    Segmenter,
    Stage,
    TrainSpec,
    UNet,
)
from reskeras.training.train import train

# One process makes what the tests share.
pytestmark = pytest.mark.xdist_group("roundtrip")

ORIGINAL = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=8),
    block=BasicBlock(),
    stages=(Stage(blocks=1, width=8), Stage(blocks=1, width=16, stride=2)),
    shortcut="pad",
    head=Classifier(classes=3),
)
SPECS = {
    "original": ORIGINAL,
    "full_preact": dataclasses.replace(
        ORIGINAL,
        norm_order="full_preact",
        stem=ImagenetStem(width=8),
        block=BottleneckBlock(cardinality=2),
        shortcut="project_on_change",
    ),
    "dense": DenseNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block=DenseBlock(growth_rate=4, compression=0.5),
        stages=(DenseStage(blocks=2), DenseStage(blocks=1)),
        head=Classifier(classes=3),
    ),
    "everything": dataclasses.replace(
        ORIGINAL,
        norm=GroupNorm(groups=4),
        norm_order="relu_before_add",
        activation="silu",
        shortcut="gated",
        residual_scale="1/sqrt(depth)",
        sum_scale="1/sqrt(2)",
        squeeze_excite=4,
        drop_path_rate=0.2,
        dropout=0.1,
        stem=DeepStem(width=8),
        layer_prefix="a_",
    ),
    "hourglass": Hourglass(input_shape=(8, 8, 1), depth=1, width=8, head=Heatmaps(keypoints=2)),
    "padded": UNet(
        input_shape=(8, 8, 1),
        sizes="pad",
        skip="attention",
        up="nearest",
        stages=(Level(width=4),) * 5,
        head=Segmenter(classes=2),
    ),
    "learned": dataclasses.replace(ORIGINAL, residual_scale="learned"),
    "unet": UNet(
        input_shape=(8, 8, 1),
        block=BasicBlock(),
        stages=(Level(width=4), Level(width=8)),
        head=Segmenter(classes=2),
    ),
}
MODELS = [*SPECS, "folded"]
IMAGES = np.random.default_rng(3).normal(size=(4, 8, 8, 1)).astype("float32")


def assert_close(actual: np.ndarray, expected: np.ndarray, error: float) -> None:
    """Equal to rounding, which is relative to the largest numbers in a sum, not to their sum."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=error * np.abs(expected).max())


# Nothing of reskeras: these networks are stock layers.
LOAD_AND_PREDICT = """
import sys
import keras, numpy as np
images = np.load("images.npy")
def load(name):
    np.save(f"{name}.npy", keras.saving.load_model(f"{name}.keras").predict(images, verbose=0))
for name in sys.argv[1:]:
    load(name)
assert "reskeras" not in sys.modules
"""


@pytest.fixture(scope="module")
def models() -> dict[str, keras.Model]:
    """Networks with statistics that are not a fresh model's."""
    random = np.random.default_rng(0)
    built = {name: reskeras.build(spec) for name, spec in SPECS.items()}
    for model in built.values():
        for weight in model.weights:
            if weight.name in ("gamma", "moving_variance", "scale"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("beta", "moving_mean", "bias"):
                weight.assign(random.uniform(-0.5, 0.5, weight.shape))
    return built | {"folded": fold_batch_norm(built["original"])}


@pytest.fixture(scope="module")
def expected(models: dict[str, keras.Model]) -> dict[str, np.ndarray]:
    return {name: model.predict(IMAGES, verbose=0) for name, model in models.items()}


@pytest.fixture(scope="module")
def elsewhere(models: dict[str, keras.Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which another process has loaded every model's file and left its outputs; one
    process saves the time."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "images.npy", IMAGES)
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    subprocess.run([sys.executable, "-c", LOAD_AND_PREDICT, *models], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_computes_the_same_in_a_process_that_knows_only_keras(
    name: str, elsewhere: Path, expected: dict[str, np.ndarray]
) -> None:
    assert np.ptp(expected[name]) > 0.01  # not the same number everywhere
    assert_close(np.load(elsewhere / f"{name}.npy"), expected[name], 1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_weights_load_into_a_newly_built_model(
    name: str, models: dict[str, keras.Model], expected: dict[str, np.ndarray]
) -> None:
    models[name].save_weights("net.weights.h5")
    again = reskeras.build(SPECS[name])
    assert np.abs(again.predict(IMAGES, verbose=0) - expected[name]).max() > 0.01
    again.load_weights("net.weights.h5")
    assert_close(again.predict(IMAGES, verbose=0), expected[name], 1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_saved_model_serves_the_same(
    name: str, models: dict[str, keras.Model], expected: dict[str, np.ndarray]
) -> None:
    models[name].export("saved_model", verbose=False)
    served = tf.saved_model.load("saved_model")
    for size in (1, 4):  # the batch size stays free
        assert_close(served.serve(IMAGES[:size]), expected[name][:size], 2e-6)


onnx = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("onnx", "onnxruntime", "tf2onnx")),
    reason="the extra `onnx` is not installed",
)
# Keras, mending tf2onnx for NumPy 2.
numpy_object = pytest.mark.filterwarnings(
    "ignore:In the future `np.object` will be defined:FutureWarning"
)


@onnx
@numpy_object
@pytest.mark.parametrize("name", MODELS)
def test_an_exported_onnx_file_runs_the_same(
    name: str, models: dict[str, keras.Model], expected: dict[str, np.ndarray]
) -> None:
    import onnxruntime

    export_onnx(models[name], "net.onnx")
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for size in (1, 4):
        (outputs,) = session.run(None, {given.name: IMAGES[:size]})
        assert_close(outputs, expected[name][:size], 1e-5)


@onnx
@numpy_object
def test_what_onnx_cannot_say_is_refused_and_leaves_no_file() -> None:
    x = keras.Input((4, 4, 4, 4))
    model = keras.Model(x, keras.layers.Conv3D(4, 3, groups=2)(x), name="grouped")
    with pytest.raises(ValueError, match="grouped cannot be exported to ONNX"):
        export_onnx(model, "net.onnx")
    assert not Path("net.onnx").exists()
    assert not tf.config.functions_run_eagerly()


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["original", "full_preact"])
def test_mixed_precision_trains_with_a_head_of_full_precision(
    name: str, policy: str, blobs: dict[str, np.ndarray]
) -> None:
    model = reskeras.build(SPECS[name])
    half = policy.removeprefix("mixed_")
    assert {
        layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    } == {half}
    assert model.get_layer("head").compute_dtype == "float32"
    assert model.output.dtype == "float32"
    (epoch,) = train(model, from_arrays(blobs), TrainSpec(epochs=1, batch_size=32))
    assert all(np.isfinite(value) for value in epoch.metrics.values())
    assert epoch.metrics["loss"] > 0
    # float16 loses gradients below 6e-8 unless the loss is scaled up.
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
        policy == "mixed_float16"
    )
    assert all(
        np.isfinite(weight).all() and weight.dtype == "float32" for weight in model.get_weights()
    )
