"""One trial, wherever it runs: a network is built or grown, and trained epoch by epoch."""

import dataclasses
import enum
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import keras

from reskeras.data import ImageData
from reskeras.errors import RequestError
from reskeras.files import replacing
from reskeras.models.growth import grow
from reskeras.models.initial import Taken
from reskeras.models.predictor import answerer
from reskeras.models.recalibration import images_per_pass
from reskeras.spec import Recipe
from reskeras.spec.training import SCRATCH
from reskeras.training.state import Epoch, restore_weights
from reskeras.training.train import Training, build_initial, build_seeded, precision_of
from reskeras.training.train import evaluate as scores_of
from tuning.running.devices import PeakMemory, strategy_scope
from tuning.settings import Strategy

SAVE_SECONDS = 20.0
"""Seconds between saved states of a longer trial, from which an interrupted one resumes."""
_EVALUATED = 256
"""Images that an evaluation takes at once, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    """The trial whose weights another one starts from."""

    recipe: Recipe
    state: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to run a trial: plain values and paths, which can be sent."""

    key: str
    """Identifies the trial among those that run."""
    recipe: Recipe
    """The network, its training, and the seed of both."""
    state: Path
    """Where to save the training, and where an earlier attempt may have saved it."""
    model: Path
    """Where to leave the trained network, if it is to be kept."""
    first_epoch: int = 0
    """Epochs that its weights were already trained for."""
    parent: Parent | None = None
    leave_state: bool = False
    """Whether other trials may start from its state."""
    strategy: Strategy = Strategy.NONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationJob:
    """The evaluation of the kept model."""

    key: str
    model: Path
    name: str
    """What to call the model."""
    split: str
    """The split that it is evaluated on."""
    folder: Path | None
    """Where to write what `reskeras.evaluation.files.write` does; it may exist. None to score the
    model alone."""


class Verdict(enum.Enum):
    """What to do after an epoch."""

    CONTINUE = "continue"
    END = "end"
    KEEP = "keep"
    """End and leave the model."""
    PAUSE = "pause"
    """End and leave the state: the trial resumes later."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a finished trial."""

    metrics: Mapping[str, float]
    """Of the weights that are kept, mostly the last epoch's; for an evaluation, on its split."""
    epochs: int = 0
    """Total number of epochs."""
    ended: bool = False
    """Whether its own rule of early stopping ended it."""
    params: int = 0
    seconds: float = 0.0
    peak_memory: int | None = None
    """See `tuning.record.entries.TrialRecord`."""


Epochs = Generator[Epoch, Verdict, Outcome]
"""Yields each epoch as it ends, and receives a verdict."""


def run_trial(job: Job, data: ImageData, programs: Any = None) -> Epochs:
    """Trains a network from scratch, from its parent's weights, or from an interrupted attempt.

    Args:
        job: the trial.
        data: the data to train and validate on.
        programs: see `reskeras.training.train.Training`.

    Raises:
        RequestError: the parent's state is gone, or cannot grow into this network; see also
            `reskeras.models.initial.initialize`.
        FloatingPointError: the loss is no longer finite.
    """
    start = time.perf_counter()
    memory = PeakMemory()
    with strategy_scope(job.strategy, job.recipe.train):
        model, taken = _built(job)
        training = Training(
            model,
            data,
            job.recipe.train,
            first_epoch=job.first_epoch,
            programs=programs,
            taken=taken.layers,
        )
    resumed, parent = training.restore(job.state), job.parent
    if not resumed and parent is not None and parent.recipe.spec == job.recipe.spec:
        resumed = training.restore(parent.state)
        if not resumed:
            raise RequestError(f"{parent.state}: the parent's weights are gone or damaged")
    saved = time.perf_counter()
    verdict = Verdict.CONTINUE
    for epoch in [epoch for epoch in training.epochs if epoch.number > job.first_epoch]:
        # Epochs of an earlier attempt: listeners may have missed the last ones.
        verdict = yield epoch
    while verdict is Verdict.CONTINUE and training.epoch < job.recipe.train.epochs:
        epoch = training.run_epoch()
        if time.perf_counter() - saved > SAVE_SECONDS:
            training.save(job.state)
            saved = time.perf_counter()
        verdict = yield epoch
    if job.leave_state or verdict is Verdict.PAUSE:
        training.save(job.state)
    if verdict is Verdict.KEEP:
        training.finish()
        with replacing(job.model) as partial:
            model.save(partial)
    if not (job.leave_state or verdict is Verdict.PAUSE):
        job.state.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    return Outcome(
        metrics=training.epochs[-1].scores,
        epochs=training.epoch,
        ended=training.ended,
        params=model.count_params(),
        seconds=seconds,
        peak_memory=memory.peak(),
    )


def run_evaluation(job: EvaluationJob, data: ImageData) -> Epochs:
    """Evaluates a saved model; there are no epochs.

    `reskeras.evaluation` needs TensorFlow. With another backend the model is only scored.
    """
    yield from ()
    model = keras.saving.load_model(job.model)
    if job.folder is None or keras.backend.backend() != "tensorflow":
        return Outcome(metrics=scores_of(model, data, job.split))
    from reskeras.evaluation.evaluate import evaluate
    from reskeras.evaluation.files import write

    batch = min(_EVALUATED, images_per_pass(model, 1))
    ask = answerer(model, data.about(), batch)
    found = evaluate(ask, data, job.split, name=job.name, batch=batch, class_names=data.class_names)
    write(found, ask, job.folder)
    return Outcome(metrics={metric.name: score.value for metric, score in found.scores.items()})


def _built(job: Job) -> tuple[Any, Taken]:
    """The network and what it takes from `train.init`: nothing if it grows from its parent's."""
    model = _grown(job)
    return build_initial(job.recipe) if model is None else (model, Taken(origin=SCRATCH))


def _grown(job: Job) -> Any:
    """The network grown from its parent's; None if there is no parent or the networks are equal."""
    if job.parent is None or job.parent.recipe.spec == job.recipe.spec:
        return None
    parent = build_seeded(job.parent.recipe)
    if not restore_weights(parent, job.parent.state):
        raise RequestError(f"{job.parent.state}: the parent's weights are gone or damaged")
    with precision_of(job.recipe):
        return grow(parent, job.recipe.spec)
