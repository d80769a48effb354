"""Training by Keras' own `fit`: on any backend, in any precision, over the devices of a distribution strategy."""

import contextlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from reskeras.recalibration import recalibrate_over
from reskeras.targets import Targets


class FittedRun:
    """Trains and scores one network, as `reskeras.compiled.CompiledRun` does.

    On TensorFlow without a strategy a twin of the model is fitted (see `reskeras.segments`).

    Args:
        model: a built network; under a strategy, one built in its scope.
        targets: of the model.
        optimizer: with its learning rate's schedule.
        recompute: see `training_twin`.

    Raises:
        RequestError: `recompute` on another backend than TensorFlow, or under a strategy.
    """

    def __init__(self, model: Any, targets: Targets, optimizer: Any, *, recompute: bool) -> None:
        strategy = _strategy()
        self._model = self._runner = self._single = model
        self._targets = targets
        self._scope = strategy.scope if strategy is not None else contextlib.nullcontext
        if recompute or (strategy is None and keras.backend.backend() == "tensorflow"):
            from reskeras.segments import training_twin

            self._runner = training_twin(model, recompute=recompute)
        if strategy is not None:
            # Statistics are computed on one device: a strategy keeps a batch norm's averages apart on each.
            self._single = keras.models.clone_model(model)
        with self._scope():
            self._runner.compile(optimizer, **targets.compile_options())
            # A step that makes variables while it is traced is traced twice, so those of optimizer and metrics are made before.
            self._runner.optimizer.build(self._runner.trainable_variables)
            self._runner.compute_metrics(None, *targets.example())
            self._runner.reset_metrics()
        self.optimizer = self._runner.optimizer

    def epoch(self, batches: Any, rates: np.ndarray) -> dict[str, float]:
        """Trains on batches. The learning rates are the optimizer's own affair here."""
        with self._scope():
            history = self._runner.fit(batches, epochs=1, shuffle=False, verbose=0).history
        return scores_of({name: values[-1] for name, values in history.items()})

    def evaluate(self, batches: Any) -> dict[str, float]:
        """Scores batches of (images, targets)."""
        with self._scope():
            if self._single is not self._model:
                return self._scored(batches)
            return scores_of(self._runner.evaluate(batches, verbose=0, return_dict=True))

    def recalibrate(self, batches: Any) -> None:
        """As `reskeras.recalibration.recalibrate`, over batches of images."""
        if self._single is not self._model:
            self._single.set_weights(self._model.get_weights())
        recalibrate_over(self._single, batches)
        if self._single is not self._model:
            self._model.set_weights(self._single.get_weights())

    def _scored(self, batches: Any) -> dict[str, float]:
        """On one device: a strategy fails where a batch has fewer images than there are devices."""
        self._single.set_weights(self._model.get_weights())
        losses, metrics = self._targets.losses(), self._targets.metrics()
        states = [[keras.ops.zeros(v.shape, v.dtype) for v in metric.variables] for metric in metrics]
        total, count = 0.0, 0
        shares = _strategy().num_replicas_in_sync  # in a strategy's scope a Keras loss is divided by these
        for images, wanted in batches:
            found = self._single(images, training=False)
            pairs = {name: (wanted[name], found[name]) for name in losses} if isinstance(found, dict) else {"head": (wanted, found)}
            total += shares * len(images) * float(sum(losses[name](*pair) for name, pair in pairs.items())) / len(losses)
            count += len(images)
            states = [metric.stateless_update_state(old, *pairs["head"]) for metric, old in zip(metrics, states, strict=True)]
        scores = {metric.name: float(metric.stateless_result(end)) for metric, end in zip(metrics, states, strict=True)}
        return {**scores, "loss": total / count}


def scores_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """The loss and the scores of the last head; of the other heads Keras reports the losses, which are in the loss."""
    scores = {name.removeprefix("head_"): float(value) for name, value in logs.items() if not name.endswith("_loss")}
    return {name: scores[name] for name in ("accuracy", "mean_iou", "loss") if name in scores}


def _strategy() -> Any:
    """TensorFlow's distribution strategy in force."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
