"""Second moments that theory expects in a network with random weights.

This reads the same graph as costs and drawings do, and no weights: what it computes can disagree
with a network that is built. All expectations are over the weights.

* A convolution with independent weights of mean zero and variance v maps the second moments m of
  its inputs to the sum of v m over all inputs of its window (He 2015, arXiv 1502.01852, Eq. 7 to
  10). This holds for any width and at the border, where padding leaves less to sum. Backward, the
  same holds for gradients and outputs (Eq. 11 to 14).
* Given its inputs, a convolution of a wide network gives independent normal numbers (mean-field
  theory: Poole 2016, arXiv 1606.05340; residual networks: Yang 2017, arXiv 1712.08969). So what
  activations and sums make of them follows from a sample of such numbers, one for each channel.
* In the backward pass, weights count as independent of those of the forward pass (the same). This
  is not so of shortcuts, which have none: behind activated sums, a channel that is alive is likely
  alive in the next block too. So gradients keep a share for each channel of the sample, until they
  cross a convolution.
* Batch norm in training divides by the standard deviation, and so does its gradient.

Where no such rule holds, the measured moment is taken, and the block is left out of verdicts.

The scatter of one network around the expectation is derived as by Hanin and Nica (arXiv
1812.05994, Theorem 1): the logarithm of the second moment after L layers of width n is nearly
normal with variance 5 L / n and mean -1/2 of that. The variances of layers add up over the graph
here. Positions of an image share their weights, and averaging over them only reduces the scatter.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from reskeras.nets.graph import SAME_NUMBERS, Graph, Node
from reskeras.nets.growth import block_of
from reskeras.spec import AnySpec

Array = Any
_Function = Callable[[Array], Array]

_CHANNELS = 2**15
"""How many channels the sample of a layer has."""
_ALIKE = np.ones(1)
_SCALES = 24
"""At how many scales an activation is computed; others are interpolated."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A block and the layer that its output comes from."""

    name: str
    nodes: tuple[Node, ...]
    output: Node


def blocks_of(graph: Graph) -> tuple[Block, ...]:
    """The blocks of a network in execution order: those of its stages, and of its decoder."""
    nodes: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if (block := block_of(node.name)) is not None:
            nodes.setdefault(block, []).append(node)
    return tuple(
        Block(name=name, nodes=tuple(within), output=within[-1]) for name, within in nodes.items()
    )


def kernel_variance(spec: AnySpec, node: Node) -> float:
    """The variance of a convolution's weights at initialization."""
    assert node.kernel is not None
    if node.settings.get("kernel_initializer") == "zeros" or node.is_learned_scale:
        return 0.0
    before, after = node.kernel[-2:]
    window = math.prod(node.kernel[:-2])
    inputs, outputs = before * window, after * window
    match spec.init:
        case "he_normal" | "he_uniform":
            return 2 / inputs
        case "glorot_normal" | "glorot_uniform":
            return 2 / (inputs + outputs)
        case "lecun_normal":
            return 1 / inputs
        case "orthogonal":
            return 1 / max(inputs, after)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """The second moment that theory expects at the output of one layer."""

    map: Array
    """The second moment [*sides], a mean over channels."""
    noise: float
    """The variance of its logarithm, at most."""

    @property
    def mean(self) -> float:
        """The second moment over all positions."""
        return float(np.mean(self.map))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment(Expected):
    """What theory knows of the output of one layer."""

    sample: Array
    """Numbers [K], one for each of many channels, whose mean square is 1 (or that are all 0)."""
    known: bool = True
    """Whether a rule gave it; otherwise it was measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gradient(Expected):
    """What theory knows of the gradient at the output of one layer."""

    shares: Array
    """How much of it each channel of the layer's sample has [K], or all alike [1]; mean 1."""


