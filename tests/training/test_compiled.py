"""Training in compiled calls must be Keras' own `fit`, but for float rounding; what networks share
must not show in results."""

import dataclasses
import functools
import gc
import json
import math
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import small

import reskeras
from reskeras.data import from_arrays
from reskeras.data.images import ImageData
from reskeras.models.recalibration import freeze
from reskeras.spec import (
    BasicBlock,
    BatchNorm,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Level,
    Recipe,
    ResNet,
    Segmenter,
    Stage,
    StopEarly,
    TrainSpec,
    UNet,
)
from reskeras.tasks import task_called
from reskeras.training.compiled import CompiledTrainer, Programs, compilable
from reskeras.training.feed import Feed
from reskeras.training.fitted import FittedTrainer
from reskeras.training.optimizers import averages_of
from reskeras.training.schedules import make_schedule
from reskeras.training.state import Epoch
from reskeras.training.stopping import Stopping
from reskeras.training.targets import Targets
from reskeras.training.train import Training, build_seeded, evaluate, train

SHAPE = (8, 8, 1)
SIZE, BATCH = 20, 8  # the last batch is smaller
_PREACT = small(block=BottleneckBlock(), norm_order="full_preact")
_UNET = UNet(
    input_shape=SHAPE, block=BasicBlock(), stages=[Level(width=4)] * 2, head=Segmenter(classes=3)
)
SPECS: dict[str, Any] = {
    "resnet": small(shortcut="pad"),
    "preact_frozen": _PREACT,
    "dense_averages": DenseNet(
        input_shape=SHAPE,
        stem=CifarStem(width=8),
        norm=BatchNorm(momentum=0.99),
        block=DenseBlock(growth_rate=4, compression=0.5),
        stages=(DenseStage(blocks=2), DenseStage(blocks=1)),
        head=Classifier(classes=3),
    ),
    "dropout": small(dropout=0.3, drop_path_rate=0.3, norm_order="full_preact"),
    "logits": small(head=Classifier(classes=3, activation="none"), norm={"kind": "none"}),
    "sigmoids": small(head=Classifier(classes=3, activation="sigmoid")),
    "flat": ResNet(
        input_shape=(64,), stem={"kind": "linear", "width": 8}, block=BasicBlock(),
        stages=(Stage(blocks=2, width=8),), head=Classifier(classes=3),
    ),
    "unet_deep": dataclasses.replace(_UNET, deep_supervision=True, stages=[Level(width=4)] * 3),
    "unet_mask": dataclasses.replace(_UNET, head=Segmenter(classes=1, activation="sigmoid")),
    "unet_logits": dataclasses.replace(_UNET, head=Segmenter(classes=3, activation="none")),
}  # fmt: skip


def image_data(masks: bool = False, classes: int = 3, size: int = SIZE) -> ImageData:
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for split, n in (("train", size), ("val", 13)):
        y = (
            np.arange(n * 64).reshape(n, 8, 8) // 5 + np.arange(n)[:, None, None]
            if masks
            else np.arange(n)
        ) % classes
        wide = y if masks else y[:, None, None]
        arrays |= {
            f"x_{split}": (random.normal(size=(n, 8, 8)) + 0.3 * wide)[..., None].astype("float32"),
            f"y_{split}": y,
        }
    return from_arrays(arrays)


def network(name: str, seed: int = 7) -> Any:
    model = build_seeded(Recipe(spec=SPECS[name], train=TrainSpec(seed=seed)))
    if name == "preact_frozen":
        freeze(model, "stage1_block1_*")
        model.get_layer("stage1_block1_norm2").moving_mean.assign_add([0.1, -0.1])
    return model


def stock(name: str) -> dict[str, Any]:
    """What a person who knows the network gives to `compile`."""
    sparse = keras.losses.SparseCategoricalCrossentropy
    match name:
        case "logits":
            return {"loss": sparse(from_logits=True), "metrics": ["accuracy"]}
        case "sigmoids":
            return {
                "loss": "binary_crossentropy",
                "metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")],
            }
        case "unet_mask":
            iou = keras.metrics.BinaryIoU(name="mean_iou", threshold=0.5)
            return {
                "loss": "binary_crossentropy",
                "metrics": [keras.metrics.BinaryAccuracy(name="accuracy"), iou],
            }
        case "unet_logits":
            metrics = ["accuracy", keras.metrics.MeanIoU(3, sparse_y_pred=False, name="mean_iou")]
            return {"loss": sparse(from_logits=True), "metrics": metrics}
        case "unet_deep":
            heads = ("head", "head2")
            metrics = ["accuracy", keras.metrics.MeanIoU(3, sparse_y_pred=False, name="mean_iou")]
            return {
                "loss": {h: sparse() for h in heads},
                "loss_weights": dict.fromkeys(heads, 1 / 2),
                "metrics": {"head": metrics},
            }
    return {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}


