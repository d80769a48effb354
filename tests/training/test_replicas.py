"""On two devices, the optimizer's options do what they do on one, and in Keras.

Two logical CPUs, in processes of their own, since devices are fixed when a backend starts.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.xdist_group("replicas")

ON_TENSORFLOW = """
import tensorflow as tf
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""
ON_JAX = """
import keras
two = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
assert tuple(two.device_mesh.shape) == (2,)
"""
TRAININGS = """
import contextlib, sys
from pathlib import Path
import keras, numpy as np
sys.path.insert(0, TESTS)
from nets import small
from reskeras.data import from_arrays
from reskeras.spec import Recipe, Stage, TrainSpec
from reskeras.training.train import Training, build_seeded

data = from_arrays(dict(np.load("data.npz")))
net = small(norm={"kind": "none"}, stages=(Stage(blocks=1, width=8),))
taken = ("stem_conv", "stage1_block1_conv1")  # which a training freezes
sgd = {"optimizer": "sgd", "learning_rate": 0.05}
adamw = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
layers = {"init": "x.keras", "freeze": 1, "layer_decay": 0.7}
everything = {**layers, "clip_norm": 0.1, "accumulate": 3, "ema": 0.8}
TRAININGS = {
    "layers": {**sgd, **layers, "weight_decay": 0.1},
    "all_sgd": {**sgd, **everything, "weight_decay": 0.1, "weight_decay_kind": "l2"},
    "all_adamw": {**adamw, **everything},
    "all_float16": {**adamw, **everything, "precision": "mixed_float16"},
}

def begin(devices, **options):
    how = TrainSpec(epochs=3, batch_size=BATCH, seed=5, **options)
    with devices.scope() if devices else contextlib.nullcontext():
        return Training(build_seeded(Recipe(spec=net, train=how)), data, how, taken=taken)

told = {}
def tell(name, training):
    found = [*training.model.variables, *training._trainer.optimizer.variables]
    found = [v for v in found if v.name != "learning_rate"]  # which compiled training ignores
    found = {f"{n}_{v.name}": keras.ops.convert_to_numpy(v) for n, v in enumerate(found)}
    found |= {f"metric_{name}": value for name, value in training.epochs[-1].metrics.items()}
    told.update({f"{name}/{key}": value for key, value in found.items()})

for name in NAMES:
    options = TRAININGS[name]
    for devices, count in ((two, 2), (None, 1)):
        training = begin(devices, **options)
        training.run_epoch()
        tell(f"{name}/{count}/1", training)
        training.save(Path(f"state{count}"))
        training.run_epoch()
        tell(f"{name}/{count}/2", training)
    if name == "all_adamw":
        # One epoch on some devices, with a gradient in the sum at its end, and one on others.
        for devices, count in ((None, 2), (two, 1)):
            training = begin(devices, **options)
            assert training.restore(Path(f"state{count}"))
            training.run_epoch()
            tell(f"resumed/{count}/2", training)
"""
KERAS = """
from reskeras.training.fitted import FittedTrainer
from reskeras.training.optimizers import make_optimizer
from reskeras.training.targets import Targets

x, y = (np.load("data.npz")[f"{axis}_train"] for axis in "xy")
batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
STEPS = {
    "clipped": {**sgd, "clip_norm": 0.05},
    "accumulated": {**adamw, "clip_norm": 0.05, "accumulate": 3},
}
for name, options in STEPS.items():
    spec = TrainSpec(batch_size=7, **options)
    with two.scope():
        model = build_seeded(Recipe(spec=net))
        FittedTrainer(model, Targets(model, data), make_optimizer(spec, 0.05)).epoch(
            batches, np.full(4, 0.05)
        )
    alone = build_seeded(Recipe(spec=net))
    if name == "clipped":
        optimizer = keras.optimizers.SGD(0.05, 0.9, nesterov=True, global_clipnorm=0.05)
    else:
        optimizer = keras.optimizers.AdamW(
            0.05, weight_decay=0.1, global_clipnorm=0.05, gradient_accumulation_steps=3
        )
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    alone.compile(optimizer, "sparse_categorical_crossentropy")
    alone.fit(batches, verbose=0)
    for kind, one in (("reskeras", model), ("keras", alone)):
        told.update({f"{kind}/{name}/{n}": w for n, w in enumerate(one.get_weights())})

# In float16, a gradient that overflows on the second device alone skips the step on both.
recipe = Recipe(spec=net, train=TrainSpec(precision="mixed_float16"))
with two.scope():
    model = build_seeded(recipe)
    trainer = FittedTrainer(model, Targets(model, data), make_optimizer(recipe.train, 0.5))
before = model.get_weights()
x[6] = 1e30
trainer.epoch(tf.data.Dataset.from_tensor_slices((x[:7], y[:7])).batch(7), np.full(1, 0.5))
told["skipped"] = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before))
told["scale"] = np.array(trainer.optimizer.dynamic_scale)
"""
MASKS = """
from reskeras.spec import Level, PlainBlock, Segmenter, UNet

random = np.random.default_rng(2)
y = random.integers(0, 3, (22, 8, 8)) % np.r_[1:4].repeat(8)[:22, None, None]
x = (random.normal(size=y.shape) + y)[..., None].astype("float32")
data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
net = UNet(
    input_shape=(8, 8, 1), block=PlainBlock(), norm={"kind": "none"}, stages=[Level(width=4)] * 3,
    head=Segmenter(classes=3), deep_supervision=True,
)
taken = ()
for loss in LOSSES:
    for devices, count in ((two, 2), (None, 1)):
        training = begin(devices, loss=loss, **sgd)
        training.run_epoch()
        tell(f"{loss}/{count}", training)
"""
TELL = """
np.savez("told.npz", **told)
"""
LOSSES = ("dice", "tversky", "cross_entropy_dice", "focal")
NAMES = {
    "tensorflow": ("layers", "all_sgd", "all_adamw", "all_float16"),
    "jax": ("all_sgd", "all_adamw"),  # each compiles for long
}