def expected_moments(
    spec: AnySpec, graph: Graph, measured: Mapping[str, Array]
) -> dict[str, Moment]:
    """The second moment that theory expects after each layer.

    Args:
        spec: the network.
        graph: its graph.
        measured: by layer, the second moments [*sides] to take where theory knows none: those of
            all layers that `unknown` names.
    """
    random = np.random.default_rng(0)
    found: dict[str, Moment] = {}
    for node in graph.nodes:
        inputs = [found[each.name] for each in node.inputs]
        moment = _forward(spec, node, inputs, random) if inputs else None
        if moment is not None:
            moment = dataclasses.replace(moment, known=True)
        else:
            moment = Moment(
                map=np.asarray(measured[node.name], "float64"),
                # Pooled maps keep their signs more or less; what follows them is a convolution.
                sample=inputs[0].sample if inputs else _normal(random),
                noise=0.0,
                known=False,
            )
        found[node.name] = moment
    return found


def moments_of_chain(
    spec: AnySpec, block: Block, start: Moment, blocks: int
) -> Iterator[dict[str, Moment]]:
    """The moments of a block's layers if such blocks follow each other, with weights of their own.

    Args:
        spec: the network.
        block: one with a single input, whose output has the shape of its input.
        start: the moment of what the first one takes.
        blocks: how many.

    Yields:
        For each, the moments by layer. It ends at once if there is no rule for a layer.
    """
    random = np.random.default_rng(1)
    for _ in range(blocks):
        found: dict[str, Moment] = {}
        for node in block.nodes:
            inputs = [found.get(each.name, start) for each in node.inputs]
            moment = _forward(spec, node, inputs, random)
            if moment is None:
                return
            found[node.name] = moment
        start = found[block.output.name]
        yield found


def unknown(spec: AnySpec, graph: Graph) -> set[str]:
    """The layers whose second moments theory does not know: the input is one."""
    ones = {node.name: np.ones(node.sides) for node in graph.nodes}
    moments = expected_moments(spec, graph, ones)
    return {name for name, moment in moments.items() if not moment.known}


def _forward(
    spec: AnySpec, node: Node, inputs: Sequence[Moment], random: np.random.Generator
) -> Moment | None:
    """The moment of a layer's output; None if no rule holds."""
    first = inputs[0]
    match node.kind:
        case "Conv" | "Dense" if node.settings.get("activation", "linear") == "linear":
            assert node.kernel is not None
            gain = kernel_variance(spec, node) * node.kernel[-2]
            return Moment(
                map=gain * sums_over_windows(first.map, node),
                sample=_normal(random),
                noise=first.noise + 2 / node.channels,
            )
        case "ReLU" | "Activation":
            return _activated(first, node)
        case "LayerNormalization":
            kept = first.map / (first.map + node.settings["epsilon"])
            return dataclasses.replace(first, map=kept * _starts_at(node), noise=0.0)
        case "BatchNormalization" | "GroupNormalization":
            variance = first.mean
            if variance == 0:
                return None
            sample = first.sample - first.sample.mean()
            kept = first.map / (variance + node.settings["epsilon"])
            return dataclasses.replace(
                first, map=kept * _starts_at(node), sample=_scaled(sample), noise=0.0
            )
        case "Rescaling" if is_plain_rescaling(node):
            factor = node.settings["scale"]
            return dataclasses.replace(
                first, map=first.map * factor**2, sample=first.sample * np.sign(factor)
            )
        case "Add":
            return _added(inputs, node.channels)
        case "Concatenate":
            shares = [each.channels / node.channels for each in node.inputs]
            return _concatenated(inputs, shares)
        case "Dropout":
            return dataclasses.replace(first, map=first.map / (1 - node.settings["rate"]))
        case "ZeroPadding":
            return dataclasses.replace(first, map=np.pad(first.map, node.settings["padding"]))
        case "Cropping":
            cut = zip(node.settings["cropping"], first.map.shape, strict=True)
            part = tuple(slice(before, side - after) for (before, after), side in cut)
            return dataclasses.replace(first, map=first.map[part])
        case "ZeroPadding2D":
            share = node.inputs[0].channels / node.channels
            kept = first.sample.copy()
            kept[round(share * len(kept)) :] = 0
            return dataclasses.replace(first, map=first.map * share, sample=_scaled(kept))
        case "UpSampling":
            kept = first.map
            for axis in range(kept.ndim):
                kept = kept.repeat(2, axis)
            return dataclasses.replace(first, map=kept)
        case "AveragePooling" | "MaxPooling" if node.settings["pool_size"] == 1:
            step = slice(None, None, node.settings["strides"])
            return dataclasses.replace(first, map=first.map[(step,) * first.map.ndim])
        case kind if kind in SAME_NUMBERS:
            return dataclasses.replace(first, map=first.map.reshape(node.sides))
    return None


