"""Training from start to finish: `train`, and `Training`, which can pause after any epoch.

One of two equivalent trainers runs the epochs: `CompiledTrainer` (TensorFlow, one device, float32
and bfloat16) or `FittedTrainer` (Keras' own `fit`, for everything else). `Feed` supplies batches,
`Targets` what each output is trained toward. After each epoch, batch norm is recalibrated and the
model is scored on the validation split.
"""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData
from reskeras.errors import RequestError
from reskeras.models.build import build
from reskeras.models.recalibration import MOST_RECALIBRATED, images_per_pass
from reskeras.spec import Recipe, TrainSpec
from reskeras.tasks import balanced
from reskeras.training.feed import Feed
from reskeras.training.fitted import FittedTrainer, scores_of
from reskeras.training.optimizers import make_optimizer, make_schedule
from reskeras.training.state import Epoch, State, assign, read_state, values_of, write_state
from reskeras.training.targets import Targets

_FEWEST_SAMPLED = 512
"""Fewest images to recalibrate from between epochs; of many images, a tenth."""
_SCORED = 1024
"""Largest batch for scoring, in images."""


def train(
    model: keras.Model,
    data: ImageData,
    spec: TrainSpec,
    *,
    first_epoch: int = 0,
    last_epoch: int | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Trains a model in place and validates it after each epoch.

    After each epoch, the batch-norm statistics are recomputed over the training images (see
    `recalibrate`), so a score measures the network and not the lag of its moving averages. The
    model keeps these statistics. Training itself never reads them.

    Args:
        model: a built network with a classifier or segmentation head. It is compiled here.
        data: image data; the splits `train` and `val` are used.
        spec: how to train. `spec.epochs` counts from epoch 0, even if training continues from
            `first_epoch`.
        first_epoch: epochs that the model's weights have already been trained for.
        last_epoch: stops before `spec.epochs`; the learning-rate schedule still spans
            `spec.epochs`.
        on_epoch: called after each epoch. An exception it raises stops the training.

    Returns:
        The epochs that were trained, in order.

    Raises:
        FloatingPointError: the loss is no longer finite.
        RequestError: `spec.recompute` with a model, precision, backend or distribution strategy
            that Keras' own `fit` has to train.
    """
    training = Training(model, data, spec, first_epoch=first_epoch)
    while training.epoch < min(spec.epochs, last_epoch or spec.epochs):
        epoch = training.run_epoch()
        if on_epoch is not None:
            on_epoch(epoch)
    training.finish()
    return training.epochs


def evaluate(model: keras.Model, data: ImageData, split: str) -> dict[str, float]:
    """Scores a trained (compiled) model on a split: `loss` and the task's metrics."""
    size = min(256, images_per_pass(model, 1))
    targets = Targets(model, data)
    batches = targets.prepared(data.split(split)).batch(size).prefetch(2)
    if data.ignores:  # a model from a file does not know of it
        model = keras.Model(model.input, model.output)
        model.compile(**targets.compile_options())
    with naming_bad_images():
        return scores_of(model.evaluate(batches, verbose=0, return_dict=True))


def build_seeded(recipe: Recipe) -> Any:
    """Builds a recipe's network with initial weights from its seed and layers in its precision."""
    _seed(recipe.train.seed)
    with precision_of(recipe):
        return build(recipe.spec)


@contextlib.contextmanager
def precision_of(recipe: Recipe) -> Iterator[None]:
    """A context in which networks are built in the recipe's precision."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.train.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _seed(seed: int) -> None:
    """Seeds the generator from which Keras' initializers and dropout layers draw their seeds.

    `keras.utils.set_random_seed` also seeds TensorFlow's generator. Nothing here uses that one, and
    seeding it discards every compiled function.
    """
    random.seed(seed)


class Training:
    """A training that can pause after any epoch, be saved, and continue identically elsewhere.

    Args:
        model: as in `train`; with a distribution strategy, built within its scope.
        data: as in `train`.
        spec: as in `train`.
        first_epoch: as in `train`.
        programs: a `reskeras.training.compiled.Programs` to share with other trainings of this
            process; None shares nothing.

    Raises:
        RequestError: as `train`.

    Attributes:
        epoch: epochs trained in all.
        epochs: those trained here, plus those of a restored state.
    """

    def __init__(
        self,
        model: Any,
        data: ImageData,
        spec: TrainSpec,
        *,
        first_epoch: int = 0,
        programs: Any = None,
    ) -> None:
        if spec.resize not in (None, data.resize):
            raise RequestError(
                f"train.resize is {spec.resize!r}, but the data were opened with {data.resize!r}; "
                f"open them with DataOptions(resize={spec.resize!r})"
            )
        _seed(spec.seed)
        self.model, self.spec, self.epoch = model, spec, first_epoch
        self.epochs: list[Epoch] = []
        weights = balanced(data.class_counts()) if spec.class_weight == "balanced" else ()
        self._targets = targets = Targets(model, data, weights)
        self._first = first_epoch
        strategy = False
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            from reskeras.training.compiled import CompiledTrainer, Programs, compilable

            programs = programs or Programs()
            strategy = tf.distribute.has_strategy()
        self._feed = Feed(targets, shared=strategy)
        self._steps = math.ceil(data.sizes["train"] / spec.batch_size)
        self._sampled = max(_FEWEST_SAMPLED, data.sizes["train"] // 10)
        self._schedule = make_schedule(spec, first_epoch * self._steps, spec.epochs * self._steps)
        self._optimizer = make_optimizer(spec, self._schedule)
        compiled = (
            keras.backend.backend() == "tensorflow"
            and not strategy
            and compilable(model, self._optimizer)
        )
        if compiled:
            key = data.digest, data.resize, data.peak, targets.signature
            self._feed = programs.feeds.setdefault(key, self._feed)
            self._trainer: Any = CompiledTrainer(
                model, targets, self._optimizer, recompute=spec.recompute, programs=programs
            )
        elif spec.recompute:
            raise RequestError(
                "train.recompute needs TensorFlow, one device and precision 'float32' or "
                "'mixed_bfloat16'; set it to false"
            )
        else:
            self._trainer = FittedTrainer(model, targets, self._optimizer)

    @naming_bad_images()
    def run_epoch(self) -> Epoch:
        """Trains for one epoch, recalibrates batch norm and validates.

        Raises:
            FloatingPointError: the training or validation loss is no longer finite.
            RequestError: an image file cannot be read.
        """
        start, number = time.perf_counter(), self.epoch + 1
        metrics = self._trainer.epoch(self._feed.training(self.spec, number), self._rates(number))
        for metric in self._targets.data.task.metrics:
            if not metric.while_training:
                metrics.pop(metric.name, None)
        if not math.isfinite(metrics["loss"]):
            raise FloatingPointError(f"the loss is {metrics['loss']} in epoch {number}")
        most = images_per_pass(self.model, self.spec.batch_size)
        count = MOST_RECALIBRATED if number == self.spec.epochs else self._sampled
        self._trainer.recalibrate(self._feed.images(count, most))
        # A power of two, so networks of similar size share the traces for scoring.
        scored = max(self.spec.batch_size, min(_SCORED, 1 << (most.bit_length() - 1)))
        validation = self._feed.split("val", scored)
        metrics |= {
            f"val_{name}": value for name, value in self._trainer.evaluate(validation).items()
        }
        if not math.isfinite(metrics["val_loss"]):
            raise FloatingPointError(
                f"the validation loss is {metrics['val_loss']} after epoch {number}"
            )
        self.epoch = number
        self.epochs.append(
            Epoch(number=number, metrics=metrics, seconds=time.perf_counter() - start)
        )
        return self.epochs[-1]

    @naming_bad_images()
    def images_per_second(self, seconds: float) -> float:
        """Measures the steps of training, without the first one, which compiles.

        The model is trained by them; this training should not go on.

        Args:
            seconds: how long to measure, about; at least one step, and at most an epoch.

        Raises:
            RequestError: an image file cannot be read.
        """
        batches, rates = self._feed.training(self.spec, 1), self._rates(1)

        def timed(steps: int) -> float:
            start = time.perf_counter()
            self._trainer.epoch(batches.take(steps), rates[:steps])
            return time.perf_counter() - start

        timed(1)
        steps, took = 1, timed(1)
        if took < seconds:
            steps = max(1, min(self._steps, int(seconds / took)))
            took = timed(steps)
        return min(steps * self.spec.batch_size, self._targets.data.sizes["train"]) / took

    def finish(self) -> None:
        """Compiles the model with its optimizer and its state, as Keras' `fit` leaves it."""
        self.model.compile(optimizer=self._trainer.optimizer, **self._targets.stock_options())

    def save(self, path: Path) -> None:
        """Atomically writes everything that the rest of the training depends on."""
        state = State(
            first=self._first,
            epoch=self.epoch,
            epochs=self.epochs,
            values=values_of(self._variables()),
        )
        write_state(path, state)

    def restore(self, path: Path) -> bool:
        """Continues from a saved state.

        Returns False and changes nothing if no readable, fitting state exists. A state fits a
        training of the same model and optimizer whose first epoch is the one the saved training
        started at or stopped at.
        """
        saved = read_state(path)
        if (
            saved is None
            or self._first not in (saved.first, saved.epoch)
            or not assign(self._variables(), saved.values)
        ):
            return False
        self.epoch, self.epochs = saved.epoch, list(saved.epochs)
        return True

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self._trainer.optimizer.variables]

    def _rates(self, epoch: int) -> np.ndarray[Any, Any]:
        """The learning rates of an epoch's steps."""
        steps = np.arange(
            (epoch - 1 - self._first) * self._steps, (epoch - self._first) * self._steps
        )
        rate = self._schedule(steps) if callable(self._schedule) else self._schedule
        return np.broadcast_to(np.asarray(rate, "float32"), steps.shape)
