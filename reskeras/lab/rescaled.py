"""What batch norms do in networks that are built: to the scale of weights, and with few images."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Array = Any

_UNIT = 2.0**-24
"""The largest relative error of one rounding to float32."""
_ROUNDINGS = 8
"""Of a number on its way through a batch norm that powers of two do not leave as they are: the sum
of variance and epsilon, its root and reciprocal, and what is multiplied and added with that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rescaled:
    """A convolution, and the batch norm after it if there is one, with alpha times its weights."""

    alpha: float
    outputs: float
    """What the root mean square of the output is multiplied by."""
    gradients: float
    """What that of the gradient of the weights is multiplied by."""
    output_error: float
    """The root mean square of what theory does not expect in the output, relative to it."""
    output_limit: float
    """The largest that epsilon and rounding explain."""
    gradient_error: float
    """As `output_error`, of the gradient."""
    gradient_limit: float
    """As `output_limit`, of the gradient."""


def rescaled(
    model: keras.Model,
    pairs: Sequence[tuple[str, str | None]],
    images: Array,
    alphas: Sequence[float],
    *,
    epsilon: float,
    random: np.random.Generator,
) -> Iterator[Rescaled]:
    """Multiplies the weights of convolutions, one after the other, by each alpha.

    A layer runs alone, on the inputs that it gets in its network. The gradient is that of the sum
    of its outputs times independent normal numbers. Layers whose output is 0 are left out.

    Args:
        model: the network; it is left as it was, except for moving statistics.
        pairs: a convolution's name, and that of the batch norm right after it, if there is one.
        images: [N,*sides,C], in the layout of the model.
        alphas: powers of two: they change no float's digits, so only epsilon makes a difference.
        epsilon: that batch norms should have.
        random: draws the normal numbers.
    """
    if not pairs:
        return
    probe = keras.Model(model.input, [model.get_layer(conv).input for conv, _ in pairs])
    inputs = tf.nest.flatten(probe(images, training=True))
    for (conv, norm), values in zip(pairs, inputs, strict=True):
        layers = [model.get_layer(name) for name in (conv, norm) if name is not None]
        shape = (len(images), *layers[0].output.shape[1:])
        pair = _Pair(layers, values, random.standard_normal(shape, "float32"), epsilon)
        if pair.is_zero:
            continue
        weights = layers[0].weights
        original = [weight.numpy() for weight in weights]
        for alpha in alphas:
            for weight, value in zip(weights, original, strict=True):
                weight.assign(alpha * value)
            yield pair.rescaled(alpha)
        for weight, value in zip(weights, original, strict=True):
            weight.assign(value)