def batches(name: str, data: ImageData, split: str) -> Any:
    """A split as the network wants it, made by hand."""
    x, y = (part.numpy() for part in data.tensors(split))
    match name:
        case "flat":
            x = x.reshape(len(x), 64)
        case "sigmoids":
            y = np.eye(3, dtype="float32")[y]
        case "unet_mask":
            y = y[..., None].astype("float32")
        case "unet_deep":
            y = {"head": y, "head2": y[:, 1::2, 1::2]}
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


def adam(**options: Any) -> Any:
    # A larger epsilon, so that the sign of a gradient that is zero but for rounding does not
    # decide.
    return _excluded(keras.optimizers.Adam(**{"learning_rate": 0.01, "epsilon": 1e-3} | options))


def sgd(**options: Any) -> Any:
    return _excluded(
        keras.optimizers.SGD(**{"learning_rate": 0.03, "momentum": 0.9, "nesterov": True} | options)
    )


def other(kind: Any, **options: Any) -> Any:
    return _excluded(kind(**{"learning_rate": 0.01} | options))


def _excluded(optimizer: Any) -> Any:
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def state(model: Any, optimizer: Any) -> dict[str, Any]:
    variables = {
        f"{n} {v.path.rpartition(chr(47))[2]}": v
        for n, v in enumerate((*model.variables, *optimizer.variables))
    }
    return {path: keras.ops.convert_to_numpy(variable) for path, variable in variables.items()}


def assert_close(found: Any, wanted: Any, tolerance: float = 2e-5) -> None:
    assert keras.tree.map_structure(np.shape, found) == keras.tree.map_structure(np.shape, wanted)
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)


def assert_same(found: Any, wanted: Any) -> None:
    assert_close(found, wanted, tolerance=0)


def scores(logs: dict[str, float]) -> dict[str, float]:
    return {
        name.removeprefix("head_"): value
        for name, value in logs.items()
        if not name.endswith("_loss")
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.main_path] * (name in ("resnet", "unet_deep")))
        for name in SPECS
    ],
)
def test_two_epochs_recalibration_and_scores_equal_keras(name: str) -> None:
    masks = name.startswith("unet")
    data = image_data(masks, classes=2 if name == "unet_mask" else 3)
    training, validation = batches(name, data, "train"), batches(name, data, "val")
    results = []
    for compiled in (True, False):
        model, optimizer = network(name), sgd()
        start = [np.array(weight.numpy()) for weight in model.weights]
        if compiled:
            assert compilable(model, optimizer)
            run = CompiledTrainer(
                model, Targets(model, data), optimizer, recompute=False, programs=Programs()
            )
            logs = [run.epoch(training, np.full(3, 0.03)) for _ in range(2)]
        else:
            model.compile(optimizer, **stock(name))
            logs = [
                scores(dict(model.fit(training, shuffle=False, verbose=0).history))
                for _ in range(2)
            ]
            logs = [{key: values[-1] for key, values in epoch.items()} for epoch in logs]
        trained = state(model, optimizer)
        still = {
            w.path
            for w, old in zip(model.weights, start, strict=True)
            if np.array_equal(w.numpy(), old)
        }
        assert still == {
            w.path
            for w in model.weights
            if name == "preact_frozen" and w.path.startswith("stage1_block1_")
        }
        lagging = (
            run.evaluate(validation)
            if compiled
            else scores(model.evaluate(validation, verbose=0, return_dict=True))
        )
        images = training.map(lambda image, _: image)
        if compiled:
            run.recalibrate(images)
            exact = run.evaluate(validation)
        else:
            reskeras.models.recalibration.recalibrate_over(model, images)
            exact = scores(model.evaluate(validation, verbose=0, return_dict=True))
        # Ours has more scores than Keras has metrics. Keras' BinaryIoU takes an answer of exactly
        # 0.5, which dead activations give, as class 1; its BinaryAccuracy and ours as class 0.
        overlaps = {"mean_iou"} if masks and name != "unet_mask" else set()
        names = {"loss", "accuracy", *overlaps}
        logs, (lagging, exact) = (
            [{name: found[name] for name in names} for found in several]
            for several in (logs, (lagging, exact))
        )
        results.append([logs, trained, lagging, exact, state(model, optimizer)])
    assert int(optimizer.iterations) == 6
    assert_close(*results)


