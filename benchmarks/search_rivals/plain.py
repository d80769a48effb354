"""The rivals: searches as a Keras user writes them, with our builders and `model.fit`."""

import dataclasses
import gc
import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import keras_tuner
import numpy as np
import optuna
import tensorboard.plugins.hparams.api  # noqa: F401  Keras Tuner imports it in the first trial; imports come before the clock

import reskeras
from reskeras.models.recalibration import recalibrate
from reskeras.spec import BatchNorm, Recipe
from search_rivals.recording import Recording, Task
from tuning.space import sample

FACTOR = 3
"""Of Hyperband and of successive halving: one in this many continues."""
KERAS_NORM = BatchNorm(momentum=0.99, epsilon=1e-3)
"""What `keras.layers.BatchNormalization()` has."""
MANY = 10**6
"""Trials or rounds; the time ends the search."""


class OutOfTime(keras_tuner.errors.FatalError):  # type: ignore[misc]
    """Ends a search; Keras Tuner takes other exceptions for a failed trial."""


class Plain(keras_tuner.HyperModel):  # type: ignore[misc]
    """A point of the space as a compiled Keras model."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.built: Any = None
        """The spec that was built last."""

    def build(self, hp: Any) -> keras.Model:
        """Keras Tuner's hook; `hp` is what `tuning.space.sample` takes."""
        recipe: Recipe = sample(hp, self.task.space)
        self.built = dataclasses.replace(recipe.spec, norm=KERAS_NORM)
        model = reskeras.build(self.built)
        optimizer = keras.optimizers.Adam(recipe.train.learning_rate)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Records a search from within its fits, one after another, and ends it when the time is up.

    The accuracy on recalibrated statistics is computed while the clock stands still, and leaves the
    model as it was.
    """

    def __init__(self, task: Task, recording: Recording, hypermodel: Plain) -> None:
        super().__init__()
        self.task, self.recording, self.hypermodel = task, recording, hypermodel
        self.trial = 0

    def __deepcopy__(self, memo: Any) -> "Watch":
        """Itself: Keras Tuner copies the callbacks for each trial, and this one counts them."""
        return self

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras' hook."""
        if self.recording.over:
            raise OutOfTime
        self.trial += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keras' hook."""
        seconds = self.recording.clock.seconds
        if seconds > self.recording.budget:
            raise OutOfTime
        with self.recording.clock.stopped():
            accuracy = recalibrated_accuracy(self.model, self.task)
            self.recording.epoch(
                self.trial,
                epoch + 1,
                seconds=seconds,
                user=float(logs["val_accuracy"]),
                recalibrated=accuracy,
            )

    def on_train_end(self, logs: Any = None) -> None:
        """Keras' hook."""
        self.recording.trial(self.trial, "completed", self.hypermodel.built)


def recalibrated_accuracy(model: keras.Model, task: Task) -> float:
    """Validation accuracy with recalibrated batch-norm statistics; the model keeps its own."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    statistics = [
        variable for layer in norms for variable in (layer.moving_mean, layer.moving_variance)
    ]
    kept = [np.array(variable) for variable in statistics]
    recalibrate(model, task.x_train)
    found = np.argmax(np.asarray(model(task.x_val, training=False)), axis=-1)
    for variable, value in zip(statistics, kept, strict=True):
        variable.assign(value)
    return float(np.mean(found == task.y_val))


def fit(task: Task, model: keras.Model, epochs: int, callbacks: list[Any]) -> float:
    """The best validation accuracy of a fit, which is what Keras Tuner ranks trials by."""
    history = model.fit(
        task.x_train,
        task.y_train,
        validation_data=(task.x_val, task.y_val),
        epochs=epochs,
        batch_size=task.space.base.train.batch_size,
        callbacks=callbacks,
        verbose=0,
    )
    return float(max(history.history["val_accuracy"]))


def keras_tuner_search(name: str, task: Task, recording: Recording) -> None:
    """One of Keras Tuner's tuners with its defaults."""
    hypermodel = Plain(task)
    epochs = task.space.base.train.epochs
    shared: dict[str, Any] = {
        "objective": "val_accuracy",
        "seed": task.seed,
        "directory": task.directory,
    }
    match name:
        case "random":
            tuner: Any = keras_tuner.RandomSearch(hypermodel, max_trials=MANY, **shared)
        case "bayesian":
            tuner = keras_tuner.BayesianOptimization(hypermodel, max_trials=MANY, **shared)
        case "hyperband":
            tuner = keras_tuner.Hyperband(
                hypermodel, max_epochs=epochs, factor=FACTOR, hyperband_iterations=MANY, **shared
            )
    tuner.search(
        task.x_train,
        task.y_train,
        validation_data=(task.x_val, task.y_val),
        epochs=epochs,
        batch_size=task.space.base.train.batch_size,
        callbacks=[Watch(task, recording, hypermodel)],
        verbose=0,
    )


def optuna_search(task: Task, recording: Recording) -> None:
    """Optuna's TPE with successive halving after each epoch."""
    hypermodel = Plain(task)
    watch = Watch(task, recording, hypermodel)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        gc.collect()
        model = hypermodel.build(OptunaPoint(trial))
        pruning = _Pruning(trial)
        accuracy = fit(task, model, task.space.base.train.epochs, [watch, pruning])
        if pruning.pruned:
            raise optuna.TrialPruned
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=task.seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR),
    )
    study.optimize(objective)


class OptunaPoint:
    """An Optuna trial for `tuning.space.sample`; conditional ranges are always drawn."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def Choice(self, name: str, values: list[Any], default: Any) -> Any:  # noqa: N802  Keras Tuner's name
        """One of the values."""
        return self.trial.suggest_categorical(name, values)

    def Int(  # noqa: N802
        self, name: str, low: int, high: int, *, step: int | None, sampling: str, default: Any
    ) -> int:
        """A whole number from low to high."""
        return self.trial.suggest_int(name, low, high, step=step or 1, log=sampling == "log")

    def Float(  # noqa: N802
        self, name: str, low: float, high: float, *, step: float | None, sampling: str, default: Any
    ) -> float:
        """A number from low to high."""
        return self.trial.suggest_float(name, low, high, step=step, log=sampling == "log")

    def conditional_scope(self, name: str, values: list[str]) -> AbstractContextManager[None]:
        """No scope."""
        return nullcontext()


class _Pruning(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self.trial, self.pruned = trial, False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.trial.report(float(logs["val_accuracy"]), epoch + 1)
        self.pruned = self.model.stop_training = self.trial.should_prune()


def one_epoch_search(task: Task, recording: Recording) -> None:
    """Random points for one epoch each in half of the time, then the best ones in full."""
    hypermodel = Plain(task)
    watch = Watch(task, recording, hypermodel)
    draws = random.Random(task.seed)
    space = keras_tuner.HyperParameters()
    sample(space, task.space)

    def run(values: dict[str, Any], epochs: int) -> float:
        keras.backend.clear_session()
        gc.collect()
        hp = space.copy()
        hp.values = values
        return fit(task, hypermodel.build(hp), epochs, [watch])

    ranked = []
    while recording.clock.seconds < recording.budget / 2:
        values = {hp.name: hp.random_sample(draws.randrange(2**31)) for hp in space.space}
        ranked.append((run(values, 1), len(ranked), values))
    for _, _, values in sorted(ranked, key=lambda item: (-item[0], item[1])):
        run(values, task.space.base.train.epochs)
