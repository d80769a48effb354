"""The cost of a network, by arithmetic on its spec: without Keras, and without building it.

The module is not called `costs` or `cost`, because importing it would shadow the function
`reskeras.cost`.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from reskeras.nets.assemble import as_spec
from reskeras.nets.graph import SAME_NUMBERS, Graph, Node, record
from reskeras.spec import AnySpec

FLOAT32 = 4
"""Bytes per number."""

PASS_BYTES = 64 << 20
"""A pass over images that only scores may hold as many activations as a training batch, or this
many if these are fewer."""
_BYTES_PER_PARAM = 16
"""A weight, its gradient, and the two values that Adam keeps for it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A network's cost for one image."""

    params: int
    """All parameters, including batch norm's moving statistics: Keras' `count_params()`."""
    trainable_params: int
    """The parameters that training changes: the number in papers."""
    macs: int
    """Multiply-adds of convolutions and dense layers in one forward pass. Other layers count as
    zero."""
    activation_bytes: int
    """Memory of one image's activations in training, in float32: the outputs of all layers that
    compute something, since the backward pass may need them. A framework that fuses layers keeps
    less."""
    inference_bytes: int
    """Peak memory in bytes of one image's activations in inference, if each is freed after its last
    use."""
    receptive_field: int
    """Side in pixels of the part of the image that one position of the last maps depends on, before
    global pooling. Where paths with differently placed fields meet, as in hourglasses and after
    averaged shortcuts, only the larger field counts."""
    depth: int
    """Convolutions and dense layers on the longest path from image to output: the number in a
    network's name. Gates do not count."""
    layers: int
    """Keras layers, without the input layer."""

    def training_bytes(self, batch_size: int) -> int:
        """Memory of training and scoring: weights, gradients, slots, and activations of a batch."""
        return _BYTES_PER_PARAM * self.params + max(batch_size * self.activation_bytes, PASS_BYTES)


def cost(spec: AnySpec | str) -> Cost:
    """Computes the cost of a spec (or a preset's name) by arithmetic.

    Raises:
        RequestError: no preset has this name, or the parts of the spec do not fit each other.
        TypeError: not a spec.
    """
    return _cost(as_spec(spec))


@functools.lru_cache(maxsize=512)
def _cost(spec: AnySpec) -> Cost:
    # A search asks for the cost of the same few networks again and again.
    graph = record(spec)
    layers = graph.nodes[1:]
    reaches = _reaches(graph.nodes)
    trainable = sum(map(trainable_params, layers))
    return Cost(
        params=trainable + sum(map(statistics, layers)),
        trainable_params=trainable,
        macs=sum(map(macs, layers)),
        activation_bytes=FLOAT32
        * sum(node.elements for node in layers if node.kind not in SAME_NUMBERS),
        inference_bytes=FLOAT32 * _peak(graph),
        receptive_field=max(reaches[node].field for node in graph.outputs),
        depth=max(reaches[node].depth for node in graph.outputs),
        layers=len(layers),
    )


def trainable_params(node: Node) -> int:
    """The trainable weights of a layer."""
    if node.kernel is not None:
        return math.prod(node.kernel) + (node.channels if node.settings["use_bias"] else 0)
    return 2 * node.channels if node.kind.endswith("Normalization") else 0


def statistics(node: Node) -> int:
    """The moving statistics of a layer."""
    return 2 * node.channels if node.kind == "BatchNormalization" else 0


def macs(node: Node) -> int:
    """The multiply-adds of a convolution or dense layer; 0 for other layers."""
    if node.kernel is None or node.is_learned_scale:
        return 0
    positions = node.inputs[0].sides if node.kind == "ConvTranspose" else node.sides
    return math.prod(node.kernel) * math.prod(positions)


class _Reach(NamedTuple):
    """The receptive field of a layer's output, and its depth."""

    field: int
    step: float
    """Pixels of the image between neighboring positions."""
    depth: int


def _reaches(nodes: Sequence[Node]) -> dict[Node, _Reach]:
    reaches: dict[Node, _Reach] = {}
    for node in nodes:
        before = [reaches[x] for x in node.inputs] or [_Reach(1, 1.0, 0)]
        if node.kind == "Multiply":
            before = before[:1]  # without the gate
        field = max(reach.field for reach in before)
        step = before[0].step
        depth = max(reach.depth for reach in before)
        if node.kernel is not None and not node.is_learned_scale:
            depth += 1
        match node.settings:
            case {"kernel_size": size, "strides": stride} | {"pool_size": size, "strides": stride}:
                field += round((size - 1) * step)
                step *= stride
        if node.kind in ("ConvTranspose", "UpSampling"):
            step /= 2
        reaches[node] = _Reach(field, step, depth)
    return reaches


def _peak(graph: Graph) -> int:
    """The most numbers alive at once if the layers run in this order."""
    last_use = {
        _origin(x): place for place, node in enumerate(graph.nodes) for x in (*node.inputs, node)
    }
    last_use |= {_origin(output): len(graph.nodes) for output in graph.outputs}
    dying: dict[int, list[Node]] = {}
    for node, place in last_use.items():
        dying.setdefault(place, []).append(node)
    alive = peak = 0
    for place, node in enumerate(graph.nodes):
        alive += 0 if node.kind in SAME_NUMBERS else node.elements
        peak = max(peak, alive)
        alive -= sum(dead.elements for dead in dying.get(place, ()))
    return peak


def _origin(node: Node) -> Node:
    while node.kind in SAME_NUMBERS:
        (node,) = node.inputs
    return node
