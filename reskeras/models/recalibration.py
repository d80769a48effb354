"""Batch-norm statistics as they are, not as a moving average remembers them; and as they were, in frozen layers."""

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from reskeras.errors import RequestError, did_you_mean

Moment = np.ndarray[Any, Any]

ACTIVATION_BYTES = 512 << 20
"""Aim for the activations of one forward pass; 32 images pass together at least."""
MOST_RECALIBRATED = 8192
"""Images that statistics are computed from, at most."""


def recalibrate(model: keras.Model, images: Any, max_images: int = MOST_RECALIBRATED) -> int:
    """Sets every batch norm's moving mean and variance to the mean and population variance of its input over the images.

    A frozen batch norm (`trainable` false) keeps its statistics: it uses them in training too.

    The images pass in as few and as large batches as 512 MiB of activations allow (but at least 32 images),
    normalised by their own batch. With one batch (any data
    whose activations fit in 512 MiB) the result is exact and self-consistent: in inference mode every batch norm's output over
    these images has the mean beta and the variance gamma^2 v / (v + epsilon). With more batches, moments are pooled over all of
    them (mean of means; mean of variances plus variance of means), which is "precise batch norm" of arXiv 2105.07576.

    Args:
        model: a built model; its batch norms' statistics are changed in place.
        images: an unbatched `tf.data.Dataset` of images [H,W,C], or an array [N,H,W,C].
        max_images: no more than the first so many are used.

    Returns:
        The number of images used; 0 for a model without batch norm.

    Raises:
        RequestError: there are no images; nothing is changed.
    """
    return recalibrate_over(model, _batches(images, max_images, images_per_pass(model)))


def recalibrate_over(model: keras.Model, batches: Iterable[Any]) -> int:
    """As `recalibrate`, over batches of images [N,H,W,C] that pass one by one."""
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
        layer.momentum = 0.0  # so that a forward pass leaves its own batch's moments behind
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
    """Sets the statistics of batch norms to moments pooled over batches of images, and returns the number of images.

    Args:
        norms: the layers.
        batches: of images.
        moments: runs a batch; gives the mean and the variance of each norm's input, one after the other, in float64.

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
    """Makes the layers whose names match a shell pattern (such as `encoder_*`) untrainable, in place, before `compile`.

    A frozen batch norm normalises by its moving statistics in training too and keeps them, as Keras defines it.

    Returns:
        The number of layers with weights that are frozen now.

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
            f"no layer with weights is called {pattern!r}{did_you_mean(pattern, names)}; the first is {names[0]!r}"
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


def images_per_pass(model: keras.Model) -> int:
    """Images whose activations, of all layers, take up `ACTIVATION_BYTES`; 32 at least."""
    # Called eagerly, a Functional model keeps every layer's output until it returns.
    per_image = sum(4 * int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    return max(32, ACTIVATION_BYTES // per_image)
