"""Losses and metrics over the images and pixels that have a class, of classes with weights.

A network that meets none of both trains with the stock objects of its task. These wrap them, for
training and scoring alone: a saved model names only classes of Keras.
"""

from typing import Any

import keras

from reskeras.tasks.class_labels import IGNORED
from reskeras.tasks.task import Output

COUNTED_LOSS = "counted_loss"
"""The metric of each output that is its loss: Keras averages batches, whatever counts in them."""


class CountedLoss(keras.losses.Loss):  # type: ignore[misc]
    """The mean of a stock loss over the images or pixels of a batch that have a class.

    It is 0 if none has.

    Args:
        loss: a stock loss with a value for each image or pixel.
        output: the output that it is a loss of.
        weights: what the loss of each class is multiplied by; empty for 1.
    """

    def __init__(self, loss: Any, output: Output, weights: tuple[float, ...] = ()) -> None:
        super().__init__(name=loss.name)
        self._loss, self._output, self._weights = loss, output, weights

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        y_true, has_class = _known(y_true, self._output)
        counts = keras.ops.cast(has_class, "float32")
        # The stock loss divides by all of them.
        size = keras.ops.cast(keras.ops.size(counts), "float32")
        weights = counts * (size / keras.ops.maximum(keras.ops.sum(counts), 1))
        if self._weights:
            weights *= self._of_classes(y_true)
        if sample_weight is not None:
            weights *= sample_weight
        return self._loss(y_true, y_pred, weights)

    def _of_classes(self, y_true: Any) -> Any:
        weights = keras.ops.convert_to_tensor(self._weights, "float32")
        if not self._output.binary:
            return keras.ops.take(weights, keras.ops.cast(y_true, "int32"))
        if self._output.shape[-1] == 1:
            return keras.ops.take(weights, keras.ops.cast(y_true[..., 0], "int32"))
        return keras.ops.sum(weights * keras.ops.cast(y_true, "float32"), axis=-1)


class CountedMetric(keras.metrics.Metric):  # type: ignore[misc]
    """A stock metric over the images or pixels that have a class."""

    def __init__(self, metric: Any, output: Output) -> None:
        super().__init__(name=metric.name)
        self._metric, self._output = metric, output

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, has_class = _known(y_true, self._output)
        self._metric.update_state(y_true, y_pred, sample_weight=has_class)

    def result(self) -> Any:
        return self._metric.result()


class MeanLoss(keras.metrics.Mean):  # type: ignore[misc]
    """The mean of a stock loss over all images or pixels that have a class."""

    def __init__(self, loss: Any, output: Output) -> None:
        super().__init__(name=COUNTED_LOSS)
        self._loss, self._output = loss, output

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, has_class = _known(y_true, self._output)
        super().update_state(self._loss.call(y_true, y_pred), has_class)


def counted(target: Any, output: Output) -> Any:
    """The number of images or pixels of a batch that have a class."""
    return keras.ops.sum(keras.ops.cast(_known(target, output)[1], "float32"))


def _known(target: Any, output: Output) -> tuple[Any, Any]:
    """A target with some class everywhere, and where it is its own."""
    if not output.binary:
        has_class = target > IGNORED
    elif output.shape[-1] == 1:
        has_class = target[..., 0] > IGNORED
    else:
        has_class = keras.ops.any(target > 0, axis=-1)
    return keras.ops.maximum(target, 0), has_class