def _activated(first: Moment, node: Node) -> Moment:
    function, _ = _activation(node)
    sample = function(first.sample * math.sqrt(first.mean))
    kurtosis = np.mean(first.sample**4) - 1
    after = _scaled(sample)
    return Moment(
        map=_on_scales(lambda scale: np.mean(function(scale * first.sample) ** 2), first.map),
        sample=after,
        noise=first.noise + max(0.0, np.mean(after**4) - 1 - kurtosis) / node.channels,
    )


def _on_scales(function: Any, values: Array) -> Array:
    """A function of the scale at second moments [*sides], interpolated between a few scales."""
    roots = np.sqrt(values)
    few = np.unique(roots)
    if len(few) > _SCALES:
        few = np.linspace(few[0], few[-1], _SCALES)
    return np.interp(roots, few, [function(scale) for scale in few])


def _added(inputs: Sequence[Moment], width: int) -> Moment:
    """The sum; the first part is the shortcut."""
    means = [each.mean for each in inputs]
    sample = sum(math.sqrt(mean) * each.sample for mean, each in zip(means, inputs, strict=True))
    total = sum(means)
    # Parts that are positive on average have products that do not cancel out.
    factor = float(np.mean(sample**2)) / total if total else 1.0
    shares = [mean / total if total else 0.0 for mean in means]
    return Moment(
        map=factor * sum(each.map for each in inputs),
        sample=_scaled(sample),
        noise=_noise_of_sum(shares, [each.noise for each in inputs], width),
    )


def _noise_of_sum(shares: Sequence[float], noises: Sequence[float], width: int) -> float:
    """The noise of a sum of parts, of which the first is carried on.

    Of the others, only what they add to its noise counts. Given the first, products of the parts
    have mean zero and variance 4 a b / n.
    """
    first = noises[0]
    return first + sum(
        share**2 * max(0.0, noise - first) + 4 * shares[0] * share / width
        for share, noise in zip(shares[1:], noises[1:], strict=True)
    )


def _concatenated(inputs: Sequence[Moment], shares: Sequence[float]) -> Moment:
    total = sum(share * each.mean for share, each in zip(shares, inputs, strict=True))
    # Channels stay what they are from one concatenation to the next, so this takes the first of
    # each part's sample.
    parts, begin = [], 0.0
    for share, each in zip(shares, inputs, strict=True):
        ends = (round(begin * _CHANNELS), round((begin + share) * _CHANNELS))
        parts.append(math.sqrt(each.mean / total if total else 0.0) * each.sample[slice(*ends)])
        begin += share
    return Moment(
        map=sum(share * each.map for share, each in zip(shares, inputs, strict=True)),
        sample=_scaled(np.concatenate(parts)),
        noise=max(each.noise for each in inputs),
    )


