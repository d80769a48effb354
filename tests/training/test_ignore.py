"""Pixels without a class count in nothing, and classes weigh what they should, in both trainers."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import small
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from reskeras.data import Cache, DataOptions, from_arrays
from reskeras.data.images import ImageData
from reskeras.spec import (
    BasicBlock,
    Classifier,
    Level,
    PlainBlock,
    Recipe,
    Segmenter,
    TrainSpec,
    UNet,
)
from reskeras.tasks.tally import Tally
from reskeras.training.compiled import CompiledTrainer, Programs, compilable
from reskeras.training.feed import Feed
from reskeras.training.fitted import FittedTrainer
from reskeras.training.targets import Targets
from reskeras.training.train import build_seeded, evaluate, train

_UNET = UNet(
    input_shape=(8, 8, 1), block=BasicBlock(), stages=[Level(width=4)] * 3,
    head=Segmenter(classes=3), deep_supervision=True,
)  # fmt: skip
HEADS = {
    "deep": _UNET,
    "logits": UNet(
        input_shape=(8, 8, 1), block=PlainBlock(), stages=[Level(width=4)] * 2,
        head=Segmenter(classes=3, activation="none"),
    ),
    "sigmoids": UNet(
        input_shape=(8, 8, 1), block=PlainBlock(), stages=[Level(width=4)] * 2,
        head=Segmenter(classes=3, activation="sigmoid"),
    ),
    "one map": UNet(
        input_shape=(8, 8, 1), block=PlainBlock(), stages=[Level(width=4)] * 2,
        head=Segmenter(classes=1, activation="sigmoid"),
    ),
}  # fmt: skip
BATCH = 8


def masked(classes: int = 3) -> dict[str, np.ndarray]:
    """Masks of which each lacks another share, and the last batch all."""
    random, arrays = np.random.default_rng(5), {}
    for split, size in (("train", 20), ("val", 13)):
        masks = random.integers(0, classes, (size, 8, 8))
        images = random.normal(size=masks.shape) + 0.3 * masks
        lost = random.random(masks.shape) < random.random((size, 1, 1)) ** 2
        lost[16:] = True
        arrays |= {f"x_{split}": images.astype("float32"), f"y_{split}": np.where(lost, 255, masks)}
    return arrays


def batches(targets: Targets, split: str) -> Any:
    return targets.prepared(targets.data.split(split)).batch(BATCH)


def trainers(model: Any, other: Any, targets: Any, optimizer: Any) -> list[tuple[Any, Any]]:
    """Both trainers of two equal networks, each with its network."""
    first = optimizer()
    assert compilable(model, first)
    compiled = CompiledTrainer(model, targets(model), first, recompute=False, programs=Programs())
    return [(compiled, model), (FittedTrainer(other, targets(other), optimizer()), other)]


def sgd() -> Any:
    return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)


def weights_of(model: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.weights]


def assert_close(found: Any, wanted: Any, tolerance: float = 2e-5) -> None:
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("head", "weighted"),
    [("deep", False), ("deep", True), ("logits", True), ("sigmoids", True), ("one map", False)],
)
def test_both_trainers_agree(head: str, weighted: bool) -> None:
    data = from_arrays(masked(2 if head == "one map" else 3), options=DataOptions(ignore=255))
    weights = (0.5, 3.0, 1.0)[: data.classes] if weighted else ()
    results = []
    nets = [build_seeded(Recipe(spec=HEADS[head])) for _ in range(2)]
    for trainer, net in trainers(*nets, lambda net: Targets(net, data, class_weights=weights), sgd):
        targets = Targets(net, data, class_weights=weights)
        logs = [trainer.epoch(batches(targets, "train"), np.full(3, 0.05)) for _ in range(2)]
        scores = trainer.evaluate(batches(targets, "val"))
        assert set(scores) == {metric.name for metric in data.task.metrics}
        results.append([logs, scores, weights_of(net)])
        assert all(np.isfinite(value).all() for value in keras.tree.flatten(results[-1]))
    assert_close(*results)


def pixelwise(sides: tuple[int, int]) -> Any:
    """A network that sees one pixel at a time."""
    image = keras.Input((*sides, 1))
    hidden = keras.layers.Conv2D(4, 1, activation="tanh", kernel_initializer="ones")(image)
    first = keras.initializers.RandomNormal(seed=3)
    head = keras.layers.Conv2D(3, 1, activation="softmax", kernel_initializer=first, name="head")
    return keras.Model(image, head(hidden))


@pytest.mark.parametrize("kind", [0, 1], ids=["compiled", "fitted"])
def test_ignored_halves_are_as_if_cut_off(kind: int) -> None:
    """Also when what lies under them is something else."""
    random, full = np.random.default_rng(2), {}
    for split, size in (("train", 10), ("val", 10)):
        masks = random.integers(0, 3, (size, 8, 8))
        full |= {
            f"x_{split}": (random.normal(size=masks.shape) + masks).astype("float32"),
            f"y_{split}": masks,
        }
    halves = {key: array[:, :, :4] for key, array in full.items()}
    ignored = {key: array.copy() for key, array in full.items()}
    for split in ("train", "val"):
        ignored[f"y_{split}"][:, :, 4:] = -1
    shuffled = {key: array.copy() for key, array in ignored.items()}
    for split in ("train", "val"):
        random.shuffle(shuffled[f"x_{split}"][:, :, 4:])
    results = []
    for arrays, ignore in ((halves, None), (ignored, -1), (shuffled, -1)):
        data = from_arrays(arrays, options=DataOptions(ignore=ignore))
        nets = [pixelwise(data.image_shape[:2]) for _ in range(2)]
        made = trainers(*nets, lambda net, data=data: Targets(net, data), sgd)
        trainer, net = made[kind]
        targets = Targets(net, data)
        logs = [trainer.epoch(batches(targets, "train"), np.full(2, 0.05)) for _ in range(2)]
        results.append([logs, trainer.evaluate(batches(targets, "val")), weights_of(net)])
    assert_close(results[0], results[1])
    assert_close(results[1], results[2])


@pytest.mark.parametrize("kind", [0, 1], ids=["compiled", "fitted"])
def test_a_batch_without_any_class_changes_nothing(kind: int) -> None:
    arrays = masked()
    data = from_arrays(arrays, options=DataOptions(ignore=255))
    nets = [build_seeded(Recipe(spec=HEADS["logits"])) for _ in range(2)]
    plain = lambda: keras.optimizers.SGD(0.05)  # noqa: E731
    trainer, net = trainers(*nets, lambda net: Targets(net, data), plain)[kind]
    before = [variable.numpy() for variable in net.trainable_variables]
    targets = Targets(net, data)
    logs = trainer.epoch(batches(targets, "train").skip(2), np.full(1, 0.05))
    assert logs["loss"] == logs["accuracy"] == 0
    for variable, value in zip(net.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_saved_model_scores_as_numpy_does(tmp_path: Path) -> None:
    arrays = masked()
    arrays |= {"x_test": arrays["x_val"], "y_test": arrays["y_val"]}
    data = from_arrays(arrays, options=DataOptions(ignore=255))
    model = build_seeded(Recipe(spec=_UNET))
    epochs = train(model, data, TrainSpec(epochs=1, batch_size=BATCH, augment="shift"))
    model.save("net.keras")
    loaded = keras.saving.load_model("net.keras")  # names no class of ours
    scores = evaluate(loaded, data, "test")
    outputs = model.predict(arrays["x_test"][..., None], verbose=0)
    losses = []
    for name, step in (("head", 1), ("head2", 2)):
        masks = arrays["y_test"][:, step // 2 :: step, step // 2 :: step]
        there = masks != 255
        known, shares = masks[there], outputs[name][there].astype("float64")
        shares /= shares.sum(-1, keepdims=True)
        losses.append(log_loss(known, shares, labels=[0, 1, 2]))
        if name == "head":
            accuracy = (shares.argmax(-1) == known).mean()
    assert scores["loss"] == pytest.approx(np.mean(losses), abs=1e-4)
    assert scores["accuracy"] == pytest.approx(accuracy, abs=1e-5)
    for metric, value in scores.items():
        assert epochs[-1].metrics[f"val_{metric}"] == pytest.approx(value, abs=1e-4)


def test_without_ignored_pixels_and_weights_all_is_stock() -> None:
    arrays = masked()
    arrays = {key: np.where(array == 255, 0, array) for key, array in arrays.items()}
    model = build_seeded(Recipe(spec=_UNET))
    targets = Targets(model, from_arrays(arrays, options=DataOptions(ignore=255)))
    (tally,) = targets.metrics()["head"]  # no loss besides the trained one
    assert isinstance(tally, Tally)
    assert {type(each).__module__.split(".")[0] for each in targets.losses().values()} == {"keras"}


def labeled() -> ImageData:
    random, arrays = np.random.default_rng(5), {}
    for split, labels in (("train", [0] * 14 + [1] * 4 + [2] * 2), ("val", [0, 1, 2] * 4)):
        y = random.permutation(labels)
        x = random.normal(size=(len(y), 8, 8)) + 0.5 * y[:, None, None]
        arrays |= {f"x_{split}": x.astype("float32"), f"y_{split}": y}
    return from_arrays(arrays)


@pytest.mark.parametrize("activation", ["softmax", "none"])
def test_balanced_labels_train_as_keras_class_weight_does(activation: str) -> None:
    data = labeled()
    y = data.tensors("train")[1].numpy()
    weights = compute_class_weight("balanced", classes=np.arange(3), y=y)
    spec = small(head=Classifier(classes=3, activation=activation))
    nets = [build_seeded(Recipe(spec=spec)) for _ in range(3)]
    train_set = Targets(nets[2], data).prepared(data.split("train")).batch(BATCH)
    val_set = Targets(nets[2], data).prepared(data.split("val")).batch(BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation == "none")
    plain = keras.metrics.SparseCategoricalCrossentropy(
        from_logits=activation == "none", name="plain"
    )
    nets[2].compile(sgd(), loss=loss, metrics=["accuracy", plain])
    logs = [
        nets[2].fit(train_set, shuffle=False, verbose=0, class_weight=dict(enumerate(weights)))
        for _ in range(2)
    ]
    wanted = [
        [{"accuracy": log.history["accuracy"][0], "loss": log.history["plain"][0]} for log in logs],
        [
            nets[2].evaluate(val_set, verbose=0, return_dict=True)[name]
            for name in ("accuracy", "loss")
        ],
        weights_of(nets[2]),
    ]
    targets = lambda net: Targets(net, data, class_weights=tuple(weights.tolist()))  # noqa: E731
    for trainer, net in trainers(nets[0], nets[1], targets, sgd):
        logs = [trainer.epoch(train_set, np.full(3, 0.05)) for _ in range(2)]
        scores = trainer.evaluate(val_set)
        logs = [{name: log[name] for name in ("accuracy", "loss")} for log in logs]
        found = [logs, [scores["accuracy"], scores["loss"]], weights_of(net)]
        assert_close(found, wanted)


def test_the_spec_asks_for_weights_and_they_are_of_the_training_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = from_arrays(masked(), options=DataOptions(ignore=255))
    masks = data.tensors("train")[1].numpy()
    counts = tuple(np.bincount(masks[masks >= 0]).tolist())
    assert data.class_counts() == counts
    monkeypatch.setattr("reskeras.data.images.CACHE_BYTES", 0)  # read, not kept
    assert from_arrays(masked(), options=DataOptions(ignore=255)).class_counts() == counts
    monkeypatch.undo()
    monkeypatch.setattr("reskeras.data.images._COUNTED", 6)
    some = data.tensors("train")[1].numpy()[data.sample(6)]
    few = from_arrays(masked(), options=DataOptions(ignore=255)).class_counts()
    assert few == tuple(np.bincount(some[some >= 0], minlength=3).tolist()) != counts
    data, losses = labeled(), []
    assert data.class_counts() == (14, 4, 2)
    for how in ("none", "balanced"):
        net = build_seeded(Recipe(spec=small()))
        spec = TrainSpec(epochs=1, batch_size=BATCH, class_weight=how)
        losses.append(train(net, data, spec)[-1].metrics["val_loss"])
        shares = net.predict(data.tensors("val")[0], verbose=0).astype("float64")
        shares /= shares.sum(-1, keepdims=True)
        labels = data.tensors("val")[1].numpy()
        assert losses[-1] == pytest.approx(log_loss(labels, shares, labels=[0, 1, 2]), abs=1e-4)
    assert losses[0] != losses[1]


DEVICES = """
import json, sys
from pathlib import Path
import numpy as np
import reskeras
from reskeras.data import load, DataOptions
from reskeras.spec import Level, PlainBlock, Recipe, Segmenter, TrainSpec, UNet
from reskeras.training.train import Training, build_seeded
from tuning.running.devices import replicas, strategy_scope
from tuning.settings import Strategy

