"""One trial, wherever it runs: a recipe is built or grown, trained epoch by epoch, and ends when it is told to."""

import dataclasses
import enum
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import keras

from reskeras.data import ImageData
from reskeras.errors import RequestError
from reskeras.models.growth import grow
from reskeras.spec import Recipe
from reskeras.training.state import Epoch, restore_weights
from reskeras.training.train import Training, build_seeded, evaluate, precision_of
from tuning.running.devices import PeakMemory, strategy_scope
from tuning.settings import Strategy

CHECKPOINT_SECONDS = 20.0
"""A trial that runs longer saves its state about so often, and an interrupted one goes on from there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    """The trial whose weights another one starts from."""

    recipe: Recipe
    state: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to know to run a trial; plain values and paths, so that it can travel."""

    key: str
    """Names the trial among those that run."""
    recipe: Recipe
    """The network, how to train it, and the seed of both."""
    state: Path
    """Where the training is saved, and where an earlier attempt may have left it."""
    model: Path
    """Where the trained network is left, if it is to be kept."""
    first_epoch: int = 0
    """Epochs that its weights have behind them."""
    parent: Parent | None = None
    leave_state: bool = False
    """Whether other trials may start from its state."""
    strategy: Strategy = Strategy.NONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastJob:
    """The one look at the test split."""

    key: str
    model: Path


class Verdict(enum.Enum):
    """What follows an epoch."""

    GO_ON = "go on"
    END = "end"
    KEEP = "keep"
    """End, and leave the model."""
    PAUSE = "pause"
    """End, and leave the state: the trial goes on another time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished trial left."""

    metrics: Mapping[str, float]
    """Of the last epoch, hence of the weights that were kept; for a test, those of the test split."""
    epochs: int = 0
    """Trained in all."""
    params: int = 0
    seconds: float = 0.0
    peak_memory: int | None = None
    """See `tuning.record.journal.TrialRecord`."""


Run = Generator[Epoch, Verdict, Outcome]
"""Gives each epoch as it ends, and takes what follows."""


def run_trial(job: Job, data: ImageData, programs: Any = None) -> Run:
    """Trains a network from its beginning, from its parent's weights, or from where an earlier attempt was interrupted.

    Args:
        job: the trial.
        data: what it is trained and validated on.
        programs: see `reskeras.training.train.Training`.

    Raises:
        RequestError: the parent's state is gone, or cannot become this network.
        FloatingPointError: the loss is not finite any more.
    """
    start = time.perf_counter()
    memory = PeakMemory()
    with strategy_scope(job.strategy, job.recipe.train):
        model = _grown(job) or build_seeded(job.recipe)
        training = Training(
            model, data, job.recipe.train, first_epoch=job.first_epoch, programs=programs
        )
    inherits = job.parent is not None and job.parent.recipe.model == job.recipe.model
    if not training.restore(job.state) and inherits and not training.restore(job.parent.state):  # type: ignore[union-attr]
        raise RequestError(f"{job.parent.state}: the parent's weights are gone or damaged")  # type: ignore[union-attr]
    saved = time.perf_counter()
    verdict = Verdict.GO_ON
    for epoch in [epoch for epoch in training.epochs if epoch.number > job.first_epoch]:
        verdict = yield epoch  # an earlier attempt's: who listens may have missed the last of them
    while verdict is Verdict.GO_ON and training.epoch < job.recipe.train.epochs:
        epoch = training.run_epoch()
        if time.perf_counter() - saved > CHECKPOINT_SECONDS:
            training.save(job.state)
            saved = time.perf_counter()
        verdict = yield epoch
    if verdict is Verdict.KEEP:
        training.finish()
        partial = job.model.with_name(f"{job.model.stem}.partial.keras")
        model.save(partial)
        os.replace(partial, job.model)
    if job.leave_state or verdict is Verdict.PAUSE:
        training.save(job.state)
    else:
        job.state.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    return Outcome(
        metrics=training.epochs[-1].metrics,
        epochs=training.epoch,
        params=model.count_params(),
        seconds=seconds,
        peak_memory=memory.peak(),
    )


def run_test(job: LastJob, data: ImageData) -> Run:
    """Scores a saved model on the test split; there are no epochs."""
    yield from ()
    return Outcome(metrics=evaluate(keras.saving.load_model(job.model), data, "test"))


def _grown(job: Job) -> Any:
    """The network that computes what the parent's smaller one does; None where they are the same or there is no parent."""
    if job.parent is None or job.parent.recipe.model == job.recipe.model:
        return None
    parent = build_seeded(job.parent.recipe)
    if not restore_weights(parent, job.parent.state):
        raise RequestError(f"{job.parent.state}: the parent's weights are gone or damaged")
    with precision_of(job.recipe):
        return grow(parent, job.recipe.model)
