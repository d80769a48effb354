"""Training from start to finish: `train`, and `Training`, which can pause after any epoch.

One of two equivalent trainers runs the epochs: `CompiledTrainer` (TensorFlow, one device, float32
and bfloat16) or `FittedTrainer` (Keras' own `fit`, for everything else). `Feed` supplies batches,
`Targets` what each output is trained toward. After each epoch, batch norm is recalibrated and the
model is scored on the validation split.
"""

import contextlib
import dataclasses
import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData
from reskeras.errors import RequestError
from reskeras.models.build import build
from reskeras.models.initial import Taken, initialize
from reskeras.models.recalibration import MOST_RECALIBRATED, images_per_pass
from reskeras.spec import Recipe, TrainSpec
from reskeras.tasks import balanced
from reskeras.training.checks import check_training
from reskeras.training.feed import Feed
from reskeras.training.fitted import FittedTrainer, scores_of
from reskeras.training.layer_rates import layer_rates
from reskeras.training.optimizers import averages_of, inner, make_optimizer, penalty_of
from reskeras.training.schedules import make_schedule, rate_to_save
from reskeras.training.state import Epoch, State, assign, read_state, values_of, write_state
from reskeras.training.stopping import Stopping
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
    taken: Collection[str] = (),
) -> list[Epoch]:
    """Trains a model in place and validates it after each epoch.

    After each epoch, the batch-norm statistics are recomputed over the training images (see
    `recalibrate`), so a score measures the network and not the lag of its moving averages. The
    model keeps these statistics. Training itself never reads them. With `spec.ema`, the average
    weights are what is scored and kept.

    Args:
        model: a built network with a head for the task of the data. It is compiled here.
        data: image data; the splits `train` and `val` are used.
        spec: how to train. `spec.epochs` counts from epoch 0, even if training continues from
            `first_epoch`.
        first_epoch: epochs that the model's weights have already been trained for.
        last_epoch: stops before `spec.epochs`; the learning-rate schedule still spans
            `spec.epochs`.
        on_epoch: called after each epoch. An exception it raises stops the training.
        taken: as for `Training`.

    Returns:
        The epochs that were trained, in order. The last one's `scores` are those of the model.

    Raises:
        FloatingPointError: the loss is no longer finite.
        RequestError: the data cannot be trained on like this (see
            `reskeras.training.checks.check_training`); `spec.recompute` with a model, precision,
            backend or distribution strategy that Keras' own `fit` has to train.
    """
    training = Training(model, data, spec, first_epoch=first_epoch, taken=taken)
    while training.epoch < min(spec.epochs, last_epoch or spec.epochs) and not training.ended:
        epoch = training.run_epoch()
        if on_epoch is not None:
            on_epoch(epoch)
    training.finish()
    return training.epochs


def evaluate(model: keras.Model, data: ImageData, split: str) -> dict[str, float]:
    """Scores a trained (compiled) model on a split: `loss` and the task's metrics."""
    size = min(256, images_per_pass(model, 1))
    targets = Targets(model, data)
    batches = targets.prepared(targets.data.split(split)).batch(size).prefetch(2)
    # Not the one that is given, which is compiled with stock metrics alone.
    model = keras.Model(model.input, model.output)
    model.compile(**targets.compile_options())
    with naming_bad_images():
        return scores_of(model.evaluate(batches, verbose=0, return_dict=True))


def build_seeded(recipe: Recipe) -> Any:
    """Builds a recipe's network with initial weights from its seed and layers in its precision."""
    _seed(recipe.train.seed)
    with precision_of(recipe):
        return build(recipe.spec)


