"""Training and scoring in a few compiled calls that networks share. TensorFlow on one device only.

Most of a short training is overhead: Keras traces the step, compiles it, and crosses from Python to
TensorFlow at every step. A `CompiledTrainer` runs a whole epoch in one call (or in calls of about a
second) and takes the variables as arguments. A second network of the same structure, with different
initial weights or another learning rate, reuses what the first one compiled. Networks that differ
only in depth share the traces of their blocks (see `reskeras.training.segments`).
"""

import math
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.models.recalibration import norms_of, pooled
from reskeras.training.fitted import scores_of
from reskeras.training.segments import SegmentedModel, Update, function, fused_update
from reskeras.training.targets import Targets, outputs_of

_CALL_SECONDS = 1.0
"""Target length of one call, which neither Ctrl-C nor a deadline can interrupt."""
_KEPT = 32
"""How many compiled networks are kept at most."""
_KEPT_BYTES = 512 << 20
"""Limit on the weights kept along with them: traces refer to layers, and layers own variables."""


class Programs:
    """Traced and compiled functions, shared by the networks that a process trains in turn."""

    def __init__(self) -> None:
        self.functions: dict[Any, Any] = {}
        """Segments' functions, by their structure."""
        self.compiled: dict[Any, _Program] = {}
        """By the structure of network, loss and optimizer."""
        self.feeds: dict[Any, Any] = {}
        """Feeds by data set and by the form in which networks take images."""

    def keep(self, key: Any, program: "_Program") -> None:
        """Keeps a program. Drops all others at a limit, since they share most of what they hold."""
        if (
            len(self.compiled) >= _KEPT
            or program.bytes + sum(kept.bytes for kept in self.compiled.values()) > _KEPT_BYTES
        ):
            self.compiled.clear()
            self.functions.clear()
        self.compiled[key] = program


class CompiledTrainer:
    """Trains and scores one network.

    Args:
        model: a built Functional network without losses of its layers' own.
        targets: the model's targets.
        optimizer: SGD or Adam without clipping, accumulation or averaging. It is built here, and
            its slots are used.
        recompute: see `SegmentedModel`.
        programs: compiled functions to share with other trainings.
    """

    def __init__(
        self, model: Any, targets: Targets, optimizer: Any, *, recompute: bool, programs: Programs
    ) -> None:
        self.optimizer = optimizer
        optimizer.build(model.trainable_variables)
        fused = fused_update(optimizer)
        if fused is None:
            raise TypeError(f"no compiled training with {type(optimizer).__name__}")
        slots, _ = fused
        segmented = SegmentedModel(model, recompute, programs.functions)
        state = [value for values in segmented.states for value in values]
        numbers = {id(value): number for number, value in enumerate(state)}
        trained = tuple(numbers[id(variable.value)] for variable in model.trainable_variables)
        decayed = tuple(
            bool(optimizer.weight_decay) and optimizer._use_weight_decay(v)
            for v in model.trainable_variables
        )
        config = {
            n: v
            for n, v in optimizer.get_config().items()
            if n not in ("learning_rate", "name", "weight_decay")
        }
        key = (
            segmented.structure,
            repr(config),
            decayed,
            trained,
            targets.signature,
            targets.class_weights,
        )
        if key not in programs.compiled:
            programs.keep(
                key, _Program(segmented, model, targets, _update_rule(optimizer), decayed)
            )
        self._program = programs.compiled[key]
        self._states = segmented.states
        variables = [variable.value for variable in model.trainable_variables]
        self._variables = (segmented.states, variables, slots, optimizer.iterations.value)
        self._decay = tf.constant(optimizer.weight_decay or 0.0)
        self._norms = norms_of(model)
        averages = [
            average.value
            for layer in self._norms
            for average in (layer.moving_mean, layer.moving_variance)
        ]
        self._scratch = [
            tf.Variable(tf.zeros_like(average), trainable=False) for average in averages
        ]
        replaced = {
            id(average): scratch for average, scratch in zip(averages, self._scratch, strict=True)
        }
        self._scratch_states = [
            [replaced.get(id(value), value) for value in values] for values in segmented.states
        ]

    def epoch(self, batches: Any, rates: np.ndarray[Any, Any]) -> dict[str, float]:
        """Trains on batches, each at its own learning rate [steps].

        Stops as soon as the loss is no longer finite.

        Returns:
            The means of the loss and the metrics over the images, as Keras' `fit` reports them.
        """
        program, done = self._program, 0
        # The length is left open, so a different batch size does not retrace.
        all_rates = tf.Variable(tf.constant(rates, tf.float32), shape=[None], trainable=False)
        iterator, tally = iter(batches), program.nothing()
        while done < len(rates) and math.isfinite(float(tally[0])):
            start, steps = time.perf_counter(), min(program.steps, len(rates) - done)
            tally = program.epoch(
                iterator,
                all_rates,
                tf.constant(done),
                tf.constant(done + steps),
                self._decay,
                tally,
                *self._variables,
            )
            float(tally[0])  # waits for a device that runs asynchronously
            done += steps
            program.measure(steps, time.perf_counter() - start)
        return program.result(tally)

    def evaluate(self, batches: Any) -> dict[str, float]:
        """Scores batches of (images, targets) in inference mode, as Keras' `evaluate` does."""
        program = self._program
        tally = program.nothing()
        for images, wanted in batches:
            outputs, logits = program.forward(images, self._states, training=False)
            tally = program.score(wanted, outputs, logits, tally)
        return program.result(tally)

    def recalibrate(self, batches: Any) -> None:
        """Does what `reskeras.models.recalibration.recalibrate` does, over batches of images."""
        if not self._norms:
            return
        # Starting at zero, one update leaves (1 - momentum) times the batch's value.
        shares = [1 - layer.momentum for layer in self._norms for _ in range(2)]

        def moments(images: Any) -> list[np.ndarray[Any, Any]]:
            for scratch in self._scratch:
                scratch.assign(tf.zeros_like(scratch))
            self._program.forward(images, self._scratch_states, training=True)
            return [
                scratch.numpy().astype(np.float64) / share
                for scratch, share in zip(self._scratch, shares, strict=True)
            ]

        pooled(self._norms, batches, moments)