@pytest.mark.parametrize(
    ("make", "rates"),
    [
        (functools.partial(sgd, momentum=0.0, nesterov=False), [0.03] * 6),
        (functools.partial(sgd, weight_decay=0.3), [0.03] * 6),
        (adam, [0.01] * 6),
        (functools.partial(adam, weight_decay=0.3), [0.01] * 6),
        (
            lambda: adam(
                learning_rate=keras.optimizers.schedules.CosineDecay(0.02, 6), weight_decay=0.3
            ),
            [0.01 * (1 + math.cos(math.pi * step / 6)) for step in range(6)],
        ),
        (functools.partial(other, keras.optimizers.RMSprop, weight_decay=0.3), [0.01] * 6),
        (functools.partial(other, keras.optimizers.Lion, weight_decay=0.3), [0.01] * 6),
        # Averaged, and three steps in six batches: the second spans two epochs.
        (
            lambda: sgd(
                learning_rate=keras.optimizers.schedules.CosineDecay(0.02, 6),
                weight_decay=0.3,
                gradient_accumulation_steps=2,
                use_ema=True,
                ema_momentum=0.6,
            ),
            [0.01 * (1 + math.cos(math.pi * step / 6)) for step in range(6)],
        ),
    ],
    ids=[
        "sgd",
        "nesterov_decay",
        "adam",
        "adam_decay",
        "adam_decay_cosine",
        "rmsprop",
        "lion",
        "accumulated_averaged",
    ],
)
def test_optimizers_and_rates_equal_keras(make: Callable[[], Any], rates: list[float]) -> None:
    data = image_data()
    training = batches("logits", data, "train")
    results = []
    for compiled in (True, False):
        model, optimizer = network("logits"), make()
        for variable in model.trainable_variables:
            if variable.name == "bias":
                # So that decay would show
                variable.assign_add(np.full(variable.shape, 0.5, "float32"))
        if compiled:
            assert compilable(model, optimizer)
            run = CompiledTrainer(
                model, Targets(model, data), optimizer, recompute=False, programs=Programs()
            )
            losses = [
                run.epoch(training, np.array(some))["loss"] for some in (rates[:3], rates[3:])
            ]
            optimizer.finalize_variable_values(model.trainable_variables)  # as `fit` does
        else:
            model.compile(optimizer, **stock("logits"))
            losses = model.fit(training, epochs=2, shuffle=False, verbose=0).history["loss"]
        results.append([losses, state(model, optimizer)])
    assert_close(*results)


def test_an_l2_penalty_trains_as_regularizers_of_keras() -> None:
    data = image_data()
    training, results = batches("logits", data, "train"), []
    for compiled in (True, False):
        model, optimizer = network("logits"), sgd(global_clipnorm=0.5)
        if compiled:
            run = CompiledTrainer(
                model,
                Targets(model, data),
                optimizer,
                penalty=0.1,
                recompute=False,
                programs=Programs(),
            )
            run.epoch(training, np.full(3, 0.03))
        else:
            for variable in model.trainable_variables:
                if variable.name == "kernel":
                    variable.regularizer = keras.regularizers.L2(0.05)
            model.compile(optimizer, **stock("logits"))
            model.fit(training, shuffle=False, verbose=0)
        results.append(state(model, optimizer))
    assert_close(*results)


EVERYTHING = TrainSpec(
    epochs=4,
    batch_size=BATCH,
    optimizer="sgd",
    learning_rate=0.03,
    schedule="one_cycle",
    warmup=0.5,
    weight_decay=0.01,
    weight_decay_kind="l2",
    ema=0.8,
    clip_norm=1.0,
    accumulate=2,
    stop_early={"patience": 3},
)


SHARED = Programs()


def training_of(spec: TrainSpec, *, seed: int = 7, first_epoch: int = 0) -> Training:
    model = network("flat", seed)
    return Training(model, image_data(), spec, first_epoch=first_epoch, programs=SHARED)


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reskeras.training.compiled.compilable", lambda *_: False)


