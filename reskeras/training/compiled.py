"""Training and scoring in a few compiled calls that networks share. TensorFlow on one device only.

Most of a short training is overhead: Keras traces the step, compiles it, and crosses from Python to
TensorFlow at every step. A `CompiledTrainer` runs a whole epoch in one call (or in calls of about a
second) and takes the variables as arguments. A second network of the same structure, with different
initial weights or another learning rate, reuses what the first one compiled. Networks that differ
only in depth share the traces of their blocks (see `reskeras.training.segments`).
"""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.models.outputs import outputs_of
from reskeras.models.recalibration import norms_of, pooled
from reskeras.training.fitted import scores_of
from reskeras.training.layer_rates import LayerRates
from reskeras.training.optimizers import averages_of
from reskeras.training.segments import SegmentedModel, Update, function, fused_update
from reskeras.training.targets import Targets

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
        optimizer: as `compilable` requires. It is built here, and its slots are used.
        penalty: the L2 penalty of the weights that decay (see `penalty_of`).
        rates: factors of the learning rate by variable; None if all are 1.
        recompute: see `SegmentedModel`.
        programs: compiled functions to share with other trainings.
    """

    def __init__(
        self,
        model: Any,
        targets: Targets,
        optimizer: Any,
        *,
        penalty: float = 0.0,
        rates: LayerRates | None = None,
        recompute: bool,
        programs: Programs,
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
            bool(optimizer.weight_decay or penalty) and optimizer._use_weight_decay(v)
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
            bool(penalty),
            rates is None,
            trained,
            targets.signature,
            targets.loss_signature,
        )
        if key not in programs.compiled:
            step = _Step(optimizer, decayed, coupled=bool(penalty))
            programs.keep(key, _Program(segmented, model, targets, step))
        self._program = programs.compiled[key]
        self._states = segmented.states
        variables = [variable.value for variable in model.trainable_variables]
        sums = optimizer._accumulated_gradients if optimizer.gradient_accumulation_steps else []
        self._variables = (
            segmented.states,
            variables,
            slots,
            [total.value for total in sums],
            [average.value for _, average in averages_of(optimizer)],
            optimizer._iterations.value,
        )
        self._factors: tuple[Any, ...] = ()
        if rates is not None:
            self._factors = tf.constant(rates.factors), tf.constant(rates.first)
        self._thaw = 0
        self._decay = tf.constant(penalty or optimizer.weight_decay or 0.0)
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
                (*self._factors, tf.constant(self._thaw)) if self._factors else (),
                tally,
                *self._variables,
            )
            float(tally[0])  # waits for a device that runs asynchronously
            done += steps
            program.measure(steps, time.perf_counter() - start)
        return program.result(tally)

    def losses(self, batches: Any, rates: np.ndarray[Any, Any]) -> Iterator[float]:
        """Trains on batches one by one; yields the loss of each, from before its step."""
        iterator = iter(batches)
        for number in range(len(rates)):
            yield self.epoch(iterator, rates[number : number + 1])["loss"]

    def scope(self) -> Any:
        """The context in which variables of the model are made."""
        return contextlib.nullcontext()

    def reschedule(self, schedule: Any) -> None:
        """Gives the optimizer another schedule; `epoch` gets its rates."""
        self.optimizer.learning_rate = schedule

    def thaw_at(self, step: int) -> None:
        """Lets frozen variables learn from this step of the optimizer on."""
        self._thaw = step

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
    if type(optimizer) not in _OPTIMIZERS:
        return False
    stock = type(optimizer)().get_config()
    changed = {name for name, value in optimizer.get_config().items() if value != stock[name]}
    return bool(
        changed - ({"momentum"} if type(optimizer) is keras.optimizers.SGD else set()) <= _SETTINGS
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


_OPTIMIZERS = (
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.RMSprop,
    keras.optimizers.Lion,
)
_SETTINGS = {
    "name",
    "learning_rate",
    "weight_decay",
    "nesterov",
    "beta_1",
    "beta_2",
    "rho",
    "epsilon",
    "global_clipnorm",
    "gradient_accumulation_steps",
    "use_ema",
    "ema_momentum",
}
"""Optimizer settings that compiled training honors, besides SGD's momentum."""


