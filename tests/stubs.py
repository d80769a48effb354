"""Trials that train nothing, for tests of what is around them: in this process, in forks of it, and
in workers."""

import errno
import hashlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data import ImageData, from_arrays
from reskeras.spec import CifarStem, Classifier, Recipe, ResNet, Stage, TrainSpec
from reskeras.spec.text import dump_recipe
from reskeras.training.state import Epoch
from tuning import Range, Space
from tuning.record.events import Listener, Trial
from tuning.running.trial import Epochs, EvaluationJob, Job, Outcome, Verdict

KILLED_ONCE, KILLED_ALWAYS, ENDLESS = 7, 13, 11
"""Batch sizes whose trials do so in the second epoch."""


def tiny(epochs: int = 1, **vary: Any) -> Space:
    net = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=4),
        block={"kind": "basic"},
        stages=(Stage(blocks=1, width=8, stride=2),),
        head=Classifier(classes=3),
    )
    vary = vary or {
        "block.kind": ["plain", "basic"],
        "train.learning_rate": Range(low=1e-3, high=1e-1, log=True),
    }
    return Space(Recipe(spec=net, train=TrainSpec(epochs=epochs, batch_size=32)), vary)


def score_of(recipe: Recipe) -> float:
    return int(hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()[:8], 16) / 2**32


def run_trial(job: Job, data: ImageData, programs: Any = None) -> Epochs:
    """Scores follow from the recipe alone, and grow a little with each epoch."""
    assert job.parent is None or job.parent.state.exists()
    score = score_of(job.recipe)
    verdict, number, metrics = Verdict.CONTINUE, job.first_epoch, {}
    while verdict is Verdict.CONTINUE and number < job.recipe.train.epochs:
        number += 1
        _misbehave(job, number)
        metrics = {"val_accuracy": score + number / 100, "val_loss": -score, "loss": -score}
        verdict = yield Epoch(number=number, metrics=metrics, seconds=0.0)
    if verdict is Verdict.KEEP:
        if Path("full").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.model))
        job.model.write_text(dump_recipe(job.recipe))
    if job.leave_state:
        job.state.write_text("a state")
    return Outcome(metrics=metrics, epochs=number, params=2)


def _misbehave(job: Job, epoch: int) -> None:
    batch = job.recipe.train.batch_size
    if epoch == 2 and batch == ENDLESS:
        threading.Event().wait()
    seen = job.state.with_suffix(".seen")
    if epoch == 2 and (batch == KILLED_ALWAYS or (batch == KILLED_ONCE and not seen.exists())):
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def run_evaluation(job: EvaluationJob, data: ImageData) -> Epochs:
    assert job.model.exists()
    yield from ()
    return Outcome(metrics={"accuracy": 0.5, "loss": 1.0})


def serve(*args: Any) -> None:
    """The life of a worker whose trials train nothing."""
    import tuning.running.executor

    tuning.running.executor.run_trial, tuning.running.executor.run_evaluation = (
        run_trial,
        run_evaluation,
    )
    tuning.running.executor.serve(*args)


def serve_saving(connection: Any, data: ImageData, log: Path, *more: Any) -> None:
    """The life of a worker that saves its state after each epoch, and notes which epochs it
    trained."""
    import reskeras.training.train
    import tuning.running.executor
    import tuning.running.trial

    real = reskeras.training.train.Training.run_epoch

    def noted(training: Any) -> Epoch:
        with open(log.with_name("epochs.txt"), "a", encoding="ascii") as file:
            file.write(f"{training.spec.seed} {training.epoch + 1}\n")
        return real(training)

    reskeras.training.train.Training.run_epoch = noted  # type: ignore[method-assign]
    tuning.running.trial.SAVE_SECONDS = -1.0
    tuning.running.executor.serve(connection, data, log, *more)


class InStep(Listener):
    """Lets a search with stubs be no faster than MLflow."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        assert self._tracker.flush(30)


def forked_space() -> Space:
    rates = Range(low=0.001, high=0.1, log=True)
    return tiny(
        epochs=3,
        **{
            "block.kind": ["plain", "basic"],
            "stages.*.blocks": [1, 2],
            "train.learning_rate": rates,
        },
    )


def fork_searches(arrays: str) -> None:
    """Runs a search in a fork of this process, which has loaded all that it needs, for each line of
    JSON that comes in.

    Answers with its process id, and when it has ended with its exit status.
    """
    import keras_tuner  # noqa: F401  loaded once for all forks
    import mlflow.tracking.client  # noqa: F401

    import reskeras.cli.tune  # noqa: F401
    import tuning.running.executor
    import tuning.search.tune

    with np.load(arrays) as file:
        data = from_arrays(dict(file), name="blobs")
    tuning.running.executor.run_trial, tuning.running.executor.run_evaluation = (
        run_trial,
        run_evaluation,
    )
    for line in sys.stdin:
        how = json.loads(line)
        pid = os.fork()
        if pid:
            print(pid, flush=True)  # noqa: T201
            print(os.waitpid(pid, 0)[1], flush=True)  # noqa: T201
            continue
        try:
            os.chdir(how.pop("cwd"))
            _search(data, how)
        except BaseException:  # noqa: BLE001
            Path("failure.txt").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)


def _search(data: ImageData, how: dict[str, Any]) -> None:
    import tuning.running.executor
    from tuning.search.tune import tune
    from tuning.tracking import Tracker, tracking_uri

    if "file_bytes" in how:
        limit = how.pop("file_bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if "command" in how:
        from reskeras.cli import main

        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        tuning.running.executor.serve = serve
        try:
            main(how["command"])
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code or 0))
    space = tiny(3, **how.pop("vary")) if "vary" in how else forked_space()
    if how.pop("real", False):
        tuning.running.executor.serve, space = serve_saving, tiny(8)
    else:
        tuning.running.executor.serve = serve
    problems: list[str] = []
    tracker = Tracker(tracking_uri(None), problems.append)
    listeners = [tracker, InStep(tracker)] if how.pop("mlflow") else []
    tune(space, data, listeners=listeners, **how)
    # The stubs' models are not Keras'.
    strange = [problem for problem in problems if "not a Keras model" not in problem]
    assert not strange, strange