def test_both_trainers_do_all_that_a_spec_asks_for(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    results = []
    for kind in (CompiledTrainer, FittedTrainer):
        if kind is FittedTrainer:
            request.getfixturevalue("no_compiling")
        training = training_of(EVERYTHING)
        assert isinstance(training._trainer, kind)
        training.run_epoch()
        training.save(tmp_path / "state")
        while training.epoch < 3:
            training.run_epoch()
        whole = [dict(epoch.metrics) for epoch in training.epochs]
        wanted = state(training.model, training._trainer.optimizer)
        assert training.restore(tmp_path / "state")
        while training.epoch < 3:
            training.run_epoch()
        assert_same([dict(epoch.metrics) for epoch in training.epochs], whole)
        assert_same(state(training.model, training._trainer.optimizer), wanted)
        results.append([whole, wanted])
        training.finish()
        training.model.save(tmp_path / f"{kind.__name__}.keras")
    assert_close(*results)
    # What is saved are the averages, with an optimizer that Keras alone can load.
    for kind in (CompiledTrainer, FittedTrainer):
        saved = keras.saving.load_model(tmp_path / f"{kind.__name__}.keras")
        optimizer = saved.optimizer
        assert type(optimizer) is keras.optimizers.SGD
        assert float(optimizer.learning_rate) == pytest.approx(0.03)
        assert int(optimizer._iterations) == 9
        for variable, average in averages_of(optimizer):
            np.testing.assert_array_equal(variable, average)


def test_the_average_weights_are_what_is_scored_and_kept() -> None:
    """By hand: the plain training's weights after each of its batches, averaged."""
    options = {"epochs": 2, "batch_size": 32, "schedule": "constant", "optimizer": "sgd"}
    plain, averaged = (training_of(TrainSpec(ema=ema, **options)) for ema in (0.0, 0.75))
    weights = []
    for training in (plain, averaged):
        for _ in range(2):  # epochs of a single batch
            training.run_epoch()
            weights.append([np.array(w) for w in training.model.trainable_variables])
    assert_close(weights[2], weights[0])
    mean = [0.75 * one + 0.25 * two for one, two in zip(*weights[:2], strict=True)]
    assert_close(weights[3], mean)
    scored = dict(averaged.epochs[-1].metrics)
    averaged.finish()
    assert evaluate(averaged.model, image_data(), "val")["loss"] == pytest.approx(
        scored["val_loss"], rel=1e-5
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_a_promoted_training_has_the_rates_of_its_epochs(
    compiled: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As one in one go, though the optimizer counts from the start of its ancestor."""
    if not compiled:
        request.getfixturevalue("no_compiling")
    spec = TrainSpec(
        epochs=3, batch_size=BATCH, learning_rate=0.03, optimizer="sgd", schedule="linear"
    )
    whole = training_of(spec)
    whole.run_epoch()
    whole.save(tmp_path / "state")
    whole.run_epoch()
    for _ in range(2):  # the second resumes the first
        promoted = training_of(spec, first_epoch=1)
        assert promoted.restore(tmp_path / "state")
        while promoted.epoch < 2:
            promoted.run_epoch()
            promoted.save(tmp_path / "state")
        assert_same(
            state(promoted.model, promoted._trainer.optimizer),
            state(whole.model, whole._trainer.optimizer),
        )
    # Without a state, the optimizer starts over but not the rates.
    fresh = training_of(spec, first_epoch=2)
    np.testing.assert_allclose(fresh._rates(3), np.array([3, 2, 1]) * 0.03 / 9, rtol=1e-5)
    assert train(network("logits"), image_data(), spec, first_epoch=3) == []


def epochs_of(*losses: float) -> list[Epoch]:
    return [
        Epoch(number=number, metrics={"val_loss": loss, "val_accuracy": -loss}, seconds=0.0)
        for number, loss in enumerate(losses, 1)
    ]


def test_stopping_by_hand() -> None:
    for metric in ("val_loss", "val_accuracy"):
        stopping = Stopping(StopEarly(metric=metric, patience=2), task_called("classification"))
        epochs = epochs_of(3, 1, 2, 1)
        assert [stopping.best(epochs[:n]).number for n in (1, 2, 3, 4)] == [1, 2, 2, 2]
        assert [stopping.ends(epochs[:n]) for n in (1, 2, 3, 4)] == [False, False, False, True]
    assert (
        Stopping(StopEarly(), task_called("classification")).best(epochs_of(math.nan, 5)).number
        == 2
    )
    with pytest.raises(reskeras.RequestError) as error:
        Stopping(StopEarly(metric="val_acuracy"), task_called("classification"))
    assert str(error.value).startswith(
        "train.stop_early.metric: classification does not report 'val_acuracy'; did you mean "
        "'val_accuracy'? known: val_accuracy, val_loss"
    )


@pytest.mark.parametrize("keep_best", [True, False])
def test_a_training_that_gets_worse_ends_and_keeps_its_best(
    keep_best: bool, tmp_path: Path
) -> None:
    data, programs = image_data(), Programs()
    x, y = (part[: data.sizes["val"]] for part in data.tensors("train"))
    data._tensors["val"] = x, (y + 1) % 3  # all it learns is wrong
    spec = TrainSpec(
        epochs=9,
        batch_size=BATCH,
        learning_rate=1e-2,
        stop_early={"patience": 2, "keep_best": keep_best},
    )
    trainings = [Training(network("logits"), data, spec, programs=programs) for _ in range(2)]
    model = trainings[0].model
    losses, snapshots = [], []
    while not trainings[0].ended:
        losses.append(trainings[0].run_epoch().metrics["val_loss"])
        snapshots.append(model.get_weights())
        trainings[0].save(tmp_path / "state")
    best = int(np.argmin(losses))
    assert best == len(losses) - 3 < 6
    # Its state, too, says that it ended, and has the best weights.
    assert trainings[1].restore(tmp_path / "state")
    for training in trainings:
        assert training.ended
        last = training.epochs[-1]
        assert last.scores["val_loss"] == losses[best if keep_best else -1]
        training.finish()
        assert_same(training.model.get_weights(), snapshots[best if keep_best else -1])
    if keep_best:
        assert len(train(network("logits"), data, spec)) == len(losses)
    # A promoted trial goes on at its own first epoch, with patience of its own.
    promoted = Training(network("logits"), data, spec, first_epoch=8, programs=programs)
    assert promoted.restore(tmp_path / "state")
    assert not promoted.ended
    assert [promoted.run_epoch().number, promoted.ended] == [9, False]
    wanted = make_schedule(spec, 27)(np.arange(24, 27))
    np.testing.assert_allclose(promoted._rates(9), wanted, rtol=1e-5)


def run_of(
    model: Any,
    optimizer: Any,
    programs: Programs,
    data: ImageData | None = None,
    recompute: bool = False,
) -> CompiledTrainer:
    return CompiledTrainer(
        model,
        Targets(model, data or image_data()),
        optimizer,
        recompute=recompute,
        programs=programs,
    )


def test_networks_that_share_programs_train_as_each_alone() -> None:
    data, shared = image_data(), Programs()
    results: dict[bool, list[Any]] = {True: [], False: []}
    for seed, rate, batch in ((1, 0.03, 8), (2, 0.1, 8), (3, 0.03, 6)):
        for sharing in (True, False):
            spec = TrainSpec(
                seed=seed, learning_rate=rate, batch_size=batch, epochs=1, optimizer="sgd"
            )
            model = network("resnet", seed)
            training = Training(model, data, spec, programs=shared if sharing else None)
            epoch = training.run_epoch()
            results[sharing].append(
                [dict(epoch.metrics), state(model, training._trainer.optimizer)]
            )
    assert_same(results[True], results[False])
    (program,) = shared.compiled.values()
    assert program.epoch.experimental_get_tracing_count() == 1
    assert len(shared.feeds) == 1


def test_networks_that_differ_in_anything_that_matters_share_no_program() -> None:
    base, programs = SPECS["resnet"], Programs()

    def program(
        spec: Any = base,
        optimizer: Any = None,
        data: ImageData | None = None,
        frozen: str = "",
        **options: Any,
    ) -> Any:
        model = reskeras.build(spec)
        if frozen:
            freeze(model, frozen)
        return run_of(model, optimizer or sgd(), programs, data, **options)._program

    first = program()
    assert program() is first
    assert program(dataclasses.replace(base, init="glorot_normal"), sgd(learning_rate=0.5)) is first
    others = [
        program(dataclasses.replace(base, activation="gelu")),
        program(dataclasses.replace(base, norm=BatchNorm(momentum=0.7))),
        program(dataclasses.replace(base, norm=BatchNorm(epsilon=0.1))),
        program(dataclasses.replace(base, head=Classifier(classes=3, activation="none"))),
        program(dataclasses.replace(base, head=Classifier(classes=3, activation="sigmoid"))),
        program(dataclasses.replace(base, stages=(Stage(blocks=3, width=8), *base.stages[1:]))),
        program(frozen="stage1_*"),
        program(frozen="*norm*"),
        program(recompute=True),
        program(optimizer=sgd(weight_decay=0.1)),
        program(optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
        program(optimizer=sgd(nesterov=False)),
        program(optimizer=sgd(momentum=0.5)),
        program(optimizer=adam()),
        program(optimizer=adam(beta_2=0.5)),
    ]
    assert len({id(one) for one in (first, *others)}) == 1 + len(others) == len(programs.compiled)


def test_depths_of_a_family_share_the_traces_of_their_blocks() -> None:
    data, programs = image_data(), Programs()
    traces = []
    for blocks in (3, 4):
        spec = dataclasses.replace(
            SPECS["resnet"], stages=(Stage(blocks=blocks, width=8), SPECS["resnet"].stages[1])
        )
        Training(
            reskeras.build(spec), data, TrainSpec(batch_size=BATCH), programs=programs
        ).run_epoch()
        traces.append(
            [function.experimental_get_tracing_count() for function in programs.functions.values()]
        )
    assert traces[0] == traces[1]
    assert len(programs.compiled) == 2


def test_programs_keep_no_network_longer_than_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs()
    model, optimizer = network("flat"), adam()
    training = Training(model, image_data(), TrainSpec(batch_size=BATCH), programs=programs)
    training.run_epoch()
    training.finish()
    gone = [
        weakref.ref(model),
        weakref.ref(training._trainer.optimizer),
        weakref.ref(training._trainer),
    ]
    del model, optimizer, training
    gc.collect()
    assert [reference() for reference in gone] == [None, None, None]
    monkeypatch.setattr("reskeras.training.compiled._KEPT_BYTES", 0)
    run_of(network("logits"), sgd(), programs)
    assert len(programs.compiled) == 1


@pytest.fixture(params=["in memory", "streamed"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ImageData:
    if request.param == "streamed":
        monkeypatch.setattr("reskeras.data.images.CACHE_BYTES", 0)
    return image_data()


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_paused_training_goes_on_to_the_last_bit(
    source: ImageData, precision: Any, tmp_path: Path
) -> None:
    spec = TrainSpec(
        epochs=3, batch_size=BATCH, augment="shift", precision=precision, learning_rate=1e-3
    )
    results, path = [], tmp_path / "state"
    for seed, paused in ((0, False), (1, True)):
        model = build_seeded(
            Recipe(spec=SPECS["dropout"], train=dataclasses.replace(spec, seed=seed))
        )
        training = Training(model, source, spec)
        assert isinstance(
            training._trainer, CompiledTrainer if precision == "float32" else FittedTrainer
        )
        if paused:
            assert training.restore(path)
        else:
            training.run_epoch()
            training.save(path)
        training.run_epoch()
        assert [epoch.number for epoch in training.epochs] == [1, 2]
        results.append(
            [
                [dict(epoch.metrics) for epoch in training.epochs],
                state(model, training._trainer.optimizer),
            ]
        )
    assert_same(*results)
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_that_cannot_be_read_or_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    data, spec, path = image_data(), TrainSpec(epochs=3, batch_size=BATCH), tmp_path / "state"

    def training(name: str = "flat", **options: Any) -> Training:
        first = options.pop("first_epoch", 0)
        return Training(
            network(name), data, dataclasses.replace(spec, **options), first_epoch=first
        )

    one = training()
    one.run_epoch()
    one.save(path)
    good = path.read_bytes()
    random = np.random.default_rng(0)
    damaged = [
        good[:length]
        for length in {*range(100), *random.integers(len(good), size=100), len(good) - 1}
    ]
    for place in {*range(60), *random.integers(len(good), size=100), len(good) - 1}:
        damaged.append(
            good[:place] + bytes([good[place] ^ 1 << int(random.integers(8))]) + good[place + 1 :]
        )
    damaged += [good + b"x", b"x" + good, b"not a state"]
    before = state(one.model, one._trainer.optimizer)
    for content in damaged:
        path.write_bytes(content)
        assert not one.restore(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    assert not one.restore(path)
    with open(path, "wb") as file:
        np.savez(file, epoch=np.array(1))
    assert not one.restore(path)
    assert not one.restore(tmp_path)
    assert not one.restore(tmp_path / "nowhere")
    for other in (training("logits"), training(optimizer="sgd"), training(first_epoch=1)):
        other.save(path)
        assert not one.restore(path)
    assert_same(state(one.model, one._trainer.optimizer), before)
    assert (one.epoch, len(one.epochs)) == (1, 1)
    path.write_bytes(good)
    assert training().restore(path)


def order(feed: Feed, epoch: int, **spec: Any) -> list[int]:
    """Images by their only pixel."""
    batches = feed.training(TrainSpec(batch_size=BATCH, **spec), epoch)
    return [int(value) + SIZE for images, _ in batches for value in np.ravel(images)]


@pytest.mark.parametrize("augment", ["none", "shift_flip"])
def test_an_epochs_order_follows_from_seed_and_number(
    augment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Below zero, so that nothing is scaled.
    x, y = np.arange(SIZE, dtype="float32").reshape(SIZE, 1, 1) - SIZE, np.arange(SIZE) % 2
    data = from_arrays({"x_train": x, "y_train": y, "x_val": x, "y_val": y})
    image = keras.Input((1, 1, 1))
    targets = Targets(
        keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.Flatten()(image))), data
    )
    orders = {}
    for streamed in (False, True):
        if streamed:
            monkeypatch.setattr("reskeras.data.images.CACHE_BYTES", 0)
        feed = Feed(targets)
        orders[streamed] = [
            order(feed, epoch, seed=seed, augment=augment)
            for seed, epoch in ((0, 1), (0, 2), (1, 1))
        ]
        assert all(sorted(one) == list(range(SIZE)) for one in orders[streamed])
        assert len(set(map(tuple, orders[streamed]))) == 3
        # Whatever came before
        assert order(Feed(targets), 2, augment=augment) == orders[streamed][1]
        assert order(feed, 1, augment=augment) == orders[streamed][0]
        pairs = [
            (int(i) + SIZE, int(label))
            for images, labels in feed.training(TrainSpec(augment=augment), 1)
            for i, label in zip(np.ravel(images), labels, strict=True)
        ]
        assert all(label == i % 2 for i, label in pairs)
        begun = iter(feed.training(TrainSpec(batch_size=BATCH, augment=augment), 1))
        taken = [np.ravel(next(begun)[0])]
        assert order(feed, 2, augment=augment) == orders[streamed][1]
        assert (
            list(np.concatenate([*taken, *(np.ravel(images) for images, _ in begun)]) + SIZE)
            == orders[streamed][0]
        )
    assert orders[True] == orders[False]
    assert order(Feed(targets, shared=True), 1, augment=augment) == orders[True][0]
    monkeypatch.undo()
    assert order(Feed(targets, shared=True), 1, augment=augment) == orders[False][0]


def test_alternating_trainings_do_not_disturb_each_other() -> None:
    data, programs = image_data(), Programs()
    specs = [
        TrainSpec(epochs=2, batch_size=6, seed=1, augment="shift"),
        TrainSpec(epochs=2, batch_size=8, seed=2),
    ]
    alone = [Training(network("flat"), data, spec, programs=Programs()) for spec in specs]
    together = [Training(network("flat"), data, spec, programs=programs) for spec in specs]
    for training in (alone[0], alone[0], alone[1], alone[1], *together, *together):
        training.run_epoch()
    for one, other in zip(alone, together, strict=True):
        assert_same(
            state(other.model, other._trainer.optimizer), state(one.model, one._trainer.optimizer)
        )
        assert_same(
            [dict(epoch.metrics) for epoch in other.epochs],
            [dict(epoch.metrics) for epoch in one.epochs],
        )


@pytest.mark.parametrize("steps", [1, 5])
def test_a_loss_that_is_not_finite_ends_the_epoch_at_once(steps: int) -> None:
    x = np.zeros((40, 64), "float32")
    x[20] = np.nan  # in the third of five batches
    model, optimizer = network("flat"), sgd()
    run = run_of(model, optimizer, Programs())
    run._program.steps = steps
    logs = run.epoch(
        tf.data.Dataset.from_tensor_slices((x, np.arange(40) % 3)).batch(8), np.full(5, 0.1)
    )
    assert math.isnan(logs["loss"])
    assert int(optimizer.iterations) == 3


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_training_whose_loss_is_not_finite_raises(precision: Any) -> None:
    data = image_data()
    images, labels = data.tensors("train")
    data._tensors["train"] = images * np.nan, labels
    recipe = Recipe(spec=SPECS["flat"], train=TrainSpec(batch_size=BATCH, precision=precision))
    training = Training(build_seeded(recipe), data, recipe.train)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        training.run_epoch()
    assert training.epoch == 0


def test_what_is_saved_is_plain_keras(tmp_path: Path) -> None:
    model = network("resnet")
    train(model, image_data(), TrainSpec(epochs=1, batch_size=BATCH))
    model.save(tmp_path / "net.keras")
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype("float32")
    saved = {f"v{n}": value for n, value in enumerate(state(model, model.optimizer).values())}
    np.savez(tmp_path / "wanted.npz", x=x, y=model.predict(x, verbose=0), **saved)
    code = """
import sys
import keras, numpy as np
model, wanted = keras.saving.load_model("net.keras"), np.load("wanted.npz")
assert not any(name.startswith("reskeras") for name in sys.modules)
assert type(model) is keras.Model or type(model).__name__ == "Functional", type(model)
assert all(type(layer).__module__.startswith("keras.src.layers") for layer in model.layers)
variables = (*model.variables, *model.optimizer.variables)
variables = [keras.ops.convert_to_numpy(variable) for variable in variables]
assert len(variables) == len(wanted.files) - 2 and type(model.optimizer) is keras.optimizers.Adam
for number, variable in enumerate(variables):
    np.testing.assert_array_equal(variable, wanted[f"v{number}"])
np.testing.assert_allclose(model.predict(wanted["x"], verbose=0), wanted["y"], rtol=1e-6)
loss = float(model.fit(wanted["x"], np.zeros(4, int), verbose=0).history["loss"][0])
print(np.isfinite(loss), int(model.optimizer.iterations))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.split() == ["True", "4"], done.stderr


def test_bfloat16_trains_in_compiled_calls_with_heads_in_float32() -> None:
    recipe = Recipe(
        spec=SPECS["resnet"],
        train=TrainSpec(precision="mixed_bfloat16", epochs=3, batch_size=BATCH),
    )
    model = build_seeded(recipe)
    assert (model.output.dtype, model.get_layer("head").compute_dtype) == ("float32", "float32")
    assert model.get_layer("stage1_block1_conv1").compute_dtype == "bfloat16"
    training = Training(model, image_data(), recipe.train)
    assert isinstance(training._trainer, CompiledTrainer)
    losses = [training.run_epoch().metrics["loss"] for _ in range(3)]
    assert losses[-1] < losses[0]


def test_float16_is_fitted_with_a_scaled_loss(tmp_path: Path) -> None:
    recipe = Recipe(
        spec=SPECS["resnet"],
        train=TrainSpec(precision="mixed_float16", epochs=1, batch_size=BATCH),
    )
    model = build_seeded(recipe)
    training = Training(model, image_data(), recipe.train)
    assert isinstance(training._trainer, FittedTrainer)
    training.run_epoch()
    training.finish()
    assert type(model.optimizer) is keras.optimizers.LossScaleOptimizer
    assert type(model.optimizer.inner_optimizer) is keras.optimizers.Adam
    model.save(tmp_path / "net.keras")
    # Keras 3.15 does not read its own LossScaleOptimizer back ("6 variables whereas the saved
    # optimizer has 10").
    again = keras.saving.load_model(tmp_path / "net.keras", compile=False)
    assert_same(again.get_weights(), model.get_weights())


def test_what_compiled_training_would_not_do_as_keras_is_refused() -> None:
    def net(**options: Any) -> Any:
        x = image = keras.Input(SHAPE)
        for layer in options.pop("layers", ()):
            x = layer(x)
        return keras.Model(image, keras.layers.Dense(3, **options)(x))

    class Own(keras.Model):  # type: ignore[misc]
        def train_step(self, *args: Any) -> Any:
            raise NotImplementedError

    layers, optimizers, plain = keras.layers, keras.optimizers, net()
    assert compilable(plain, optimizers.SGD(0.1, momentum=0.5, nesterov=True, weight_decay=0.1))
    assert compilable(
        plain, optimizers.Adam(0.1, beta_1=0.5, beta_2=0.6, epsilon=1.0, weight_decay=0.1)
    )
    for optimizer in (
        optimizers.Adam(clipnorm=1.0), optimizers.Adam(clipvalue=1.0),
        optimizers.Adam(amsgrad=True), optimizers.RMSprop(centered=True),
        optimizers.RMSprop(momentum=0.9), optimizers.SGD(loss_scale_factor=2.0),
        optimizers.SGD(use_ema=True, ema_overwrite_frequency=2), optimizers.Adamax(),
    ):  # fmt: skip
        assert not compilable(plain, optimizer), optimizer.get_config()
    for model in (
        net(kernel_regularizer="l2"), net(activity_regularizer="l2"),
        net(kernel_constraint="non_neg"), net(dtype="mixed_float16"), net(dtype="float16"),
        net(layers=[layers.Activation("relu", dtype="mixed_float16")]),
        net(layers=[layers.BatchNormalization(momentum=1.0)]), Own(plain.input, plain.output),
        keras.Sequential([plain]),
    ):  # fmt: skip
        assert not compilable(model, optimizers.SGD()), model.name


def test_building_puts_the_precision_back(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(spec=SPECS["flat"], train=TrainSpec(precision="mixed_bfloat16", seed=3))
    before = keras.config.dtype_policy()
    one, other = build_seeded(recipe), build_seeded(recipe)
    assert keras.config.dtype_policy() == before
    assert_same(one.get_weights(), other.get_weights())

    def fails(spec: Any) -> None:
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise OSError("out of memory")

    monkeypatch.setattr("reskeras.training.train.build", fails)
    with pytest.raises(OSError, match="out of memory"):
        build_seeded(recipe)
    assert keras.config.dtype_policy() == before


def test_tensorflow_does_not_warn_of_retracing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    data, programs = image_data(), Programs()
    for width in range(4, 20, 2):
        spec = dataclasses.replace(
            SPECS["flat"],
            stem={"kind": "linear", "width": width},
            stages=(Stage(blocks=1, width=width),),
        )
        Training(
            reskeras.build(spec), data, TrainSpec(batch_size=BATCH), programs=programs
        ).run_epoch()
    assert len(programs.compiled) == 8
    assert [
        record.getMessage() for record in caplog.records if "retracing" in record.getMessage()
    ] == []


MIRRORED = """
import contextlib, json, sys
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
import keras, numpy as np
sys.path.insert(0, TESTS)
from nets import small
from reskeras.data import from_arrays
from reskeras.models.recalibration import recalibrate
from reskeras.spec import Recipe, TrainSpec
from reskeras.training.train import Training, build_seeded

strategy_of_two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
arrays = dict(np.load("data.npz"))
data = from_arrays(arrays)
told = {}
for norm in ("layer", "batch"):
    how = TrainSpec(
        epochs=2, batch_size=8, learning_rate=0.02, optimizer="sgd", weight_decay=0.1,
        weight_decay_kind="l2" if norm == "layer" else "decoupled",
        ema=0.8 if norm == "layer" else 0.0, augment="shift",
    )
    recipe = Recipe(spec=small(norm={"kind": norm}), train=how)
    results = []
    for strategy in (strategy_of_two, None):
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = build_seeded(recipe)
            training = Training(model, data, how)
            first = training.run_epoch().metrics
            training.save(__import__("pathlib").Path("state"))
            second = training.run_epoch().metrics
            weights = model.get_weights()
            assert training.restore(__import__("pathlib").Path("state"))
            again = training.run_epoch().metrics
            same = all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
            training.finish()
        kind = type(training._trainer).__name__
        results.append({"kind": kind, "epochs": [first, second, again], "same": same})
        results[-1]["weights"] = [weight.tolist() for weight in weights]
        single = build_seeded(recipe)
        single.set_weights(weights)
        recalibrate(single, arrays["x_train"])
        results[-1]["recalibrated"] = [weight.tolist() for weight in single.get_weights()]
    told[norm] = results
json.dump(told, open("told.json", "w"))
"""


def test_under_a_strategy_training_is_what_it_is_on_one_device(tmp_path: Path) -> None:
    data = image_data(size=26)  # the last batch of two gives each device one image
    arrays = {
        f"{axis}_{split}": part
        for split in ("train", "val")
        for axis, part in zip("xy", data.tensors(split), strict=True)
    }
    np.savez(tmp_path / "data.npz", **arrays)
    code = MIRRORED.replace("TESTS", repr(str(Path(__file__).parents[1])))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(Path("told.json").read_text())
    for norm, (mirrored, single) in told.items():
        assert (mirrored["kind"], single["kind"]) == ("FittedTrainer", "CompiledTrainer")
        assert mirrored["same"]
        assert single["same"]
        assert all(math.isfinite(value) for epoch in mirrored["epochs"] for value in epoch.values())
        assert mirrored["epochs"][1] == mirrored["epochs"][2]
        for weight, recalibrated in zip(mirrored["weights"], mirrored["recalibrated"], strict=True):
            np.testing.assert_allclose(weight, recalibrated, rtol=1e-4, atol=1e-5)
        if norm == "layer":
            assert_close(*([*map(np.array, result["weights"])] for result in (mirrored, single)))
            assert_close(mirrored["epochs"], single["epochs"])
