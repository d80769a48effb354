"""Training with Keras' own `fit`: any backend, any precision, several devices."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from reskeras.models.recalibration import recalibrate_over
from reskeras.tasks.tally import COUNTED_LOSS
from reskeras.training.layer_rates import LayerRates
from reskeras.training.optimizers import for_fit, inner
from reskeras.training.replicas import for_replicas, whole_gradients
from reskeras.training.targets import Targets


class FittedTrainer:
    """Trains and scores one network, as `reskeras.training.compiled.CompiledTrainer` does.

    It trains on the devices of the `tf.distribute.Strategy` (TensorFlow) or
    `keras.distribution.Distribution` (JAX) that is active when it is created. The loss of a batch
    is the mean over all its images, or is of the overlap in all of them, however they are divided
    among devices.

    Args:
        model: a built network; with a strategy or distribution, built within its scope.
        targets: the model's targets.
        optimizer: including its learning-rate schedule.
        penalty: the L2 penalty of the weights that decay (see `penalty_of`).
        rates: factors of the learning rate by variable; None if all are 1.
    """

    def __init__(
        self,
        model: Any,
        targets: Targets,
        optimizer: Any,
        *,
        penalty: float = 0.0,
        rates: LayerRates | None = None,
    ) -> None:
        self._model = self._runner = self._single = model
        self._devices = _devices()
        optimizer = for_fit(optimizer, penalty, rates, self._devices.kind(type(optimizer)))
        if isinstance(self._devices, _Mirrored):
            self._runner = _shared(model, None if targets.trains_as_reported else targets.counted)
            # Recalibration runs on one device: a strategy keeps separate batch-norm averages on
            # each.
            self._single = keras.models.clone_model(model)
        with self._devices.scope():
            self._runner.compile(optimizer, **targets.compile_options())
            # A step that creates variables while traced is traced twice, so the variables of
            # optimizer and metrics are created first.
            self._runner.optimizer.build(self._runner.trainable_variables)
            target, output = targets.example()
            self._runner.compute_loss(None, target, output)
            self._runner.compute_metrics(None, target, output)
            self._runner.reset_metrics()
        self.optimizer = self._runner.optimizer

    def epoch(self, batches: Any, rates: np.ndarray) -> dict[str, float]:
        """Trains on batches. Only the number of `rates` counts: the optimizer has its schedule."""
        return scores_of(self._devices.fit(self._runner, batches, len(rates)))

    def losses(self, batches: Any, rates: np.ndarray) -> Iterator[float]:
        """Trains on batches one by one; yields the loss of each, from before its step."""
        import tensorflow as tf

        for batch, _ in zip(batches, rates, strict=False):
            yield self.epoch(tf.data.Dataset.from_tensors(batch), rates[:1])["loss"]

    def scope(self) -> Any:
        """The context in which variables of the model are made."""
        return self._devices.scope()

    def reschedule(self, schedule: Any) -> None:
        """Trains with another schedule from the next epoch on."""
        inner(self.optimizer).learning_rate = schedule
        self._runner.make_train_function(force=True)

    def thaw_at(self, step: int) -> None:
        """Lets frozen variables learn from this step of the optimizer on."""
        inner(self.optimizer).thaw = step
        self._runner.make_train_function(force=True)

    def evaluate(self, batches: Any) -> dict[str, float]:
        """Scores batches of (images, targets)."""
        return scores_of(self._devices.evaluate(self._runner, batches))

    def recalibrate(self, batches: Any) -> None:
        """Does what `reskeras.models.recalibration.recalibrate` does, over batches of images."""
        if self._single is not self._model:
            self._single.set_weights(self._model.get_weights())
        recalibrate_over(self._single, batches)
        if self._single is not self._model:
            self._model.set_weights(self._single.get_weights())


def scores_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """The loss and the scores of the last head.

    Keras also reports the losses of the other heads; these are part of the total loss already. If
    not all counts alike, the loss is the mean of the outputs' own (see `Targets.metrics`).
    """
    # A metric of several scores is a mapping, which some of Keras' loops return as it is.
    nested = [value for value in logs.values() if isinstance(value, Mapping)]
    logs = {name: value for name, value in logs.items() if not isinstance(value, Mapping)}
    for values in nested:
        logs = {**logs, **values}
    counted = [float(value) for name, value in logs.items() if name.endswith(COUNTED_LOSS)]
    scores = {
        name.removeprefix("head_"): float(value)
        for name, value in logs.items()
        if not name.endswith("_loss")
    }
    return {
        **{name: value for name, value in scores.items() if name != "loss"},
        "loss": sum(counted) / len(counted) if counted else scores["loss"],
    }


class _OneDevice:
    """Keras' own loops."""

    def scope(self) -> Any:
        return contextlib.nullcontext()

    def kind(self, optimizer: type) -> type:
        """The class of optimizers to train with, made from one of Keras'."""
        return optimizer

    def fit(self, model: Any, batches: Any, steps: int) -> Mapping[str, Any]:
        history = model.fit(batches, epochs=1, shuffle=False, verbose=0).history
        return {name: values[-1] for name, values in history.items()}

    def evaluate(self, model: Any, batches: Any) -> Mapping[str, Any]:
        scores: Mapping[str, Any] = model.evaluate(batches, verbose=0, return_dict=True)
        return scores


