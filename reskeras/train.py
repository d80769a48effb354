"""Compile, fit, recalibrate batch norm, evaluate."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from reskeras.data.augment import augmented
from reskeras.data.images import ImageData
from reskeras.recalibration import recalibrate
from reskeras.segments import training_twin
from reskeras.spec import TrainSpec
from reskeras.targets import Targets

_SHUFFLED = 50_000
"""Images that the shuffle buffer holds: all of CIFAR."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch of training left."""

    number: int
    """Epochs trained in all, counted from 1."""
    metrics: Mapping[str, float]
    """`loss`, `accuracy`, `val_loss`, `val_accuracy`, for masks also `val_mean_iou`."""
    seconds: float
    """Wall time of the epoch with its recalibration and validation."""


def train(
    model: keras.Model,
    data: ImageData,
    spec: TrainSpec,
    *,
    first_epoch: int = 0,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Trains a model in place, and validates it after each epoch on recalibrated batch-norm statistics.

    After each epoch the batch norms' statistics are recomputed over the training images (see `recalibrate`), so that a score is
    the network's and not the lag of its moving averages; the model keeps them. Training itself never reads them.

    Args:
        model: a built network with a classifier or segmentation head; it is compiled here.
        data: its splits `train` and `val` are used.
        spec: how to train; `spec.epochs` counts from epoch 0, also when training goes on at `first_epoch`.
        first_epoch: epochs that the model's weights have been trained for already.
        on_epoch: called after each epoch; an exception it raises ends the training.

    Returns:
        The epochs trained, in order.

    Raises:
        FloatingPointError: the loss is not finite any more.
        RequestError: `spec.recompute` on another backend than TensorFlow, or under a distribution strategy.
    """
    keras.utils.set_random_seed(spec.seed)
    size = data.sizes["train"]
    batches = data.split("train").shuffle(min(size, _SHUFFLED), seed=spec.seed)
    targets = Targets(model, data)
    batches = targets.prepared(augmented(batches, spec.augment, spec.seed)).batch(spec.batch_size).prefetch(2)
    steps = math.ceil(size / spec.batch_size)
    runner = _runner(model, spec)
    options = _options(targets, spec, steps=steps * (spec.epochs - first_epoch))
    runner.compile(**options)
    # A step that makes variables while it is traced is traced twice, so those of optimizer and metrics are made before.
    runner.optimizer.build(runner.trainable_variables)
    runner.compute_metrics(None, *targets.example())
    runner.reset_metrics()
    images = data.split("train").map(lambda image, _: targets.image(image))
    validation = _in_batches(targets, "val")
    watch = _Watch(model, first_epoch, images, validation, on_epoch)
    runner.fit(batches, initial_epoch=first_epoch, epochs=spec.epochs, callbacks=[watch], shuffle=False, verbose=0)
    if runner is not model:
        model.compile(**options | {"optimizer": runner.optimizer})
    return watch.epochs


def evaluate(model: keras.Model, data: ImageData, split: str) -> dict[str, float]:
    """Scores a trained (compiled) model on a split: `loss`, `accuracy`, for masks also `mean_iou`."""
    return _evaluate(model, _in_batches(Targets(model, data), split))


def _runner(model: keras.Model, spec: TrainSpec) -> Any:
    """What is fitted: the model, or on TensorFlow a twin of it that starts sooner and can recompute activations."""
    import tensorflow as tf

    if spec.recompute or (keras.backend.backend() == "tensorflow" and not tf.distribute.has_strategy()):
        return training_twin(model, recompute=spec.recompute)
    return model


def _evaluate(model: keras.Model, batches: Any) -> dict[str, float]:
    return _scores(model.evaluate(batches, verbose=0, return_dict=True))


def _scores(logs: Mapping[str, Any]) -> dict[str, float]:
    """The loss and the scores of the last head; of the other heads Keras reports the losses, which are in the loss."""
    scores = {name.removeprefix("head_"): float(value) for name, value in logs.items() if not name.endswith("_loss")}
    return {name: scores[name] for name in ("accuracy", "mean_iou", "loss") if name in scores}


def _in_batches(targets: Targets, split: str) -> Any:
    return targets.prepared(targets.data.split(split)).batch(256).prefetch(2)


def _options(targets: Targets, spec: TrainSpec, *, steps: int) -> dict[str, Any]:
    """Of `compile`."""
    rate: Any = spec.learning_rate
    if spec.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(spec.learning_rate, decay_steps=steps)
    decay = spec.weight_decay or None
    match spec.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    names = list(targets.outputs)
    weights = {name: 1 / len(names) for name in names} if len(names) > 1 else None
    return {"optimizer": optimizer, "loss": targets.loss(), "loss_weights": weights, "metrics": targets.metrics()}


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """After each epoch: stop a diverged run, recalibrate, validate, report."""

    def __init__(
        self, model: keras.Model, first_epoch: int, images: Any, validation: Any, on_epoch: Callable[[Epoch], None] | None
    ) -> None:
        super().__init__()
        self.network, self.first_epoch, self.images, self.validation = model, first_epoch, images, validation
        self.on_epoch = on_epoch
        self.epochs: list[Epoch] = []
        self._start = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        metrics = {name: value for name, value in _scores(logs).items() if name in ("loss", "accuracy")}
        if not math.isfinite(metrics["loss"]):
            raise FloatingPointError(f"the loss is {metrics['loss']} after epoch {epoch + 1}")
        recalibrate(self.network, self.images)
        metrics |= {f"val_{name}": value for name, value in _evaluate(self.model, self.validation).items()}
        seconds = time.perf_counter() - self._start
        self.epochs.append(Epoch(number=epoch + 1, metrics=metrics, seconds=seconds))
        if self.on_epoch is not None:
            self.on_epoch(self.epochs[-1])