def expected_gradients(
    spec: AnySpec,
    graph: Graph,
    moments: Mapping[str, Moment],
    last: Node,
    precisions: Mapping[str, float],
    slopes: Mapping[str, Array] | None = None,
) -> dict[str, Gradient]:
    """The second moment of the gradient that theory expects at the output of each layer.

    Gradients of several layers that use one output add up: given the forward pass, their weights
    are independent. Batch norm divides gradients by the deviation within each channel. How much of
    a channel's second moment is its mean depends on the images, so these deviations are measured.

    Args:
        spec: the network.
        graph: its graph.
        moments: what `expected_moments` returns.
        last: the layer at whose output the gradient is independent normal numbers.
        precisions: by batch norm, the measured mean over its channels of 1 / variance.
        slopes: by ReLU, a measured mean over channels [*sides] to take for its squared slope. With
            products of two images' slopes, the covariance of their gradients is what is expected.

    Returns:
        By layer, those up to `last`; without those whose gradient no rule tells.
    """
    nodes = list(graph.nodes)
    parts: dict[str, list[Gradient | None]] = {
        last.name: [Gradient(map=np.ones(last.sides), noise=0.0, shares=_ALIKE)]
    }
    found: dict[str, Gradient] = {}
    for node in reversed(nodes[: nodes.index(last) + 1]):
        given = parts.get(node.name, [])
        known = [part for part in given if part is not None]
        gradient = _summed(known, node.channels) if known and len(known) == len(given) else None
        if gradient is not None:
            found[node.name] = gradient
        for source in node.inputs if given else ():
            part = None
            if gradient is not None:
                if slopes is not None and node.kind == "ReLU":
                    noise = gradient.noise + 3 / source.channels
                    values = gradient.map * slopes[node.name]
                    part = Gradient(map=values, noise=noise, shares=_ALIKE)
                else:
                    part = _backward(spec, node, source, gradient, moments, precisions)
            parts.setdefault(source.name, []).append(part)
    return found


def _summed(parts: Sequence[Gradient], width: int) -> Gradient:
    """Gradients of layers that use one output, as `_added` sums what layers put out."""
    parts = sorted(parts, key=lambda part: part.noise)
    total = sum(part.map for part in parts)
    mean = float(np.mean(total))
    weights = [part.mean / mean if mean else 1 / len(parts) for part in parts]
    return Gradient(
        map=total,
        noise=_noise_of_sum(weights, [part.noise for part in parts], width),
        shares=sum(weight * part.shares for weight, part in zip(weights, parts, strict=True)),
    )


def _backward(
    spec: AnySpec,
    node: Node,
    source: Node,
    gradient: Gradient,
    moments: Mapping[str, Moment],
    precisions: Mapping[str, float],
) -> Gradient | None:
    before = moments[source.name]
    values, noise, shares = gradient.map, gradient.noise, gradient.shares
    match node.kind:
        case "Conv" | "Dense" if node.settings.get("activation", "linear") == "linear":
            outputs = node.channels / node.settings.get("groups", 1)
            values = (
                kernel_variance(spec, node)
                * outputs
                * spread_over_windows(values, node, source.sides)
            )
            noise += 2 / source.channels
            shares = _ALIKE
        case "ReLU" | "Activation":
            _, slope = _activation(node)
            values = values * _on_scales(
                lambda scale: np.mean(shares * slope(scale * before.sample) ** 2), before.map
            )
            left = shares * slope(math.sqrt(before.mean) * before.sample) ** 2
            shares = left / np.mean(left) if np.any(left) else _ALIKE
            noise += 3 / source.channels
        # Channels of a concatenation differ in scale, so a mean over them would not do.
        case "BatchNormalization" if source.kind != "Concatenate":
            values = values * precisions[node.name] * _starts_at(node)
            noise += before.noise
        case "LayerNormalization" if before.mean:
            # The mean and the length of its input change nothing: 2 of n directions are lost.
            kept = 1 - 2 / source.channels
            values = kept * values / (before.map + node.settings["epsilon"]) * _starts_at(node)
            noise += before.noise
        case "Rescaling" if is_plain_rescaling(node):
            values = values * node.settings["scale"] ** 2
        case "Add":
            pass
        case "Concatenate" | "ZeroPadding2D":
            shares = _ALIKE
        case "Dropout":
            values = values / (1 - node.settings["rate"])
        case "ZeroPadding":
            cut = zip(node.settings["padding"], values.shape, strict=True)
            values = values[tuple(slice(a, side - b) for (a, b), side in cut)]
        case "Cropping":
            values = np.pad(values, node.settings["cropping"])
        case "AveragePooling" | "MaxPooling" if node.settings["pool_size"] == 1:
            whole = np.zeros(source.sides)
            whole[(slice(None, None, node.settings["strides"]),) * whole.ndim] = values
            values = whole
        case "AveragePooling" if node.settings["pool_size"] == node.settings["strides"]:
            size = node.settings["pool_size"]
            values = values / size ** (2 * values.ndim)
            for axis, side in enumerate(source.sides):
                values = values.repeat(size, axis).take(range(side), axis)
        case kind if kind in SAME_NUMBERS:
            values = values.reshape(source.sides)
        case _:
            return None
    return Gradient(map=values, noise=noise, shares=shares)