class _Mirrored(_OneDevice):
    """The replicas of a `tf.distribute.Strategy`; parts of a batch differ by one image at most."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    def scope(self) -> Any:
        return self._strategy.scope()

    def kind(self, optimizer: type) -> type:
        return for_replicas(optimizer)

    def fit(self, model: Any, batches: Any, steps: int) -> Mapping[str, Any]:
        # Without the number of steps, Keras reads past the last batch and counts an empty update.
        with self.scope():
            history = model.fit(
                self._shares(batches), epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0
            ).history
        return {name: values[-1] for name, values in history.items()}

    def evaluate(self, model: Any, batches: Any) -> Mapping[str, Any]:
        steps = int(batches.cardinality())
        with self.scope():
            scores: Mapping[str, Any] = model.evaluate(
                self._shares(batches),
                steps=steps if steps > 0 else None,
                verbose=0,
                return_dict=True,
            )
        return scores

    def _shares(self, batches: Any) -> Any:
        # TensorFlow fills one replica after another, so a small last batch would leave the last
        # replicas little or nothing.
        import tensorflow as tf

        count = self._strategy.num_replicas_in_sync

        def parts(images: Any, targets: Any) -> Any:
            size = tf.shape(images, tf.int64)[0]

            def part(number: Any) -> Any:
                start, stop = number * size // count, (number + 1) * size // count
                # With fewer images than replicas, some replicas run one image that is not counted:
                # convolutions fail on an empty batch.
                stop_run = tf.maximum(stop, start + 1)
                return (
                    *tf.nest.map_structure(lambda whole: whole[start:stop_run], (images, targets)),
                    stop - start,
                )

            return tf.data.Dataset.range(count).map(part)

        return self._strategy.distribute_datasets_from_function(
            lambda _: batches.flat_map(parts).prefetch(count)
        )


class _Parallel(_OneDevice):
    """The devices of a `keras.distribution.Distribution` on JAX.

    Each device computes the whole of a batch that cannot be divided equally.
    """

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution
        self._count = int(np.prod(distribution.device_mesh.shape))

    def scope(self) -> Any:
        return _in_force(self._distribution)

    def fit(self, model: Any, batches: Any, steps: int) -> Mapping[str, Any]:
        # Keras lays out each batch like the first, so the last, possibly smaller, one goes
        # separately.
        iterator, sums = batches.as_numpy_iterator(), []
        if steps > 1:
            first = (batch for batch in itertools.islice(iterator, steps - 1))  # as Keras wants it
            with self.scope():
                model.fit(first, epochs=1, steps_per_epoch=steps - 1, shuffle=False, verbose=0)
            sums = [np.asarray(variable) for variable in model.metrics_variables]
        for inputs, targets in iterator:
            with self.scope() if len(inputs) % self._count == 0 else _in_force(None):
                model.train_on_batch(inputs, targets)
        # Metrics hold sums over what they have seen; `train_on_batch` starts them anew.
        for variable, value in zip(model.metrics_variables, sums, strict=False):
            variable.assign(np.asarray(variable) + value)
        found: Mapping[str, Any] = model.get_metrics_result()
        return found

    def evaluate(self, model: Any, batches: Any) -> Mapping[str, Any]:
        # Every device runs whole batches: their sizes depend on the data and may not divide evenly.
        with _in_force(None):
            return super().evaluate(model, batches)


@contextlib.contextmanager
def _in_force(distribution: Any) -> Iterator[None]:
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _devices() -> _OneDevice:
    """The devices of the active strategy or distribution."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return (
            _Mirrored(tf.distribute.get_strategy())
            if tf.distribute.has_strategy()
            else _OneDevice()
        )
    distribution = keras.distribution.distribution()
    return _OneDevice() if distribution is None else _Parallel(distribution)


