"""A network as a graph of nodes: its layers, their order and their inputs.

Costs, growth and drawings read this graph. None of them needs Keras.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reskeras.nets.assemble import as_spec, assemble
from reskeras.nets.primitives import Convolution, Layers, Padding, PoolKind
from reskeras.spec import Activation, AnySpec, BatchNorm, GroupNorm, LayerNorm, Norm

SAME_NUMBERS = frozenset({"Reshape", "Identity"})
"""Kinds whose output is their input with another shape or name."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One layer."""

    name: str
    kind: str
    """Its Keras class. A recorded node leaves out the rank (`Conv`, `MaxPooling`), except in
    `ZeroPadding2D`, which pads channels."""
    settings: Mapping[str, Any]
    """Arguments of its Keras class."""
    inputs: tuple["Node", ...]
    sides: tuple[int, ...]
    """The spatial sides of its output."""
    channels: int
    """The channels of its output."""
    kernel: tuple[int, ...] | None = None
    """The shape of its kernel, if it has one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its output, channels last, without the batch."""
        return (*self.sides, self.channels)

    @property
    def elements(self) -> int:
        """The number of elements in its output for one image."""
        return math.prod(self.shape)

    @property
    def kernel_channels(self) -> tuple[int, int]:
        """Input channels (per group) and output channels of its kernel."""
        assert self.kernel is not None
        before, after = self.kernel[-2:]
        return (after, before) if "Transpose" in self.kind else (before, after)

    @property
    def is_learned_scale(self) -> bool:
        """Whether it multiplies its input by one learned number."""
        return self.kind == "Dense" and self.kernel == (1, 1) and self.name.endswith("_scale")


@dataclasses.dataclass(frozen=True)
class Graph:
    """The nodes that the outputs depend on, in execution order (input first), and the outputs."""

    nodes: Sequence[Node]
    outputs: Sequence[Node]