class _Pair:
    """A convolution and what follows, with the numbers that its own weights give."""

    def __init__(self, layers: Sequence[Any], inputs: Any, slope: Array, epsilon: float) -> None:
        self._layers, self._inputs, self._slope = layers, inputs, slope
        self._output, self._gradient = self._numbers(layers)
        self._channels: _Channels | None = None
        if len(layers) > 1:
            self._channels = self._in_channels(layers[1].axis, epsilon)

    @property
    def is_zero(self) -> bool:
        return not (np.any(self._output) and np.any(self._gradient))

    def _numbers(self, layers: Sequence[Any], slope: Array = None) -> tuple[Array, Array]:
        """The output of layers, and the gradient of the first one's kernel."""
        with tf.GradientTape() as tape:
            output = self._inputs
            for layer in layers:
                output = layer(output, training=True)
        given = tf.constant(self._slope if slope is None else slope, "float32")
        gradient = tape.gradient(output, layers[0].kernel.value, output_gradients=given)
        return np.asarray(output, "float64"), np.asarray(gradient, "float64")

    def _in_channels(self, axis: int, epsilon: float) -> "_Channels":
        conv = self._layers[:1]
        x, _ = self._numbers(conv)
        axis %= x.ndim
        others = tuple(place for place in range(x.ndim) if place != axis)
        mean = x.mean(others, keepdims=True)
        variance = x.var(others, keepdims=True)
        root = np.sqrt(variance + epsilon)
        y = (x - mean) / root
        slope = self._slope.astype("float64")
        parts = (
            slope,
            slope.mean(others, keepdims=True),
            y * (slope * y).mean(others, keepdims=True),
        )
        return _Channels(
            variance=variance.ravel(),
            mean=mean.ravel(),
            epsilon=epsilon,
            gradient=_by_channel(self._gradient),
            parts=[
                _by_channel(self._numbers(conv, np.broadcast_to(part / root, x.shape))[1])
                for part in parts
            ],
        )

    def rescaled(self, alpha: float) -> Rescaled:
        """The numbers of the weights as they are now, alpha times the original ones."""
        output, gradient = self._numbers(self._layers)
        power = 1 if self._channels is None else 0
        before, slope_before = _root(self._output), _root(self._gradient)
        return Rescaled(
            alpha=alpha,
            outputs=_root(output) / before,
            gradients=_root(gradient) / slope_before,
            output_error=_root(output / alpha**power - self._output) / before,
            output_limit=self._channels.output_limit(alpha) if self._channels else _UNIT,
            gradient_error=_root(gradient / alpha ** (power - 1) - self._gradient) / slope_before,
            gradient_limit=self._channels.gradient_limit(alpha) if self._channels else _UNIT,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Channels:
    """What happens in each channel of a batch norm [C], to say how far it can be from theory.

    Its output y = (x - mean) / sqrt(variance + epsilon) is multiplied by f = sqrt((variance +
    epsilon) / (variance + epsilon / alpha^2)) if x is multiplied by alpha. From a gradient g at the
    output, the weights get the sum of three parts, those of g, -mean(g) and -y mean(g y), each
    divided by sqrt(variance + epsilon): alpha times the new gradient has f in front of each part,
    and f^2 more in front of the last.
    """

    variance: Array
    mean: Array
    epsilon: float
    gradient: Array
    """The length of the gradient of the channel's weights."""
    parts: Sequence[Array]
    """Those of its three parts."""

    def _factor(self, alpha: float) -> Array:
        total = self.variance + self.epsilon
        return np.sqrt(total / (self.variance + self.epsilon / alpha**2))

    @property
    def _rounding(self) -> Array:
        # x and its mean are rounded before they nearly cancel out.
        total = self.variance + self.epsilon
        return _ROUNDINGS * _UNIT * np.sqrt(1 + self.mean**2 / total)

    def output_limit(self, alpha: float) -> float:
        """How far the output can be from itself, relative to it."""
        sizes = np.sqrt(self.variance / (self.variance + self.epsilon))
        errors = abs(self._factor(alpha) - 1) * sizes + self._rounding
        return float(np.linalg.norm(errors) / np.linalg.norm(sizes))

    def gradient_limit(self, alpha: float) -> float:
        """How far alpha times the gradient can be from the gradient, relative to it."""
        factor = self._factor(alpha)
        errors = (
            abs(factor - 1) * self.gradient
            + abs(factor**3 - factor) * self.parts[2]
            + self._rounding * sum(self.parts)
        )
        return float(np.linalg.norm(errors) / np.linalg.norm(self.gradient))


def _by_channel(gradient: Array) -> Array:
    """The length of a kernel's gradient in each output channel [C]."""
    return np.linalg.norm(gradient.reshape(-1, gradient.shape[-1]), axis=0)


def _root(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


class BatchMeans:
    """The means that batch norms compute of random batches, in training.

    Args:
        model: the network; its batch norms keep the last batch's statistics from now on.
        norms: names of batch norms.
        images: [N,*sides,C], in the layout of the model.
    """

    def __init__(self, model: keras.Model, norms: Sequence[str], images: Array) -> None:
        layers = [model.get_layer(name) for name in norms]
        probe = keras.Model(model.input, [layer.output for layer in layers])
        for layer in layers:
            layer.momentum = 0.0
        self._images = len(images)
        values = tf.constant(images, "float32")

        def means(places: Any) -> Any:
            probe(tf.gather(values, places), training=True)
            return [layer.moving_mean.value.read_value() for layer in layers]

        @tf.function(input_signature=[tf.TensorSpec([None, None], "int64")])  # type: ignore[untyped-decorator]
        def all_means(batches: Any) -> Any:
            kinds = ["float32"] * len(layers)
            # One after the other: all use the layers' moving statistics.
            return tf.map_fn(means, batches, fn_output_signature=kinds, parallel_iterations=1)

        self._means = all_means

    def sampled(self, size: int, batches: int, random: np.random.Generator) -> list[Array]:
        """For each norm, the means of so many batches [batches,C].

        Args:
            size: the number of images in a batch, drawn independently of each other.
            batches: how many.
            random: draws them.
        """
        places = random.integers(0, self._images, (batches, size))
        return [means.numpy() for means in self._means(tf.constant(places))]


def norm_inputs(model: keras.Model, norms: Sequence[str], images: Array) -> list[Array]:
    """What batch norms get [N,positions,C] if all images are one batch, in training."""
    layers = [model.get_layer(name) for name in norms]
    probe = keras.Model(model.input, [layer.input for layer in layers])
    found = []
    for layer, values in zip(layers, tf.nest.flatten(probe(images, training=True)), strict=True):
        last = np.moveaxis(np.asarray(values, "float64"), layer.axis, -1)
        found.append(last.reshape(len(images), -1, last.shape[-1]))
    return found
