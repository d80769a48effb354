"""Optimizers, as a training spec describes them."""

from typing import Any

import keras

from reskeras.spec import TrainSpec
from reskeras.training.layer_rates import LayerRates

_SPARED = ["bias", "gamma", "beta"]
"""Names of variables that do not decay."""


def make_optimizer(spec: TrainSpec, rate: Any) -> Any:
    """A stock Keras optimizer whose weight decay spares biases and normalization.

    It has no L2 penalty, which Keras' optimizers lack: see `penalty_of`.

    Args:
        spec: the training.
        rate: the learning rate, or Keras' schedule of it.
    """
    optimizers = keras.optimizers
    options: dict[str, Any] = {
        "weight_decay": None if penalty_of(spec) else spec.weight_decay or None,
        "global_clipnorm": spec.clip_norm or None,
        "gradient_accumulation_steps": spec.accumulate if spec.accumulate > 1 else None,
    }
    if spec.ema:
        options |= {"use_ema": True, "ema_momentum": spec.ema}
    match spec.optimizer:
        case "adam":
            optimizer = optimizers.Adam(rate, **options)
        case "adamw":
            options["weight_decay"] = spec.weight_decay  # Keras' class takes no None
            optimizer = optimizers.AdamW(rate, **options)
        case "sgd":
            optimizer = optimizers.SGD(rate, spec.momentum, spec.nesterov, **options)
        case "rmsprop":
            optimizer = optimizers.RMSprop(rate, **options)
        case "lion":
            optimizer = optimizers.Lion(rate, **options)
    optimizer.exclude_from_weight_decay(var_names=_SPARED)
    return optimizer


def penalty_of(spec: TrainSpec) -> float:
    """The factor of a decayed weight in its gradient; 0 for decoupled weight decay."""
    coupled = spec.weight_decay_kind == "l2" and spec.optimizer != "adamw"
    return spec.weight_decay if coupled else 0.0


def for_fit(
    optimizer: Any, penalty: float, rates: LayerRates | None = None, kind: Any = None
) -> Any:
    """An optimizer for Keras' `fit` with an L2 penalty, rates by variable, and averages apart.

    At its end, `fit` overwrites the weights by their averages; but each epoch is a `fit` here, and
    the next one continues from the weights.

    Args:
        optimizer: as `make_optimizer` returns it. Returned as it is if it needs nothing more.
        penalty: see `penalty_of`.
        rates: factors of the learning rate by variable; None if all are 1. The optimizer's `thaw`
            is the step from which frozen variables learn.
        kind: the class to make it from (see `for_replicas`); None for the optimizer's own.
    """
    kind = kind or type(optimizer)
    if not (penalty or optimizer.use_ema or rates is not None or kind is not type(optimizer)):
        return optimizer

    class Fitting(kind):  # type: ignore[misc]
        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            if penalty:
                variables = trainable_variables or self._trainable_variables
                grads = [
                    grad + keras.ops.cast(penalty * variable, grad.dtype)
                    if grad is not None and self._use_weight_decay(variable)
                    else grad
                    for grad, variable in zip(grads, variables, strict=True)
                ]
            super().apply(grads, trainable_variables)

        def finalize_variable_values(self, var_list: Any) -> None:
            """Does nothing."""

    class Layerwise(Fitting):
        thaw = 0

        def _factor(self, variable: Any) -> Any:
            assert rates is not None
            number = self._get_variable_index(variable)
            early = self._iterations < self.thaw
            return keras.ops.where(early, rates.first[number], rates.factors[number])

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = learning_rate * keras.ops.cast(self._factor(variable), learning_rate.dtype)
            if self.weight_decay and self._use_weight_decay(variable):
                self.assign_sub(variable, variable * self.weight_decay * rate)
            super().update_step(gradient, variable, rate)

        def _apply_weight_decay(self, variables: Any) -> None:
            """Does nothing: Keras would multiply the decay by one rate for all."""

    made = Fitting if rates is None else Layerwise
    fitting = made.from_config(optimizer.get_config() | {"learning_rate": 0.0})
    fitting.learning_rate = optimizer._learning_rate
    fitting.exclude_from_weight_decay(var_names=_SPARED)
    return fitting


def averages_of(optimizer: Any) -> list[tuple[Any, Any]]:
    """The trained variables of a built optimizer, each with its moving average; empty without."""
    optimizer = inner(optimizer)
    if not optimizer.use_ema:
        return []
    averages = optimizer._model_variables_moving_average
    return list(zip(optimizer._trainable_variables, averages, strict=True))


def inner(optimizer: Any) -> Any:
    """The optimizer itself, if Keras wrapped it to scale the loss in float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)
