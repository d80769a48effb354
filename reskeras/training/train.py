"""Training from beginning to end: `train`, and `Training`, which may pause after any epoch.

An epoch goes through one of two trainers, which do the same: `CompiledTrainer` (TensorFlow, one
device, float32 and bfloat16) or `FittedTrainer` (Keras' own `fit`, everywhere else). `Feed` gives
them batches, `Targets` what each output is trained toward. After each epoch batch norm is
recalibrated and the model is scored on the validation split.
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

from reskeras.data.images import ImageData
from reskeras.errors import RequestError
from reskeras.models.build import build
from reskeras.models.recalibration import images_per_pass
from reskeras.spec import Recipe, TrainSpec
from reskeras.training.feed import Feed
from reskeras.training.fitted import FittedTrainer, scores_of
from reskeras.training.optimizers import make_optimizer, make_schedule
from reskeras.training.state import Epoch, State, assign, read_state, values_of, write_state
from reskeras.training.targets import Targets

_SCORED = 1024
"""Images that are scored together, at most."""


def train(
    model: keras.Model,
    data: ImageData,
    spec: TrainSpec,
    *,
    first_epoch: int = 0,
    last_epoch: int | None = None,
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
        last_epoch: ends the training before `spec.epochs`, for which the learning rates still are.
        on_epoch: called after each epoch; an exception it raises ends the training.

    Returns:
        The epochs trained, in order.

    Raises:
        FloatingPointError: the loss is not finite any more.
        RequestError: `spec.recompute` on another backend than TensorFlow, or under a distribution strategy.
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
    batches = Targets(model, data).prepared(data.split(split)).batch(256).prefetch(2)
    return scores_of(model.evaluate(batches, verbose=0, return_dict=True))


def build_seeded(recipe: Recipe) -> Any:
    """The network of a recipe, its initial weights drawn by the recipe's seed and its layers in the recipe's precision."""
    _seed(recipe.train.seed)
    with precision_of(recipe):
        return build(recipe.model)


@contextlib.contextmanager
def precision_of(recipe: Recipe) -> Iterator[None]:
    """Within, networks are built in the recipe's precision."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.train.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _seed(seed: int) -> None:
    """Seeds what Keras' initialisers and dropout layers draw their own seeds from.

    `keras.utils.set_random_seed` would also seed TensorFlow's generator, which nothing here draws from, and with it throw away
    all that TensorFlow has compiled: a quarter of a second for a small network.
    """
    random.seed(seed)


class Training:
    """A training that may pause after any epoch, be saved, and go on elsewhere as if nothing had happened.

    Args:
        model: as in `train`; under a distribution strategy, one that was built in its scope.
        data: as in `train`.
        spec: as in `train`.
        first_epoch: as in `train`.
        programs: a `reskeras.training.compiled.Programs` that this training may share with others
            of its process; None shares nothing.

    Raises:
        RequestError: as `train`.

    Attributes:
        epoch: epochs trained in all.
        epochs: those trained here, and those of a restored state.
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
        _seed(spec.seed)
        self.model, self.spec, self.epoch = model, spec, first_epoch
        self.epochs: list[Epoch] = []
        self._targets = targets = Targets(model, data)
        self._first = first_epoch
        strategy = False
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            from reskeras.training.compiled import CompiledTrainer, Programs, compilable

            programs = programs or Programs()
            strategy = tf.distribute.has_strategy()
        self._feed = Feed(targets, shared=strategy)
        self._steps = math.ceil(data.sizes["train"] / spec.batch_size)
        self._schedule = make_schedule(spec, first_epoch * self._steps, spec.epochs * self._steps)
        self._optimizer = make_optimizer(spec, self._schedule)
        compiled = (
            keras.backend.backend() == "tensorflow"
            and not strategy
            and compilable(model, self._optimizer)
        )
        if compiled:
            self._feed = programs.feeds.setdefault((data.digest, targets.signature), self._feed)
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

    def run_epoch(self) -> Epoch:
        """Trains for an epoch, recalibrates, validates.

        Raises:
            FloatingPointError: the loss, or that of validation, is not finite any more.
        """
        start, number = time.perf_counter(), self.epoch + 1
        metrics = self._trainer.epoch(self._feed.training(self.spec, number), self._rates(number))
        for metric in self._targets.data.task.metrics:
            if not metric.while_training:
                metrics.pop(metric.name, None)
        if not math.isfinite(metrics["loss"]):
            raise FloatingPointError(f"the loss is {metrics['loss']} in epoch {number}")
        most = images_per_pass(self.model)
        self._trainer.recalibrate(self._feed.images(most))
        # A power of two, so that networks of about the same size are scored by the same traces.
        validation = self._feed.split("val", min(_SCORED, 1 << (most.bit_length() - 1)))
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

    def finish(self) -> None:
        """Leaves the model compiled, with its optimizer and all that it remembers, as Keras' `fit` would."""
        self.model.compile(optimizer=self._trainer.optimizer, **self._targets.compile_options())

    def save(self, path: Path) -> None:
        """Writes everything that the rest of the training depends on, in one step."""
        state = State(
            first=self._first,
            epoch=self.epoch,
            epochs=self.epochs,
            values=values_of(self._variables()),
        )
        write_state(path, state)

    def restore(self, path: Path) -> bool:
        """Continues from a saved state.

        False, and nothing is changed, where there is no state that can be read and fits. A state fits
        a training of the same model and optimizer that began, or begins, where that one began or ended.
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