def record(spec: AnySpec | str) -> Graph:
    """Records the graph of a spec's (or a preset's) network.

    Raises:
        RequestError: no preset has this name, or the parts of the spec do not fit each other.
        TypeError: not a spec.
    """
    recorder = Recorder()
    _, made = assemble(as_spec(spec), recorder)
    outputs = list(made.values()) if isinstance(made, dict) else [made]
    # A features head needs nothing after the last endpoint that it asks for.
    needed: set[Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.inputs
    return Graph([node for node in recorder.nodes if node in needed], outputs)


class Recorder(Layers):
    """A `reskeras.nets.primitives.Layers` that records a node for every Keras layer."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def input(self, shape: tuple[int, ...], *, name: str) -> Node:
        return self._record("InputLayer", name, (), sides=shape[:-1], channels=shape[-1])

    def size(self, x: Node) -> tuple[int, ...]:
        return x.sides

    def channels(self, x: Node) -> int:
        return x.channels

    def convolution(self, x: Node, conv: Convolution, *, name: str) -> Node:
        settings: dict[str, Any] = {
            "use_bias": conv.bias,
            "activation": conv.activation or "linear",
        }
        if conv.zero:
            settings["kernel_initializer"] = "zeros"
        if not x.sides:
            kernel = (x.channels, conv.width)
            return self._record("Dense", name, (x,), channels=conv.width, kernel=kernel, **settings)
        return self._record(
            "Conv",
            name,
            (x,),
            sides=_strided(x.sides, conv.kernel, conv.stride, conv.padding),
            channels=conv.width,
            kernel=(*[conv.kernel] * len(x.sides), x.channels // conv.groups, conv.width),
            kernel_size=conv.kernel,
            strides=conv.stride,
            groups=conv.groups,
            padding=conv.padding,
            **settings,
        )

    def conv_transpose(self, x: Node, width: int, *, name: str) -> Node:
        return self._record(
            "ConvTranspose",
            name,
            (x,),
            sides=tuple(2 * side for side in x.sides),
            channels=width,
            kernel=(*[2] * len(x.sides), width, x.channels),
            use_bias=True,
        )

    def dense(self, x: Node, width: int, *, name: str, activation: str | None) -> Node:
        return self._record(
            "Dense",
            name,
            (x,),
            sides=(),
            channels=width,
            kernel=(x.channels, width),
            use_bias=True,
            activation=activation or "linear",
        )

    def norm(self, x: Node, spec: Norm, *, name: str, zero: bool = False) -> Node:
        settings: dict[str, Any] = {"gamma_initializer": "zeros" if zero else "ones"}
        match spec:
            case BatchNorm(epsilon=epsilon):
                kind = "BatchNormalization"
            case LayerNorm(epsilon=epsilon):
                kind = "LayerNormalization"
            case GroupNorm(epsilon=epsilon, groups=groups):
                kind = "GroupNormalization"
                settings["groups"] = math.gcd(groups, x.channels)
            case _:
                raise TypeError(f"a norm without a layer: {spec!r}")
        return self._record(kind, name, (x,), epsilon=epsilon, **settings)

    def activation(self, x: Node, kind: Activation, *, name: str) -> Node:
        if kind == "relu":
            return self._record("ReLU", name, (x,))
        return self._record("Activation", name, (x,), activation=kind)

    def add(self, xs: Sequence[Node], *, name: str, float32: bool = False) -> Node:
        return self._record("Add", name, xs)

    def concat(self, xs: Sequence[Node], *, name: str) -> Node:
        return self._record("Concatenate", name, xs, channels=sum(x.channels for x in xs))

    def multiply(self, x: Node, gate: Node, *, name: str) -> Node:
        return self._record("Multiply", name, (x, gate))

    def scale(self, x: Node, factor: float, *, offset: float = 0.0, name: str) -> Node:
        return self._record("Rescaling", name, (x,), scale=factor, offset=offset)

    def rescale(
        self, x: Node, factors: Sequence[float], offsets: Sequence[float], *, name: str
    ) -> Node:
        scale, offset = list(factors), list(offsets)
        return self._record("Rescaling", name, (x,), scale=scale, offset=offset)

    def learned_scale(self, x: Node, *, name: str) -> Node:
        x = self._record("Reshape", f"{name}_split", (x,))
        x = self._record("Dense", name, (x,), kernel=(1, 1), use_bias=False)
        return self._record("Reshape", f"{name}_join", (x,))

    def window(
        self, x: Node, kind: PoolKind, size: int, stride: int, padding: Padding, *, name: str
    ) -> Node:
        return self._record(
            f"{kind.capitalize()}Pooling",
            name,
            (x,),
            sides=_strided(x.sides, size, stride, padding),
            pool_size=size,
            strides=stride,
            padding=padding,
        )

    def global_pool(self, x: Node, *, name: str, keep_sides: bool = False) -> Node:
        if not x.sides:
            return x
        sides = (1,) * len(x.sides) if keep_sides else ()
        return self._record("GlobalAveragePooling", name, (x,), sides=sides, keepdims=keep_sides)

    def upsample(self, x: Node, *, name: str) -> Node:
        return self._record("UpSampling", name, (x,), sides=tuple(2 * side for side in x.sides))

    def pad(self, x: Node, amounts: Sequence[tuple[int, int]], *, name: str) -> Node:
        sides = tuple(side + sum(pair) for side, pair in zip(x.sides, amounts, strict=True))
        return self._record("ZeroPadding", name, (x,), sides=sides, padding=list(amounts))

    def crop(self, x: Node, amounts: Sequence[tuple[int, int]], *, name: str) -> Node:
        sides = tuple(side - sum(pair) for side, pair in zip(x.sides, amounts, strict=True))
        return self._record("Cropping", name, (x,), sides=sides, cropping=list(amounts))

    def pad_channels(self, x: Node, width: int, *, name: str) -> Node:
        padding = [(0, width - x.channels)]
        x = self._record("Reshape", f"{name}_split", (x,))
        x = self._record("ZeroPadding2D", name, (x,), channels=width, padding=padding)
        return self._record("Reshape", f"{name}_join", (x,))

    def dropout(self, x: Node, rate: float, *, name: str, whole: bool = False) -> Node:
        noise_shape = (None, *(1,) * len(x.shape)) if whole else None
        return self._record("Dropout", name, (x,), rate=rate, noise_shape=noise_shape)

    def endpoint(self, x: Node, *, name: str) -> Node:
        return self._record("Identity", name, (x,))

    def _record(
        self,
        kind: str,
        name: str,
        inputs: Iterable[Node],
        *,
        sides: tuple[int, ...] | None = None,
        channels: int | None = None,
        kernel: tuple[int, ...] | None = None,
        **settings: Any,
    ) -> Node:
        """Records a node; sides and channels default to those of the first input."""
        inputs = tuple(inputs)
        node = Node(
            name=name,
            kind=kind,
            settings=settings,
            inputs=inputs,
            sides=inputs[0].sides if sides is None else sides,
            channels=inputs[0].channels if channels is None else channels,
            kernel=kernel,
        )
        self.nodes.append(node)
        return node


def _strided(sides: Sequence[int], size: int, stride: int, padding: Padding) -> tuple[int, ...]:
    lost = size - 1 if padding == "valid" else 0
    return tuple(math.ceil((side - lost) / stride) for side in sides)
