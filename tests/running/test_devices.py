"""Trials on several devices: logical CPUs, in processes of their own, since devices are fixed when
a backend starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.spec import Recipe, TrainSpec
from tuning import Range, Space
from tuning.running import devices
from tuning.settings import Strategy

# One process makes what the tests share.
pytestmark = pytest.mark.xdist_group("devices")

COMMON = """
import dataclasses, json, sys
from pathlib import Path
import keras, numpy as np
import reskeras
from reskeras.data import from_arrays, load
from reskeras.spec import CifarStem, Classifier, Recipe, ResNet, Stage, TrainSpec
from reskeras.training.train import Training, build_seeded, evaluate
from tuning.running.devices import chosen, replicas, strategy_scope
from tuning.settings import Strategy

data = load(sys.argv[1], (8, 8, 1))

def recipe(norm, **train):
    net = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block={"kind": "basic"},
        norm={"kind": norm},
        stages=(Stage(blocks=1, width=8),),
        head=Classifier(classes=3),
    )
    how = {"epochs": 2, "batch_size": 36, "optimizer": "sgd", "learning_rate": 0.05, "seed": 5}
    return Recipe(spec=net, train=TrainSpec(**how | train))

def begin(strategy, recipe):
    with strategy_scope(strategy, recipe.train):
        return Training(build_seeded(recipe), data, recipe.train)

def run(training, epochs=2):
    return [dict(training.run_epoch().metrics) for _ in range(epochs)]

def numbers(variables):
    return [keras.ops.convert_to_numpy(variable).tolist() for variable in variables]

def weights(training):
    return numbers(training.model.variables)

def statistics(model):
    return numbers(model.non_trainable_variables)

ONE, TWO = Strategy.NONE, Strategy.MIRRORED
found = {"replicas": replicas(TWO), "auto": chosen(Strategy.AUTO).value}
for batch in BATCHES:
    how = recipe("none", batch_size=batch, augment="shift")
    found[f"plain{batch}"] = [run(begin(strategy, how)) for strategy in (ONE, TWO)]

# Half on two devices and half on one, by a file, and the other way round.
how = recipe("none")
halves = []
for first, second in ((ONE, ONE), (TWO, ONE), (ONE, TWO)):
    begun = begin(first, how)
    run(begun, 1)
    begun.save(Path("state.npz"))
    resumed = begin(second, how)
    assert resumed.restore(Path("state.npz"))
    run(resumed, 1)
    halves.append(([dict(epoch.metrics) for epoch in resumed.epochs], weights(resumed)))
found["halves"] = halves

normed = begin(TWO, recipe("batch", batch_size=48, epochs=4, augment="none"))
found["normed"] = run(normed, 4)
normed.finish()
normed.model.save("best.keras")
saved = keras.saving.load_model("best.keras")
found["reloaded"] = evaluate(saved, data, "val")
found["kept"] = statistics(normed.model)
reskeras.recalibrate(saved, data.split("train").map(lambda image, label: image))
found["recalibrated"] = statistics(saved)
"""
ON_TENSORFLOW = """
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
BATCHES = (35, 95)
"""
SEARCH = """
from tuning import Range, Space, tune
from tuning.tracking import Tracker
space = Space(recipe("batch", epochs=1, batch_size=32), {"stages.*.blocks": [1, 2]})
space = space.with_train(precision="mixed_bfloat16")  # as --precision does
result = tune(space, data, directory="s", oracle="grid", trials=2, strategy=TWO)
found["search"] = [[record.status, record.error, record.score] for record in result.trials]
found["test"] = result.test
best = keras.saving.load_model("s/best.keras")
found["test_alone"] = evaluate(best, data, "test")
found["dtypes"] = [best.layers[1].compute_dtype, best.layers[-1].compute_dtype]
found["best"] = Path("s/best.yaml").read_text()
try:
    tune(space.with_train(recompute=True), data, directory="t", trials=1, strategy=TWO)
except reskeras.RequestError as error:
    found["refused"] = str(error)
