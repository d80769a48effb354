"""Keras metrics of a task's scores, which add up over batches and devices."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from reskeras.tasks.class_labels import is_dense
from reskeras.tasks.losses import for_dense
from reskeras.tasks.task import Facts, Output, Task

COUNTED_LOSS = "counted_loss"
"""The metric of each output that is its loss: Keras averages batches, whatever counts in them."""


class Tally(keras.metrics.Metric):  # type: ignore[misc]
    """All scores of a task but the loss, from sums over images; `result` is a mapping."""

    def __init__(self, task: Task, output: Output, facts: Facts) -> None:
        super().__init__(name="tally")
        self._task, self._output, self._facts = task, output, facts
        example = task.targets(_label(task, facts), {"head": output}, facts)["head"]
        target = np.asarray(example)[None]
        answer = np.zeros((1, *output.shape[1:]), "float32")
        sums = self._sums(target, answer)
        self._sizes = {name: tuple(value.shape) for name, value in sums.items()}
        self._total = {
            name: self.add_weight(shape=size, initializer="zeros", name=name)
            for name, size in self._sizes.items()
        }

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        for name, value in self._sums(y_true, y_pred).items():
            self._total[name].assign_add(ops.cast(value, "float32"))

    def result(self) -> Mapping[str, Any]:
        return self._task.scores(
            {name: ops.convert_to_tensor(value) for name, value in self._total.items()},
            self._facts,
        )

    def _sums(self, target: Any, output: Any) -> Mapping[str, Any]:
        statistics = self._task.statistics(target, output, self._output, self._facts)
        return self._task.summed(statistics, self._facts)


class MeanLoss(keras.metrics.Mean):  # type: ignore[misc]
    """The mean of the reported loss over all images or pixels that have one."""

    def __init__(self, task: Task, output: Output, facts: Facts) -> None:
        super().__init__(name=COUNTED_LOSS)
        self._task, self._output = task, output
        self._loss = task.loss(output, facts)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        counts, loss = self._task.counts(y_true, self._output), self._loss
        if counts is not None:
            if is_dense(y_true, self._output):
                loss = for_dense(loss, self._output)
            y_true = ops.maximum(y_true, 0)
        super().update_state(loss.call(y_true, y_pred), counts)


def counted(task: Task, target: Any, output: Output) -> Any:
    """How many images or pixels of a batch have a loss."""
    counts = task.counts(target, output)
    if counts is None:
        return ops.cast(ops.shape(target)[0], "float32")
    return ops.sum(ops.cast(counts, "float32"))


def _label(task: Task, facts: Facts) -> Any:
    """A label of zeros."""
    import tensorflow as tf

    shape = task.labels.shape(facts.image_shape, facts.classes)
    return tf.zeros(shape, task.labels.dtype)
