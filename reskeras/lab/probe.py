"""Second moments in networks that are built, over many random initializations."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.data.images import ImageData
from reskeras.data.pixels import scaled
from reskeras.errors import RequestError
from reskeras.models.build import build
from reskeras.spec import AnySpec

_FEWEST, _MOST = 4, 256
"""Images; batch norm needs several."""
_POSITIONS = 2**14
"""In how many positions of all images together is enough."""

_NUMBERS = 2**18
"""In the gradients that are sent back through shortcuts, at least."""

_EPSILON = 1e-5
"""Of the same size as batch norm's: dead channels would divide by zero."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of one layer's output, over seeds."""

    forward: Any
    """Second moments [S,*sides], a mean over images and channels."""
    backward: Any
    """Those of the gradient [S,*sides]."""
    precision: Any
    """The mean over channels of 1 / (variance + epsilon) [S], over images and positions."""


def noise_images(spec: AnySpec, seed: int) -> Any:
    """Images [N,*sides,C] of independent normal numbers, in the shape that a network takes."""
    positions = math.prod(spec.input_shape[:-1])
    count = max(_FEWEST, min(_MOST, _POSITIONS // positions))
    random = np.random.default_rng(seed)
    return random.standard_normal((count, *spec.input_shape), "float32")


def training_images(spec: AnySpec, data: ImageData, count: int) -> Any:
    """Some training images [N,*sides,C] in 0..1, in the shape that a network takes."""
    sample = scaled(data.sampled(count))
    return sample.reshape(len(sample), *spec.input_shape)


def check_images(spec: AnySpec, images: Any) -> None:
    """Checks that images [N,*sides,C] have the shape that a network takes.

    Raises:
        RequestError: they do not.
    """
    if images.shape[1:] != spec.input_shape:
        raise RequestError(
            f"{spec.name}: takes images {list(spec.input_shape)}, not {list(images.shape[1:])}"
        )


def measured_moments(
    spec: AnySpec,
    layers: Sequence[str],
    images: Any,
    *,
    last: str,
    seeds: int,
    seed: int,
    model: keras.Model | None = None,
) -> dict[str, Measured]:
    """Measures the second moments of layers' outputs and gradients at initialization.

    Batch norm uses the statistics of the batch, and dropout is on, as in training.

    Args:
        spec: the network.
        layers: names of layers.
        images: [N,*sides,C].
        last: the layer at whose output the gradient is independent normal numbers.
        seeds: how many initializations.
        seed: what they and the normal numbers follow from.
        model: the network if it is built; otherwise the spec's is built.

    Raises:
        RequestError: the images do not have the shape that the network takes.
    """
    first, batch = in_layout(spec, images)
    keras.utils.set_random_seed(seed)  # for dropout
    model = build(spec) if model is None else model
    probe = keras.Model(model.inputs, [model.get_layer(name).output for name in layers])
    end = layers.index(last)

    @tf.function  # type: ignore[untyped-decorator]
    def measure(noise: Any) -> Any:
        with tf.GradientTape() as tape:
            # Watched, or what no weight precedes would have no gradient.
            tape.watch(batch)
            values = probe(batch, training=True)
            total = tf.reduce_sum(values[end] * noise)
        gradients = tape.gradient(total, values, unconnected_gradients="zero")
        return [
            (_moment(value, first), _moment(gradient, first), _precision(value, first))
            for value, gradient in zip(values, gradients, strict=True)
        ]

    shape = (len(images), *probe.outputs[end].shape[1:])
    found = []
    for number in range(seeds):
        key = np.random.SeedSequence([seed, number])
        initialize(model, key)
        noise = np.random.default_rng(key).standard_normal(shape, "float32")
        found.append(measure(tf.constant(noise)))
    return {
        name: Measured(
            *(np.stack([run[place][part].numpy() for run in found]) for part in range(3))
        )
        for place, name in enumerate(layers)
    }


@dataclasses.dataclass(frozen=True)
class PathGradients:
    """Gradients of one initialization that went through no weights; channels are last."""

    gradients: list[Any]
    """At each layer's output [N,*sides,C]; random signs at the last one's."""
    outputs: dict[str, Any]
    """What the layers between put out, by name [N,*sides,C]."""


def gradients_without_weights(
    spec: AnySpec,
    images: Any,
    layers: Sequence[str],
    *,
    between: Sequence[str],
    seeds: int,
    seed: int,
    model: keras.Model | None = None,
) -> Iterator[PathGradients]:
    """Takes gradients of the last layer's output that pass no layer with a kernel.

    A stop_gradient lies before each such layer. The forward pass is the network's own.

    Args:
        spec: the network.
        images: [N,*sides,C].
        layers: those at whose outputs the gradient is taken, in execution order.
        between: layers whose outputs to return.
        seeds: how many initializations.
        seed: what they and the signs follow from.
        model: the network if it is built; otherwise the spec's is built.

    Raises:
        RequestError: the images do not have the shape that the network takes.
    """
    first, batch = in_layout(spec, images)
    keras.utils.set_random_seed(seed)  # for dropout
    model = build(spec) if model is None else model
    names = [*layers, *between]
    probe = keras.models.clone_model(
        keras.Model(model.inputs, [model.get_layer(name).output for name in names]),
        clone_function=lambda layer: layer,
        call_function=_stopped,
    )
    end = len(layers) - 1

    @tf.function  # type: ignore[untyped-decorator]
    def measure(signs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(batch)
            values = probe(batch, training=True)
            total = tf.reduce_sum(values[end] * signs)
        ends = values[: end + 1]
        return tape.gradient(total, ends, unconnected_gradients="zero"), values[end + 1 :]

    def array(value: Any) -> Any:
        return np.moveaxis(value.numpy(), 1, -1) if first else value.numpy()

    shape = (len(images), *probe.outputs[end].shape[1:])
    for number in range(seeds):
        key = np.random.SeedSequence([seed, number])
        initialize(model, key)
        signs = tf.constant(np.random.default_rng(key).choice([-1.0, 1.0], shape), "float32")
        gradients, outputs = measure(signs)
        yield PathGradients(
            gradients=list(map(array, gradients)),
            outputs=dict(zip(between, map(array, outputs), strict=True)),
        )


@dataclasses.dataclass(frozen=True)
class Pairs:
    """What was measured of pairs of different images, and of images, over seeds."""

    covariances: Any
    """Mean products of the gradients of two images by layer [S,layers]."""
    variances: Any
    """Mean squares of gradients [S,layers]."""
    both: dict[str, Any]
    """By ReLU, how often both images of a pair pass it [*sides], a mean over channels and seeds."""
    one: dict[str, Any]
    """The same for a single image."""


def measured_pairs(
    spec: AnySpec,
    layers: Sequence[str],
    activations: Sequence[str],
    images: Any,
    *,
    seeds: int,
    seed: int,
    model: keras.Model | None = None,
) -> Pairs:
    """Compares gradients of different images at initialization.

    The gradient is that of a sum of the last layer's outputs with random signs, the same ones for
    all images. Batch norm would mix the gradients of a batch, so each image's sum has a random sign
    too, which is taken back from its gradient.

    Args:
        spec: the network.
        layers: names of layers to take gradients at; their last is where they come from.
        activations: names of ReLUs.
        images: [N,*sides,C].
        seeds: how many initializations.
        seed: what they and the signs follow from.
        model: the network if it is built; otherwise the spec's is built.

    Raises:
        RequestError: the images do not have the shape that the network takes.
    """
    first, batch = in_layout(spec, images)
    keras.utils.set_random_seed(seed)  # for dropout
    model = build(spec) if model is None else model
    names = [*layers, *activations]
    probe = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    end = len(layers) - 1

    @tf.function  # type: ignore[untyped-decorator]
    def measure(signs: Any, own: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(batch)
            values = probe(batch, training=True)
            total = tf.reduce_sum(values[end] * signs * _spread(own, values[end]))
        gradients = tape.gradient(total, values[: end + 1], unconnected_gradients="zero")
        pairs = [_pairs(each * _spread(own, each)) for each in gradients]
        gates = [_pairs(tf.cast(each > 0, "float32")) for each in values[end + 1 :]]
        axis = 0 if first else -1
        return (
            [[tf.reduce_mean(each) for each in pair] for pair in pairs],
            [[tf.reduce_mean(each, axis=axis) for each in pair] for pair in gates],
        )

    found, passed = [], []
    for number in range(seeds):
        key = np.random.SeedSequence([seed, number])
        initialize(model, key)
        random = np.random.default_rng(key)
        signs = random.choice([-1.0, 1.0], probe.outputs[end].shape[1:]).astype("float32")
        own = random.choice([-1.0, 1.0], len(images)).astype("float32")
        gradients, gates = measure(signs, own)
        found.append(np.array(gradients))
        passed.append([[each.numpy() for each in pair] for pair in gates])
    moments = np.stack(found)

    def mean(place: int) -> dict[str, Any]:
        return {
            name: np.mean([run[number][place] for run in passed], axis=0)
            for number, name in enumerate(activations)
        }

    return Pairs(covariances=moments[..., 0], variances=moments[..., 1], both=mean(0), one=mean(1))


def _spread(own: Any, values: Any) -> Any:
    """Numbers of images [N] in a shape that multiplies values [N,...]."""
    return tf.reshape(own, [-1] + [1] * (len(values.shape) - 1))


def _pairs(values: Any) -> Any:
    """Mean products over pairs of different images, and mean squares over images [...]."""
    values = tf.cast(values, "float64")
    count = tf.cast(tf.shape(values)[0], "float64")
    squares = tf.reduce_sum(values**2, axis=0)
    products = tf.reduce_sum(values, axis=0) ** 2 - squares
    return products / (count * (count - 1)), squares / count


def changes(
    spec: AnySpec,
    start: str,
    layers: Sequence[str],
    inputs: Any,
    *,
    seeds: int,
    seed: int,
    model: keras.Model | None = None,
) -> Any:
    """Measures how far layers change if the negative parts of a layer's output are set to 0.

    Args:
        spec: the network.
        start: the layer whose output is replaced.
        layers: names of layers that follow it.
        inputs: what it is replaced by [N,*sides,C].
        seeds: how many initializations.
        seed: what they follow from.
        model: the network if it is built; otherwise the spec's is built.

    Returns:
        The root mean square of the change, per that of the output [S,layers].

    Raises:
        RequestError: the inputs do not have the shape of the layer.
    """
    keras.utils.set_random_seed(seed)  # for dropout
    model = build(spec) if model is None else model
    tensor = model.get_layer(start).output
    first = spec.data_format == "channels_first" and len(spec.input_shape) > 1
    values = np.moveaxis(inputs, -1, 1) if first else inputs
    if values.shape[1:] != tensor.shape[1:]:
        raise RequestError(
            f"{spec.name}: takes images {list(tensor.shape[1:])}, not {list(values.shape[1:])}"
        )
    probe = keras.Model(tensor, [model.get_layer(name).output for name in layers])

    @tf.function  # type: ignore[untyped-decorator]
    def measure() -> Any:
        whole, cut = (probe(x, training=True) for x in (values, np.maximum(values, 0)))
        return [
            tf.sqrt(_mean_square(one - other) / _mean_square(one))
            for one, other in zip(whole, cut, strict=True)
        ]

    found = []
    for number in range(seeds):
        initialize(model, np.random.SeedSequence([seed, number]))
        found.append([float(each) for each in measure()])
    return np.array(found)


def _mean_square(values: Any) -> Any:
    return tf.reduce_mean(tf.square(tf.cast(values, "float64")))


def _stopped(layer: Any, *args: Any, **options: Any) -> Any:
    """Calls a layer; if it has a kernel, no gradient leaves it."""
    if getattr(layer, "kernel_initializer", None):
        args = tuple(map(keras.ops.stop_gradient, args))
    return layer(*args, **options)


def in_layout(spec: AnySpec, images: Any) -> tuple[bool, Any]:
    """Whether channels come first in a network, and the images in its layout.

    Raises:
        RequestError: the images do not have the shape that the network takes.
    """
    check_images(spec, images)
    first = spec.data_format == "channels_first" and len(spec.input_shape) > 1
    return first, tf.constant(np.moveaxis(images, -1, 1) if first else images, "float32")


def shortcut_gradients(
    model: keras.Model, blocks: Sequence[str], branches: Sequence[str], seed: int
) -> list[Any]:
    """Sends normal numbers back from the last of some blocks, through their shortcuts alone.

    What comes in is positive, and branches add a constant that is not negative: activations of
    sums pass on all gradients.

    Args:
        model: the network, whose branches become constant.
        blocks: names of the layers that put out what successive blocks do.
        branches: names of the last convolutions of all but the first block, and of norms right
            after them.
        seed: what all numbers follow from.

    Returns:
        The gradient at the output of each block [N,*sides,C].
    """
    keras.utils.set_random_seed(seed)  # for dropout
    for name in branches:
        for weight in model.get_layer(name).trainable_weights:
            constant = 1.0 if weight.name in ("bias", "beta") else 0.0
            weight.assign(keras.ops.full_like(weight, constant))
    tensors = [model.get_layer(name).output for name in blocks]
    within = keras.Model(tensors[0], tensors[1:])
    random = np.random.default_rng(seed)
    shape = tensors[0].shape[1:]
    count = max(_FEWEST, _NUMBERS // math.prod(shape))
    start = tf.constant(np.abs(random.standard_normal((count, *shape))), "float32")
    end = tf.constant(random.standard_normal((count, *tensors[-1].shape[1:])), "float32")
    with tf.GradientTape() as tape:
        tape.watch(start)
        values = [start, *tf.nest.flatten(within(start, training=True))]
        total = tf.reduce_sum(values[-1] * end)
    return [gradient.numpy() for gradient in tape.gradient(total, values)]


def initialize(model: keras.Model, key: np.random.SeedSequence) -> None:
    """Draws the kernels of a network anew, each from its own initializer."""
    layers = [layer for layer in model.layers if getattr(layer, "kernel_initializer", None)]
    for layer, number in zip(layers, key.generate_state(len(layers)), strict=True):
        initializer = layer.kernel_initializer
        config = initializer.get_config()
        if "seed" in config:
            initializer = type(initializer).from_config(config | {"seed": int(number % 2**31)})
        layer.kernel.assign(initializer(layer.kernel.shape))


def _moment(values: Any, first: bool) -> Any:
    """The mean square over images and channels [*sides], in float64."""
    axes = (0, 1 if first else len(values.shape) - 1)
    return tf.reduce_mean(tf.square(tf.cast(values, "float64")), axis=axes)


def _precision(values: Any, first: bool) -> Any:
    """The mean over channels of 1 / variance, in float64."""
    channels = 1 if first else len(values.shape) - 1
    axes = [axis for axis in range(len(values.shape)) if axis != channels]
    variances = tf.math.reduce_variance(tf.cast(values, "float64"), axis=axes)
    return tf.reduce_mean(1 / (variances + _EPSILON))