def build_initial(recipe: Recipe) -> tuple[Any, Taken]:
    """Builds a recipe's network with the weights of its `train.init`; says what was taken.

    Raises:
        RequestError: see `initialize`.
    """
    model = build_seeded(recipe)
    return model, initialize(model, recipe)


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
        taken: the model's layers that start from the weights of `spec.init` (see `build_initial`);
            the model is not changed here.

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
        taken: Collection[str] = (),
    ) -> None:
        check_training(spec, data)
        _seed(spec.seed)
        self.model, self.spec, self.epoch = model, spec, first_epoch
        self.epochs: list[Epoch] = []
        weights = balanced(data.class_counts()) if spec.class_weight == "balanced" else ()
        self._targets = targets = Targets(model, data, spec, weights)
        targets.check_mixes(spec.augment)
        self._first = first_epoch
        stop_early = spec.stop_early
        self._stopping = None if stop_early is None else Stopping(stop_early, data.task)
        self._keeps_best = stop_early is not None and stop_early.keep_best
        self._best: Sequence[Any] = []
        """As in `State`."""
        strategy = False
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            from reskeras.training.compiled import CompiledTrainer, Programs, compilable

            programs = programs or Programs()
            strategy = tf.distribute.has_strategy()
        self._feed = Feed(targets, shared=strategy)
        self._steps = math.ceil(data.sizes["train"] / spec.batch_size)
        self._sampled = max(_FEWEST_SAMPLED, data.sizes["train"] // 10)
        self._layer_rates = layer_rates(model, spec, taken, self._steps)
        self._start = first_epoch * self._steps
        self._schedule = self._make_schedule()
        self._optimizer = make_optimizer(spec, self._schedule)
        penalty = penalty_of(spec)
        compiled = (
            keras.backend.backend() == "tensorflow"
            and not strategy
            and compilable(model, self._optimizer)
        )
        if compiled:
            key = data.digest, data.resize, data.peak, targets.signature
            self._feed = programs.feeds.setdefault(key, self._feed)
            self._trainer: Any = CompiledTrainer(
                model,
                targets,
                self._optimizer,
                penalty=penalty,
                rates=self._layer_rates,
                recompute=spec.recompute,
                programs=programs,
            )
        elif spec.recompute:
            raise RequestError(
                "train.recompute needs TensorFlow, one device and precision 'float32' or "
                "'mixed_bfloat16'; set it to false"
            )
        else:
            self._trainer = FittedTrainer(
                model, targets, self._optimizer, penalty=penalty, rates=self._layer_rates
            )
        self._thaw()
        for variable, average in averages_of(self._trainer.optimizer):
            average.assign(variable)

    @property
    def ended(self) -> bool:
        """Whether it ended before `spec.epochs` because it no longer improves."""
        return self.epoch > self._first and self.epochs[-1].ends

    @naming_bad_images()
    def run_epoch(self) -> Epoch:
        """Trains for one epoch, recalibrates batch norm and validates.

        Raises:
            FloatingPointError: the training or validation loss is no longer finite.
            RequestError: an image file cannot be read.
        """
        start, number = time.perf_counter(), self.epoch + 1
        self._swap_averages()
        metrics = self._trainer.epoch(self._feed.training(self.spec, number), self._rates(number))
        self._swap_averages()
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
        epoch = Epoch(number=number, metrics=metrics, seconds=time.perf_counter() - start)
        self.epochs.append(epoch if self._stopping is None else self._judged(epoch, self._stopping))
        return self.epochs[-1]

    def _judged(self, epoch: Epoch, stopping: Stopping) -> Epoch:
        """An epoch that knows whether it is the last, and which weights would be kept."""
        own = [*(earlier for earlier in self.epochs if earlier.number > self._first), epoch]
        best, kept = stopping.best(own), None
        if self._keeps_best and best is epoch:
            self._best = [np.array(value) for value in values_of(self.model.variables)]
        elif self._keeps_best:
            kept = best.metrics
        return dataclasses.replace(epoch, kept=kept, ends=stopping.ends(own))

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

    def losses(self, schedule: Any, steps: int) -> Iterator[float]:
        """Trains step by step with another schedule; yields each batch's loss before its step.

        Epochs follow each other without validation. This training should not go on afterwards.

        Args:
            schedule: Keras' schedule, from step 0.
            steps: how many steps, if the caller asks for all.

        Raises:
            RequestError: an image file cannot be read.
        """
        self._trainer.reschedule(schedule)
        rates = np.asarray(schedule(np.arange(steps)), "float32")
        with naming_bad_images():
            for number in range(math.ceil(steps / self._steps)):
                batches = self._feed.training(self.spec, number + 1)
                here = slice(number * self._steps, (number + 1) * self._steps)
                yield from self._trainer.losses(batches, rates[here])

    def finish(self) -> None:
        """Compiles the model with its optimizer and its state, as Keras' `fit` leaves it.

        The model gets the weights that are kept (see `StopEarly`); a state can no longer be saved.
        What Keras alone cannot load is not part of the model: the optimizer has no L2 penalty, and
        a constant rate if the schedule is not one of Keras' own.
        """
        if self.epochs and self.epochs[-1].kept is not None:
            assign(self.model.variables, self._best)
        trained, rate = self._trainer.optimizer, rate_to_save(self.spec, self._schedule)
        options = self._targets.stock_options()
        if inner(trained) is self._optimizer and rate is self._schedule and not self.spec.ema:
            self.model.compile(optimizer=trained, **options)
            return
        with self._trainer.scope():
            stock = make_optimizer(self.spec, rate)
            self.model.compile(optimizer=stock, **options)  # which wraps it in float16
            self.model.optimizer.build(self.model.trainable_variables)
        for variable, value in zip(
            _without_rate(self.model.optimizer), _without_rate(trained), strict=True
        ):
            variable.assign(value)
        for variable, average in averages_of(stock):
            average.assign(variable)

    def save(self, path: Path) -> None:
        """Atomically writes everything that the rest of the training depends on."""
        state = State(
            first=self._first,
            epoch=self.epoch,
            epochs=self.epochs,
            values=values_of(self._variables()),
            start=self._start,
            best=self._best,
        )
        write_state(path, state)

    def restore(self, path: Path) -> bool:
        """Continues from a saved state.

        Returns False and changes nothing if no readable, fitting state exists. A state fits a
        training of the same model and optimizer whose first epoch is the one the saved training
        started at or stopped at, or a later one if it ended early.
        """
        saved = read_state(path)
        if saved is None or not self._follows(saved) or not assign(self._variables(), saved.values):
            return False
        self.epoch, self.epochs = max(saved.epoch, self._first), list(saved.epochs)
        self._best = saved.best if self.epoch > self._first else []
        # Rates follow the epochs, even if the saved training ended before this one's first.
        start = saved.start + (self.epoch - saved.epoch) * self._steps
        if start != self._start:
            self._start = start
            self._schedule = self._make_schedule()
            self._trainer.reschedule(self._schedule)
            self._thaw()
        return True

    def _follows(self, saved: State) -> bool:
        ended = bool(saved.epochs) and saved.epochs[-1].ends
        return self._first in (saved.first, saved.epoch) or (ended and self._first > saved.epoch)

    def _thaw(self) -> None:
        """Tells the trainer when frozen layers learn, in steps of the optimizer."""
        if self._layer_rates is not None:
            self._trainer.thaw_at(self._layer_rates.steps - self._start)

    def _make_schedule(self) -> Any:
        return make_schedule(self.spec, self.spec.epochs * self._steps, start=self._start)

    def _swap_averages(self) -> None:
        """Exchanges the weights and their averages: between epochs, the model has the averages."""
        for variable, average in averages_of(self._trainer.optimizer):
            value = keras.ops.convert_to_numpy(variable).copy()
            variable.assign(average)
            average.assign(value)

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self._trainer.optimizer.variables]

    def _rates(self, epoch: int) -> np.ndarray[Any, Any]:
        """The learning rates of an epoch's steps."""
        steps = np.arange((epoch - 1) * self._steps, epoch * self._steps) - self._start
        rate = self._schedule(steps) if callable(self._schedule) else self._schedule
        return np.broadcast_to(np.asarray(rate, "float32"), steps.shape)


def _without_rate(optimizer: Any) -> list[Any]:
    """The variables of an optimizer but for the learning rate."""
    rate = inner(optimizer)._learning_rate
    return [variable for variable in optimizer.variables if variable is not rate]
