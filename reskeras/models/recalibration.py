"""Recomputes batch-norm statistics from images, and freezes layers."""

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from reskeras.errors import RequestError, did_you_mean
from reskeras.nets.cost import PASS_BYTES

Moment = np.ndarray[Any, Any]

MOST_RECALIBRATED = 8192
"""Most images to compute statistics from."""


def recalibrate(
    model: keras.Model,
    images: Any,
    max_images: int = MOST_RECALIBRATED,
    *,
    batch_size: int = 32,
) -> int:
    """Sets every batch norm's moving statistics to the mean and population variance over images.

    A frozen batch norm (`trainable` false) keeps its statistics, because it also uses them in
    training.

    The images pass in batches as large as 64 MiB of activations allow (at least `batch_size`
    images), each normalized by its own statistics. If one batch holds all images, the result is
    exact and self-consistent: in inference mode, every batch norm's output over these images has
    mean beta and variance gamma^2 v / (v + epsilon). With more batches, moments are pooled over all
    of them (mean of means; mean of variances plus variance of means), which is the "precise batch
    norm" of arXiv 2105.07576.

    Args:
        model: a built model; its batch norms' statistics change in place.
        images: an unbatched `tf.data.Dataset` of images [H,W,C], or an array [N,H,W,C].
        max_images: use at most this many, from the start: give them in random order.
        batch_size: images that pass at once, at least: a pass of as many as a training batch needs
            no more memory than training.

    Returns:
        The number of images used; 0 for a model without batch norm.

    Raises:
        RequestError: there are no images; nothing changes.
    """
    return recalibrate_over(model, _batches(images, max_images, images_per_pass(model, batch_size)))


def recalibrate_over(model: keras.Model, batches: Iterable[Any]) -> int:
    """Like `recalibrate`, for an iterable of batches [N,H,W,C]."""
    norms = norms_of(model)
    if not norms:
        return 0
    momenta = [layer.momentum for layer in norms]

    def moments(batch: Any) -> list[Moment]:
        model(batch, training=True)
        return [
            keras.ops.convert_to_numpy(average).astype(np.float64)
            for layer in norms
            for average in (layer.moving_mean, layer.moving_variance)
        ]

    for layer in norms:
        layer.momentum = 0.0  # a forward pass then stores its own batch's moments
    try:
        return pooled(norms, batches, moments)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum


def norms_of(model: keras.Model) -> list[Any]:
    """The batch norms of a model that are not frozen."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def pooled(
    norms: Sequence[Any], batches: Iterable[Any], moments: Callable[[Any], Sequence[Moment]]
) -> int:
    """Sets batch-norm statistics to moments pooled over batches; returns the number of images.

    Args:
        norms: the layers.
        batches: of images.
        moments: runs a batch and returns the means and variances of each norm's input, in turn, in
            float64.

    Raises:
        RequestError: there are no images.
    """
    means = [np.zeros(layer.moving_mean.shape) for layer in norms]
    squares = [np.zeros(layer.moving_mean.shape) for layer in norms]
    count = 0
    for batch in batches:
        found = iter(moments(batch))
        count += len(batch)
        for index, (mean, variance) in enumerate(zip(found, found, strict=True)):
            means[index] += len(batch) * mean
            squares[index] += len(batch) * (variance + mean**2)
    if count == 0:
        raise RequestError("there are no images to compute batch-norm statistics from")
    for layer, mean, square in zip(norms, means, squares, strict=True):
        layer.moving_mean.assign(mean / count)
        layer.moving_variance.assign(square / count - (mean / count) ** 2)
    return count


def freeze(model: keras.Model, pattern: str) -> int:
    """Makes the layers whose names match a shell pattern (such as `encoder_*`) untrainable.

    Call it before `compile`. A frozen batch norm keeps its moving statistics and normalizes by them
    in training too, as Keras defines it.

    Returns:
        The number of frozen layers that have weights.

    Raises:
        RequestError: no layer with weights matches.
    """
    layers = [
        layer
        for layer in model.layers
        if layer.weights and fnmatch.fnmatchcase(layer.name, pattern)
    ]
    if not layers:
        names = [layer.name for layer in model.layers if layer.weights] or ["(none)"]
        raise RequestError(
            f"no layer with weights is called {pattern!r}{did_you_mean(pattern, names)}; the "
            f"first is {names[0]!r}"
        )
    for layer in layers:
        layer.trainable = False
    return len(layers)


def _batches(images: Any, max_images: int, size: int) -> Any:
    if hasattr(images, "as_numpy_iterator"):
        yield from images.take(max_images).batch(size).as_numpy_iterator()
    else:
        for start in range(0, min(len(images), max_images), size):
            yield images[start : min(start + size, max_images)]


def images_per_pass(model: keras.Model, batch_size: int) -> int:
    """The number of images whose activations in all layers fill `PASS_BYTES`, or a batch."""
    # Called eagerly, a Functional model keeps every layer's output until it returns.
    per_image = sum(4 * int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    return max(batch_size, PASS_BYTES // per_image)
