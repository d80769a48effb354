"""Targets and scores of tasks whose labels are class numbers, per image or per pixel."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reskeras.tasks.metrics import PRECISION, RECALL, SUPPORT, Metric
from reskeras.tasks.task import Output

CALIBRATION_BINS = 15
"""Of probabilities, for the calibration error (arXiv 1706.04599)."""
IGNORED = -1
"""The number of a pixel without a class in a map of classes."""


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights that give all classes the same share of a loss: N/(K*n) for n of N, of K classes.

    A class that is not there has the largest weight of those that are, and is not one of the K.
    """
    there = [count for count in counts if count] or [1]
    rarest = min(there)
    return tuple(sum(there) / (len(there) * (count or rarest)) for count in counts)


def threshold(output: Output) -> float:
    """Threshold above which a single channel means class 1."""
    return 0.5 if output.activation == "sigmoid" else 0.0


def encoded(label: Any, output: Output) -> Any:
    """Converts a class, or a map of classes, to the form that the loss of an output takes.

    A pixel that is `IGNORED` stays this number; one-hot, it is zeros.
    """
    import tensorflow as tf

    if not output.binary:
        return label
    classes = output.shape[-1]
    if classes > 1:
        return tf.one_hot(label, classes)
    return tf.cast(label, "float32")[..., None]


def is_dense(target: Any, output: Output) -> bool:
    """Whether a batch of targets has a share for each class, and is no batch of class numbers."""
    return len(target.shape) == len(output.shape)


def dense(target: Any, output: Output) -> Any:
    """A batch of targets with a share for each channel of the output: zeros where ignored."""
    from keras import ops

    if is_dense(target, output):
        return ops.cast(target, "float32")
    return ops.one_hot(ops.cast(target, "int32"), output.shape[-1], dtype="float32")


def classes_in(target: Any, output: Output) -> tuple[Any, Any]:
    """The classes [N,...] of a batch of targets (0 where there is none), and where there is one."""
    from keras import ops

    if not is_dense(target, output):
        return ops.cast(ops.maximum(target, 0), "int32"), target > IGNORED
    if output.shape[-1] == 1:
        one = target[..., 0]
        return ops.cast(one > 0.5, "int32"), one > IGNORED
    return ops.argmax(target, axis=-1), ops.any(target > 0, axis=-1)


def shares(values: Any, output: Output) -> Any:
    """What a network answers as a share of each class, classes last; a single channel is two.

    The shares of sigmoids are made to add up to 1.
    """
    from keras import ops

    values = ops.cast(values, "float32")
    if output.shape[-1] == 1:
        one = values if output.activation == "sigmoid" else ops.sigmoid(values)
        return ops.concatenate([1 - one, one], axis=-1)
    if output.activation == "linear":
        return ops.softmax(values)
    if output.activation == "sigmoid":
        return values / ops.maximum(ops.sum(values, axis=-1, keepdims=True), 1e-7)
    return values


def chosen(values: Any, output: Output) -> Any:
    """The class that a network answers."""
    from keras import ops

    if output.shape[-1] == 1:
        return ops.cast(values[..., 0] > threshold(output), "int32")
    return ops.argmax(values, axis=-1)


def confusion(label: Any, answer: Any, classes: int, weights: Any) -> Any:
    """How often each class [K,K] of the labels (rows) got each answer (columns), by weight.

    Args:
        label: class numbers [...].
        answer: class numbers [...].
        classes: K.
        weights: what each counts [...].
    """
    from keras import ops

    numbers = ops.reshape(label * classes + answer, [-1])
    counts = ops.segment_sum(
        ops.reshape(ops.cast(weights, "float32"), [-1]), numbers, num_segments=classes * classes
    )
    return ops.reshape(counts, (classes, classes))


def stock_accuracy(output: Output) -> Any:
    """Keras' metric of the fraction of images, or of pixels, whose class is right."""
    import keras

    if output.shape[-1] == 1:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold(output))
    if output.binary:
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def accuracy_of(matrix: Any) -> Any:
    """The fraction that is right, from a confusion matrix [K,K]."""
    from keras import ops

    return ops.trace(matrix) / ops.maximum(ops.sum(matrix), 1e-9)


def mean_where(values: Any, there: Any) -> Any:
    """The mean of the values where `there` is; NaN if it is nowhere."""
    from keras import ops

    there = ops.cast(there, "float32")
    count = ops.sum(there)
    return ops.where(count > 0, ops.sum(values * there) / ops.maximum(count, 1), np.nan)


def overlaps(matrix: Any) -> tuple[Any, Any, Any]:
    """For each class of a confusion matrix [K,K]: what is right, what is labeled, what is answered.

    The Dice coefficient is 2 right / (labeled + answered), which is the F1 score; the intersection
    over union is right / (labeled + answered - right).
    """
    from keras import ops

    return ops.diagonal(matrix), ops.sum(matrix, axis=1), ops.sum(matrix, axis=0)


def ratio(part: Any, whole: Any) -> Any:
    """Part by whole, in NumPy; NaN where the whole is 0."""
    part, whole = np.asarray(part, "float64"), np.asarray(whole, "float64")
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def scores_by_class(matrix: Any) -> dict[Metric, Any]:
    """Support, precision and recall of each class [K] of a confusion matrix [K,K] in NumPy."""
    right, labeled, answered = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        SUPPORT: labeled,
        PRECISION: ratio(right, answered),
        RECALL: ratio(right, labeled),
    }


def f1_by_class(matrix: Any) -> Any:
    """The F1 score (Dice coefficient) of each class [K] of a confusion matrix in NumPy."""
    return ratio(2 * np.diagonal(matrix), matrix.sum(axis=1) + matrix.sum(axis=0))


def f1_of(matrix: Any, first: int = 0) -> Any:
    """The mean F1 score (Dice coefficient) of the classes from `first` that are there.

    A class is there if it is labeled or answered.
    """
    from keras import ops

    right, labeled, answered = (part[first:] for part in overlaps(matrix))
    return mean_where(2 * right / ops.maximum(labeled + answered, 1e-9), labeled + answered > 0)


def iou_of(matrix: Any, first: int = 0) -> Any:
    """The mean intersection over union of the classes from `first` that are there."""
    from keras import ops

    right, labeled, answered = (part[first:] for part in overlaps(matrix))
    union = labeled + answered - right
    return mean_where(right / ops.maximum(union, 1e-9), union > 0)