def compilable(model: Any, optimizer: Any) -> bool:
    """Whether a `CompiledTrainer` does what Keras' `fit` would."""
    if type(optimizer) not in (keras.optimizers.SGD, keras.optimizers.Adam):
        return False
    stock = type(optimizer)().get_config()
    changed = {name for name, value in optimizer.get_config().items() if value != stock[name]}
    return bool(
        changed <= _SETTINGS
        and hasattr(model, "_nodes_by_depth")
        and type(model).train_step is keras.Model.train_step
        and not model.losses
        and all(getattr(layer, "activity_regularizer", None) is None for layer in model.layers)
        # In float16 `fit` scales the loss; see `reskeras.training.fitted`.
        and all(
            getattr(layer.dtype_policy, "compute_dtype", None) != "float16"
            for layer in (model, *model.layers)
        )
        and all(
            variable.dtype == "float32" and variable.constraint is None
            for variable in model.trainable_variables
        )
        and all(layer.momentum < 1 for layer in norms_of(model))
    )


_SETTINGS = {
    "name",
    "learning_rate",
    "weight_decay",
    "momentum",
    "nesterov",
    "beta_1",
    "beta_2",
    "epsilon",
}
"""Optimizer settings that compiled training honors."""


def _update_rule(optimizer: Any) -> Update:
    """An optimizer's update rule, free of its slots: other networks reuse the rule."""
    bare = type(optimizer).from_config(optimizer.get_config())
    bare.build([])
    fused = fused_update(bare)
    assert fused is not None
    return fused[1]