def is_plain_rescaling(node: Node) -> bool:
    """Whether a rescaling has one factor and no offset."""
    return isinstance(node.settings["scale"], float | int) and not node.settings["offset"]


def _starts_at(norm: Node) -> int:
    """What a norm multiplies by at initialization."""
    return 0 if norm.settings["gamma_initializer"] == "zeros" else 1


def _scaled(sample: Array) -> Array:
    root = math.sqrt(np.mean(sample**2))
    return sample / root if root else sample


@cache
def _quantiles() -> Array:
    from scipy.special import ndtri

    values = ndtri((np.arange(_CHANNELS) + 0.5) / _CHANNELS)
    return values / math.sqrt(np.mean(values**2))


def _normal(random: np.random.Generator) -> Array:
    """Normal numbers whose mean is exactly 0 and whose mean square is exactly 1."""
    return random.permutation(_quantiles())


def sums_over_windows(values: Array, node: Node) -> Array:
    """The sum over each window of a convolution."""
    if node.kind == "Dense":
        return values
    size, stride = node.settings["kernel_size"], node.settings["strides"]
    # With a stride there is a layer that pads, or a window of 1.
    if node.settings["padding"] == "same" and stride == 1:
        values = np.pad(values, size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(values, (size,) * values.ndim)
    windows = windows[(slice(None, None, stride),) * values.ndim]
    return windows.sum(axis=tuple(range(values.ndim, 2 * values.ndim)))


def spread_over_windows(values: Array, node: Node, sides: Sequence[int]) -> Array:
    """The transpose of `sums_over_windows`: what each input gets of the outputs that it is in."""
    if node.kind == "Dense":
        return values
    size, stride = node.settings["kernel_size"], node.settings["strides"]
    rim = size // 2 if node.settings["padding"] == "same" and stride == 1 else 0
    whole = np.zeros([side + 2 * rim for side in sides])
    for offset in np.ndindex(*(size,) * values.ndim):
        part = tuple(
            slice(begin, begin + stride * (count - 1) + 1, stride)
            for begin, count in zip(offset, values.shape, strict=True)
        )
        whole[part] += values
    return whole[tuple(slice(rim, rim + side) for side in sides)]


def _activation(node: Node) -> tuple[_Function, _Function]:
    """The function of an activation's layer, with the slopes of Keras, and its derivative."""
    from scipy.special import expit, ndtr

    match "relu" if node.kind == "ReLU" else node.settings["activation"]:
        case "relu":
            return lambda x: np.maximum(x, 0), lambda x: (x > 0).astype("float64")
        case "leaky_relu":
            return lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1.0, 0.2)
        case "elu":
            return (
                lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
                lambda x: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0))),
            )
        case "gelu":
            root = math.sqrt(2 * math.pi)
            return lambda x: x * ndtr(x), lambda x: ndtr(x) + x * np.exp(-(x**2) / 2) / root
        case "silu":
            return lambda x: x * expit(x), lambda x: expit(x) * (1 + x * (1 - expit(x)))
        case other:
            raise TypeError(f"an activation without a function: {other!r}")