def run(script: str, folder: Path, size: int, **environment: str) -> dict[str, Any]:
    names = NAMES[environment["KERAS_BACKEND"]]
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for split, n in (("train", size), ("val", 13)):
        y = np.arange(n) % 3
        x = random.normal(size=(n, 8, 8, 1)) + 0.5 * y[:, None, None, None]
        arrays |= {f"x_{split}": x.astype("float32"), f"y_{split}": y}
    np.savez(folder / "data.npz", **arrays)
    script = script.replace("NAMES", repr(names)).replace("LOSSES", repr(LOSSES))
    done = subprocess.run(
        [sys.executable, "-c", script.replace("TESTS", repr(str(Path(__file__).parents[1])))],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "told.npz"))


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Batches of 7, 7, 7 and 5 images: 4 on one device and 3 on the other."""
    script = ON_TENSORFLOW + "BATCH = 7" + TRAININGS + KERAS + MASKS + TELL
    folder = tmp_path_factory.mktemp("tensorflow")
    return run(script, folder, 26, KERAS_BACKEND="tensorflow")


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Batches of 8, 8, 8 and 3 images."""
    pytest.importorskip("jax")
    flags = "--xla_force_host_platform_device_count=2"
    script = ON_JAX + "BATCH = 8" + TRAININGS + TELL
    folder = tmp_path_factory.mktemp("jax")
    return run(script, folder, 27, KERAS_BACKEND="jax", XLA_FLAGS=flags)


def part(told: dict[str, Any], name: str) -> dict[str, Any]:
    found = {
        key.removeprefix(f"{name}/"): value
        for key, value in told.items()
        if key.startswith(f"{name}/")
    }
    assert found, name
    return found


def assert_same(
    ones: dict[str, Any], others: dict[str, Any], rtol: float = 1e-3, atol: float = 1e-4
) -> None:
    assert ones.keys() == others.keys()
    for key, one in ones.items():
        np.testing.assert_allclose(others[key], one, rtol=rtol, atol=atol, err_msg=key)


@pytest.mark.parametrize(
    ("backend", "name"), [(backend, name) for backend, names in NAMES.items() for name in names]
)
def test_two_devices_train_like_one(
    request: pytest.FixtureRequest, backend: str, name: str
) -> None:
    """Weights, averages, moments, sums of gradients, steps and metrics after each epoch."""
    told: dict[str, Any] = request.getfixturevalue(f"on_{backend}")
    for epoch in (1, 2):
        one, two = (part(told, f"{name}/{count}/{epoch}") for count in (1, 2))
        # In float16, parts of a batch round otherwise than the whole.
        assert_same(one, two, **{"rtol": 0.1, "atol": 0.01} if name == "all_float16" else {})


@pytest.mark.parametrize("backend", NAMES)
def test_a_training_goes_on_with_other_devices_in_the_midst_of_a_sum(
    request: pytest.FixtureRequest, backend: str
) -> None:
    told: dict[str, Any] = request.getfixturevalue(f"on_{backend}")
    for first in (1, 2):
        assert_same(part(told, "all_adamw/1/2"), part(told, f"resumed/{first}/2"))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_masks_are_of_the_whole_batch(on_tensorflow: dict[str, Any], loss: str) -> None:
    """Three batches of 7 masks and one of 1, which the second device runs without counting it."""
    one, two = (part(on_tensorflow, f"{loss}/{count}") for count in (1, 2))
    assert_same(one, two, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["clipped", "accumulated"])
def test_two_devices_train_like_stock_keras_on_one(
    on_tensorflow: dict[str, Any], name: str
) -> None:
    ours, theirs = (part(on_tensorflow, f"{kind}/{name}") for kind in ("reskeras", "keras"))
    assert_same(theirs, ours)


def test_a_gradient_that_overflows_on_one_device_is_used_on_none(
    on_tensorflow: dict[str, Any],
) -> None:
    assert on_tensorflow["skipped"]
    assert on_tensorflow["scale"] == 2.0**14