data = load(sys.argv[1], options=DataOptions(ignore=255))
net = UNet(
    input_shape=(8, 8, 1), block=PlainBlock(), norm={"kind": "none"},
    stages=[Level(width=4)] * 3, head=Segmenter(classes=3), deep_supervision=True,
)
found = [replicas(Strategy.MIRRORED)]
for strategy in (Strategy.NONE, Strategy.MIRRORED):
    how = TrainSpec(
        epochs=2, batch_size=int(sys.argv[2]), optimizer="sgd", learning_rate=0.05,
        class_weight="balanced",
    )
    with strategy_scope(strategy, how):
        training = Training(build_seeded(Recipe(spec=net, train=how)), data, how)
    found.append([dict(training.run_epoch().metrics) for _ in range(2)])
Path("found.json").write_text(json.dumps(found))
"""
TWO = """
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
"""


@pytest.mark.parametrize(("backend", "batch"), [("tensorflow", 7), ("tensorflow", 19), ("jax", 8)])
def test_two_devices_score_as_one(backend: str, batch: int, tmp_path: Path) -> None:
    """20 images: 7 and 19 leave one for a device, or for one of two."""
    pytest.importorskip(backend)
    np.savez(tmp_path / "masks.npz", **masked())
    script = (TWO if backend == "tensorflow" else "") + DEVICES
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", script, "./masks.npz", str(batch)],
        env=os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, one, two = json.loads((tmp_path / "found.json").read_text())
    assert count == 2
    for alone, shared in zip(one, two, strict=True):
        for name, value in alone.items():
            assert shared[name] == pytest.approx(value, abs=1e-4), name


def test_the_example_of_a_target_is_known_to_losses() -> None:
    """Fitted training builds its losses and metrics with it."""
    data = from_arrays(masked(), options=DataOptions(ignore=255))
    targets = Targets(build_seeded(Recipe(spec=HEADS["sigmoids"])), data)
    target, output = targets.example()
    assert float(targets.losses()["head"](tf.constant(target), output)) > 0


@pytest.mark.parametrize("kept", ["auto", "none"])
def test_shifted_masks_have_no_class_where_their_image_has_no_pixels(kept: str) -> None:
    """However images are read; a batch holds what shifting has moved in as -1."""
    arrays = masked()
    for key in ("y_train", "y_val"):
        arrays[key][:] = 2
        arrays[key][:, 3, 3] = 255
    arrays["y_train"][0] = np.arange(64).reshape(8, 8) % 3  # all classes
    data = from_arrays(arrays, options=DataOptions(ignore=255))
    data = dataclasses.replace(data, options=DataOptions(cache=Cache(kept)))
    feed = Feed(Targets(build_seeded(Recipe(spec=HEADS["logits"])), data))
    moved = 0
    for images, masks in feed.training(TrainSpec(batch_size=BATCH, augment="shift"), 1):
        empty = images.numpy()[..., 0] == 0
        assert (masks.numpy()[empty] == -1).all()
        moved += empty.sum()
    assert moved > 0