run(begin(TWO, recipe("batch", batch_size=95, precision="mixed_float16")))
"""
TELL = """
Path("found.json").write_text(json.dumps(found))
"""


def run(script: str, npz: Path, folder: Path, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(npz)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.fixture(scope="module")
def npz(blobs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, **blobs)
    return path


@pytest.fixture(scope="module")
def on_tensorflow(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tensorflow")
    return run(ON_TENSORFLOW + COMMON + SEARCH + TELL, npz, folder, KERAS_BACKEND="tensorflow")


@pytest.fixture(scope="module")
def on_jax(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("jax")
    folder = tmp_path_factory.mktemp("jax")
    flags = "--xla_force_host_platform_device_count=2"
    return run("BATCHES = (36,)" + COMMON + TELL, npz, folder, KERAS_BACKEND="jax", XLA_FLAGS=flags)


@pytest.fixture(params=["on_tensorflow", "on_jax"])
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    value: dict[str, Any] = request.getfixturevalue(request.param)
    return value


def test_two_devices_have_the_losses_of_one(found: dict[str, Any]) -> None:
    """96 images: batches of 36 leave a last one of 24; 35 is odd; 95 leaves one image for two."""
    assert found["replicas"] == 2
    trainings = [value for name, value in found.items() if name.startswith("plain")]
    assert trainings
    for one, two in trainings:
        for expected, metrics in zip(one, two, strict=True):
            assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert one[1]["loss"] < one[0]["loss"]


def test_a_training_goes_on_with_other_devices_than_it_began_with(found: dict[str, Any]) -> None:
    (epochs, weights), *others = found["halves"]
    for theirs, other in others:
        for expected, metrics in zip(epochs, theirs, strict=True):
            assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)
        for one, two in zip(flat(weights), flat(other), strict=True):
            assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


def flat(values: Any) -> list[float]:
    return (
        [item for value in values for item in flat(value)] if isinstance(values, list) else [values]
    )


def test_a_net_with_batch_norm_is_saved_as_it_was_scored(found: dict[str, Any]) -> None:
    last = found["normed"][-1]
    assert last["val_accuracy"] > 0.6
    scored = {name: value for name, value in last.items() if name.startswith("val_")}
    again = {f"val_{name}": value for name, value in found["reloaded"].items()}
    assert again == pytest.approx(scored, rel=1e-4)
    for one, two in zip(flat(found["recalibrated"]), flat(found["kept"]), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_a_search_over_two_devices(on_tensorflow: dict[str, Any]) -> None:
    assert [status for status, *_ in on_tensorflow["search"]] == ["completed"] * 2, on_tensorflow[
        "search"
    ]
    # The evaluation folds batch norms into the weights, so bfloat16 rounds other numbers: the loss
    # differs a little, and one of 48 images may change its class.
    test, alone = on_tensorflow["test"], on_tensorflow["test_alone"]
    assert test["loss"] == pytest.approx(alone["loss"], rel=0.01)
    assert test["accuracy"] == pytest.approx(alone["accuracy"], abs=1.1 / 48)
    assert on_tensorflow["dtypes"] == ["bfloat16", "float32"]
    assert "precision: mixed_bfloat16" in on_tensorflow["best"]
    assert on_tensorflow["refused"].startswith("train.recompute trains on one device")


def test_auto_takes_gpus_and_tpus_alone(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert found["auto"] == "none"  # of two CPUs
    no_tpu(monkeypatch, tmp_path)
    assert devices.chosen(Strategy.AUTO) is Strategy.NONE
    monkeypatch.setattr(
        devices, "_devices", lambda kind: {"GPU": ["GPU:0", "GPU:1"], "CPU": ["CPU:0"]}[kind]
    )
    assert devices.chosen(Strategy.AUTO) is Strategy.MIRRORED
    monkeypatch.setenv("TPU_NAME", "local")
    assert devices.chosen(Strategy.AUTO) is Strategy.TPU


def of(**train: Any) -> Space:
    vary = {name: value for name, value in train.items() if isinstance(value, list | Range)}
    fixed = TrainSpec(**{name: value for name, value in train.items() if name not in vary})
    searched = {
        "stages.*.blocks": [1, 2],
        **{f"train.{name}": value for name, value in vary.items()},
    }
    return Space(Recipe(spec=reskeras.preset("digits_basic"), train=fixed), searched)


def no_tpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "_TPU_DEVICE", tmp_path / "accel0")
    for name in devices._TPU_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_devices_that_are_not_there_are_refused_before_a_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int | None
) -> None:
    no_tpu(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0" if workers is not None else "")
    with pytest.raises(
        RequestError,
        match=r"^--strategy mirrored needs at least two devices for each worker \(found ",
    ):
        devices.check_strategy(Strategy.MIRRORED, of(), workers)
    with pytest.raises(RequestError, match=r"^--strategy tpu: no TPU here"):
        devices.check_strategy(Strategy.TPU, of(), workers)
    for strategy in (Strategy.NONE, Strategy.AUTO):
        devices.check_strategy(strategy, of(recompute=True, batch_size=1), workers)


def test_a_batch_has_an_image_for_each_device_at_least(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_tpu(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    for strategy in (Strategy.MIRRORED, Strategy.AUTO):
        devices.check_strategy(strategy, of(batch_size=[4, 16], recompute=[False]), 2)
        for size in (3, [4, 3], Range(low=3, high=9)):
            with pytest.raises(
                RequestError, match=r"^train\.batch_size 3 is too small for 4 devices"
            ):
                devices.check_strategy(strategy, of(batch_size=size), 2)
        for recompute in (True, [False, True]):
            with pytest.raises(RequestError, match=r"^train\.recompute trains on one device"):
                devices.check_strategy(strategy, of(recompute=recompute), 2)
    # One GPU for each worker
    devices.check_strategy(Strategy.AUTO, of(batch_size=1, recompute=True), 8)