class _Program:
    """The compiled functions for networks of one structure; variables are arguments."""

    def __init__(
        self,
        segmented: SegmentedModel,
        model: Any,
        targets: Targets,
        update: Update,
        decayed: tuple[bool, ...],
    ) -> None:
        self.segmented, self.update, self.decayed = segmented, update, decayed
        self.bytes = sum(
            variable.value.dtype.size * math.prod(variable.shape) for variable in model.variables
        )
        self.inputs, outputs = id(model.inputs[0]), outputs_of(model)
        self.names, self.outputs = list(outputs), [id(tensor) for tensor in outputs.values()]
        self.losses = targets.losses()
        self.heads, self.metrics = [], []
        """The number of the output that each metric scores, and the metrics."""
        for name, metrics in targets.metrics().items():
            self.heads += [self.names.index(name)] * len(metrics)
            self.metrics += metrics
        self.epoch = function(self._epoch)
        self.score = function(self._score, reduce_retracing=True)
        self.steps = 1
        self._compiled = False

    def measure(self, steps: int, seconds: float) -> None:
        """Adjusts the steps per call to the time taken. Ignores the first call, which compiles."""
        if self._compiled:
            self.steps = max(1, min(100 * self.steps, int(_CALL_SECONDS * steps / seconds)))
        self._compiled = True

    def nothing(self) -> list[Any]:
        """An empty tally: sum of losses, number of images, variables of the metrics."""
        metrics = [tf.zeros(v.shape, v.dtype) for metric in self.metrics for v in metric.variables]
        return [tf.constant(0.0), tf.constant(0.0), *metrics]

    def result(self, tally: list[Any]) -> dict[str, float]:
        """The mean loss and the metrics of a tally."""
        values, rest = {}, list(tally[2:])
        for head, metric in zip(self.heads, self.metrics, strict=True):
            mine, rest = rest[: len(metric.variables)], rest[len(metric.variables) :]
            values[f"{self.names[head]}_{metric.name}"] = float(metric.stateless_result(mine))
        return scores_of({**values, "loss": float(tally[0] / tf.maximum(tally[1], 1))})

    def forward(
        self, images: Any, states: list[list[Any]], *, training: bool
    ) -> tuple[list[Any], dict[int, Any]]:
        """The outputs, and the logits behind them by output number (see `SegmentedModel`)."""
        tensors = {self.inputs: images}
        self.segmented.run(tensors, training, states)
        outputs = [tensors[key] for key in self.outputs]
        return outputs, {
            n: out._keras_logits for n, out in enumerate(outputs) if hasattr(out, "_keras_logits")
        }

    def _loss(self, wanted: Any, outputs: list[Any], logits: dict[int, Any]) -> Any:
        for number, value in logits.items():
            outputs[number]._keras_logits = value
        pairs = zip(self.names, outputs, strict=True)
        losses = [
            self.losses[name](wanted[name] if isinstance(wanted, dict) else wanted, output)
            for name, output in pairs
        ]
        return tf.add_n(losses) / len(losses)

    def _score(
        self, wanted: Any, outputs: list[Any], logits: dict[int, Any], tally: list[Any]
    ) -> list[Any]:
        return self._tallied(self._loss(wanted, outputs, logits), wanted, outputs, tally)

    def _tallied(self, loss: Any, wanted: Any, outputs: list[Any], tally: list[Any]) -> list[Any]:
        images = tf.cast(tf.shape(outputs[0])[0], tf.float32)
        seen, rest = [tally[0] + loss * images, tally[1] + images], list(tally[2:])
        for head, metric in zip(self.heads, self.metrics, strict=True):
            mine, rest = rest[: len(metric.variables)], rest[len(metric.variables) :]
            target = wanted[self.names[head]] if isinstance(wanted, dict) else wanted
            seen += metric.stateless_update_state(mine, target, outputs[head])
        return seen

    def _epoch(
        self,
        iterator: Any,
        rates: Any,
        first: Any,
        last: Any,
        decay: Any,
        tally: list[Any],
        states: list[list[Any]],
        variables: list[Any],
        slots: list[list[Any]],
        iterations: Any,
    ) -> list[Any]:
        """Runs steps `first` to `last` (exclusive) of an epoch."""

        def step(number: Any, *tally: Any) -> Any:
            images, wanted = next(iterator)
            with tf.GradientTape() as tape:
                outputs, logits = self.forward(images, states, training=True)
                loss = self._loss(wanted, outputs, logits)
            gradients = tape.gradient(
                loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            rate = rates[number]
            for variable, decays in zip(variables, self.decayed, strict=True):
                if decays:
                    variable.assign(variable - variable * decay * rate)
            self.update(rate, tf.cast(iterations + 1, tf.float32), variables, slots, gradients)
            iterations.assign_add(1)
            return number + 1, *self._tallied(loss, wanted, outputs, list(tally))

        def continues(number: Any, total: Any, *_: Any) -> Any:
            return (number < last) & tf.math.is_finite(total)

        return list(tf.while_loop(continues, step, (first, *tally), parallel_iterations=1)[1:])
