"""Losses, targets and metrics of tasks whose labels are classes, per image or per pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

from reskeras.tasks.task import Output

IGNORED = -1
"""The number of a pixel without a class in a map of classes."""


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights that give all classes the same share of a loss: N/(K*n) for n of N, of K classes.

    A class that is not there has the largest weight of those that are, and is not one of the K.
    """
    there = [count for count in counts if count] or [1]
    rarest = min(there)
    return tuple(sum(there) / (len(there) * (count or rarest)) for count in counts)


def cross_entropies(outputs: Mapping[str, Output]) -> dict[str, Any]:
    """Cross-entropy of each output."""
    import keras

    losses = {}
    for name, output in outputs.items():
        kind = (
            keras.losses.BinaryCrossentropy
            if output.binary
            else keras.losses.SparseCategoricalCrossentropy
        )
        losses[name] = kind(from_logits=output.activation == "linear", name="loss")
    return losses


def accuracy(output: Output) -> Any:
    """Fraction of images, or of pixels, whose class is right."""
    import keras

    if output.shape[-1] == 1:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold(output))
    if output.binary:
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


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