class _Step:
    """What an optimizer does with the gradients of a batch, in the order of Keras' `apply`.

    It holds none of the optimizer's variables: other networks reuse it.

    Args:
        optimizer: as `CompiledTrainer` takes it.
        decayed: which variables decay.
        coupled: whether the decay is an L2 penalty, otherwise decoupled.
    """

    def __init__(self, optimizer: Any, decayed: tuple[bool, ...], *, coupled: bool) -> None:
        bare = type(optimizer).from_config(optimizer.get_config() | {"learning_rate": 0.0})
        bare.build([])
        fused = fused_update(bare)
        assert fused is not None
        self._update: Update = fused[1]
        self._decayed, self._coupled = decayed, coupled
        self._most, self._batches = bare.global_clipnorm, bare.gradient_accumulation_steps
        self._ema = bare.ema_momentum if bare.use_ema else None

    def __call__(
        self,
        gradients: list[Any],
        rate: Any,
        decay: Any,
        factors: tuple[Any, ...],
        variables: list[Any],
        slots: list[list[Any]],
        sums: list[Any],
        averages: list[Any],
        iterations: Any,
    ) -> None:
        """Updates all variables in place.

        Args:
            gradients: of the loss by each variable.
            rate: the learning rate.
            decay: the weight decay, or the factor of the penalty.
            factors: of the rate for each variable, those before frozen ones learn, and the batch
                from which they do; empty if all are 1.
            variables: those that are trained.
            slots: the optimizer's, of each variable.
            sums: of earlier gradients, with accumulation.
            averages: of each variable, with averaging.
            iterations: the number of batches before this one.
        """
        if self._coupled:
            gradients = [
                gradient + decay * variable if decays else gradient
                for gradient, variable, decays in zip(
                    gradients, variables, self._decayed, strict=True
                )
            ]
        count = iterations // self._batches if self._batches else iterations
        rates = [rate] * len(variables)
        if factors:
            later, first, thaw = factors
            scales = tf.where(iterations < tf.cast(thaw, iterations.dtype), first, later)
            rates = tf.unstack(rate * scales, len(variables))

        def update(gradients: list[Any]) -> None:
            if self._most is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, self._most)
            if not self._coupled:
                for one, variable, decays in zip(rates, variables, self._decayed, strict=True):
                    if decays:
                        variable.assign(variable - variable * decay * one)
            self._update(rates, tf.cast(count + 1, tf.float32), variables, slots, gradients)

        def last() -> None:
            pairs = zip(sums, gradients, strict=True)
            update([(total + gradient) / self._batches for total, gradient in pairs])
            for total in sums:
                total.assign(tf.zeros_like(total))

        def another() -> None:
            for total, gradient in zip(sums, gradients, strict=True):
                total.assign_add(gradient)

        if self._batches:
            tf.cond(tf.equal((iterations + 1) % self._batches, 0), last, another)
        else:
            update(gradients)
        if self._ema is not None:
            kept = tf.where(tf.equal(count, 0), 0.0, self._ema)
            for average, variable in zip(averages, variables, strict=True):
                average.assign(kept * average + (1 - kept) * variable)
        iterations.assign_add(1)


class _Program:
    """The compiled functions for networks of one structure; variables are arguments."""

    def __init__(
        self,
        segmented: SegmentedModel,
        model: Any,
        targets: Targets,
        step: _Step,
    ) -> None:
        self.segmented, self.step = segmented, step
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
        values: dict[str, float] = {}
        rest = list(tally[2:])
        for head, metric in zip(self.heads, self.metrics, strict=True):
            mine, rest = rest[: len(metric.variables)], rest[len(metric.variables) :]
            value = metric.stateless_result(mine)
            named = value if isinstance(value, dict) else {metric.name: value}
            values |= {f"{self.names[head]}_{name}": float(one) for name, one in named.items()}
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
        factors: tuple[Any, ...],
        tally: list[Any],
        states: list[list[Any]],
        variables: list[Any],
        *of_optimizer: Any,
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
            self.step(gradients, rates[number], decay, factors, variables, *of_optimizer)
            return number + 1, *self._tallied(loss, wanted, outputs, list(tally))

        def continues(number: Any, total: Any, *_: Any) -> Any:
            return (number < last) & tf.math.is_finite(total)

        return list(tf.while_loop(continues, step, (first, *tally), parallel_iterations=1)[1:])