def _shared(model: Any, counted: Any) -> Any:
    """A model on the layers of `model` that weighs every image equally in uneven parts of a batch.

    Keras averages the means of the replicas, which is the mean over the images only when all
    replicas have the same number of images.

    Args:
        model: the network.
        counted: `Targets.counted` if some pixels may be ignored, or losses are of the whole batch:
            each loss is told then what this replica's part of it weighs, which is 0 for an image
            that is run without being counted. None otherwise.
    """
    import tensorflow as tf

    class Shared(keras.Model):  # type: ignore[misc]
        def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
            """Does nothing: all is built. Keras' version requires replicas with equal parts."""

        def train_step(self, data: Any) -> Any:
            images, targets, count = data
            context = tf.distribute.get_replica_context()
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
            weight = tf.cast(count * context.num_replicas_in_sync, "float32") / tf.cast(
                total, "float32"
            )
            weights = None
            if counted is not None:  # how many pixels count differs from output to output
                weight, weights = 1.0, self._shares(targets, count)
            with tf.GradientTape() as tape:
                outputs = self(images, training=True)
                # Mean over this replica's images, divided by the number of replicas
                loss = self.compute_loss(images, targets, outputs, weights, training=True)
                scaled = self.optimizer.scale_loss(loss * weight)
            gradients = tape.gradient(
                scaled,
                self.trainable_variables,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            self.optimizer.apply(whole_gradients(gradients), self.trainable_variables)
            return self._scored(data, outputs, loss)

        def _shares(self, targets: Any, count: Any) -> Any:
            """What the mean over this replica's pixels weighs in that over all, of each output."""
            context = tf.distribute.get_replica_context()

            def share(here: Any) -> Any:
                total = tf.maximum(context.all_reduce(tf.distribute.ReduceOp.SUM, here), 1)
                return tf.reshape(here * context.num_replicas_in_sync / total, [1, 1, 1])

            here = counted(tf.nest.map_structure(lambda whole: whole[:count], targets))
            return tf.nest.map_structure(share, here)

        def test_step(self, data: Any) -> Any:
            images, targets, _ = data
            outputs = self(images, training=False)
            return self._scored(
                data, outputs, self.compute_loss(images, targets, outputs, None, training=False)
            )

        def _scored(self, data: Any, outputs: Any, loss: Any) -> Any:
            images, targets, count = data
            self._loss_tracker.update_state(
                loss * self.distribute_strategy.num_replicas_in_sync, sample_weight=count
            )
            counted = tf.nest.map_structure(lambda whole: whole[:count], (images, targets, outputs))
            return self.compute_metrics(*counted)

    shared = Shared(inputs=model.input, outputs=model.output, name=f"{model.name}_shared")
    shared.dtype_policy = model.dtype_policy  # in float16, Keras then scales the loss
    return shared
