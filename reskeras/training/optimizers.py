"""Learning rates and optimizers, as a training spec describes them."""

import math
from typing import Any

import keras

from reskeras.spec import TrainSpec


def make_schedule(spec: TrainSpec, first: int, last: int) -> Any:
    """The learning rate at each step from `first` to `last`: a number, or a function of the step.

    Steps count from `first`. A training that continues from another's weights takes the end of the
    cosine: from where it is at that step down to zero.
    """
    if spec.schedule == "constant":
        return spec.learning_rate
    rate = spec.learning_rate * 0.5 * (1 + math.cos(math.pi * first / last))
    # 1 when nothing is left to train
    return keras.optimizers.schedules.CosineDecay(rate, decay_steps=max(1, last - first))


def make_optimizer(spec: TrainSpec, rate: Any) -> Any:
    """A Keras optimizer whose weight decay spares biases and normalization."""
    decay = spec.weight_decay or None
    match spec.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
