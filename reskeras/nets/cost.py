"""What a network costs, by arithmetic on its spec: no Keras, nothing built.

Not called `cost`: importing a module of that name would put it in the place of the function `reskeras.cost`.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from reskeras.nets.assemble import as_spec, assemble
from reskeras.nets.primitives import Convolution, Layers, Padding, PoolKind
from reskeras.spec import Activation, AnySpec, BatchNorm, Norm

FLOAT32 = 4
"""Bytes of a number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A network's cost for one image."""

    params: int
    """All parameters, with the moving statistics of batch norm: Keras' `count_params()`."""
    trainable_params: int
    """Those that training changes: what papers count."""
    macs: int
    """Multiply-adds of convolutions and dense layers in one forward pass; nothing else is counted."""
    activation_bytes: int
    """Memory of one image's activations in training, in float32: the output of every layer that makes new numbers, as the backward
    pass may need it. A framework that fuses layers keeps less."""
    inference_bytes: int
    """The most memory in bytes that the activations of one image need at once in inference, each freed after its last use."""
    receptive_field: int
    """Side in pixels of the part of the image that one position of the last maps depends on (before a global pooling). Where ways
    meet whose parts lie beside each other, as in hourglasses and behind averaged shortcuts, the larger part alone counts."""
    depth: int
    """Convolutions and dense layers on the longest way from image to output: the number in a net's name. Gates are left out."""
    layers: int
    """Keras layers, without the input."""


def cost(spec: AnySpec | str) -> Cost:
    """The cost of a spec (or a preset's name), by arithmetic.

    Raises:
        RequestError: no preset has this name, or the parts of the spec do not fit each other.
        TypeError: not a spec.
    """
    return _cost(as_spec(spec))


@functools.lru_cache(maxsize=512)
def _cost(spec: AnySpec) -> Cost:
    # A search asks for the cost of the same few networks again and again.
    made, ends = trace(spec)
    image, *made = made
    return Cost(
        params=sum(maps.params + maps.statistics for maps in made),
        trainable_params=sum(maps.params for maps in made),
        macs=sum(maps.macs for maps in made),
        activation_bytes=FLOAT32 * sum(maps.elements for maps in made if not maps.alias),
        inference_bytes=FLOAT32 * _peak([image, *made], ends),
        receptive_field=max(end.field for end in ends),
        depth=max(end.depth for end in ends),
        layers=len(made),
    )


def trace(
    spec: AnySpec | str, layers: "Arithmetic | None" = None
) -> tuple[list["Maps"], list["Maps"]]:
    """All that the layers of a network give, beginning with its input, in the order in which they run; and its outputs.

    `layers` is what counts them, where something is to be noted besides.

    Raises:
        As `cost`.
    """
    layers = layers or Arithmetic()
    _, outputs = assemble(as_spec(spec), layers)
    ends = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    # Behind the last endpoint that a features head asks for nothing is needed.
    needed, open_ends = set(), list(ends)
    while open_ends:
        maps = open_ends.pop()
        if id(maps) not in needed:
            needed.add(id(maps))
            open_ends += maps.inputs
    return [maps for maps in layers.made if id(maps) in needed], ends


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """What a layer gives: the shape of its output, and what it took to get there."""

    name: str
    sides: tuple[int, ...]
    channels: int
    inputs: tuple["Maps", ...] = ()
    params: int = 0
    statistics: int = 0
    macs: int = 0
    field: int = 1
    step: float = 1.0
    """Pixels of the image between neighbouring positions."""
    depth: int = 0
    alias: bool = False
    """Whether these are the numbers of the input in another shape or under another name."""

    @property
    def elements(self) -> int:
        """Numbers in the output for one image."""
        return math.prod(self.sides) * self.channels


class Arithmetic(Layers):
    """`reskeras.nets.primitives.Layers` that counts: one `Maps` where Keras would have one layer, under the same name."""

    def __init__(self) -> None:
        self.made: list[Maps] = []

    def input(self, shape: tuple[int, ...], *, name: str) -> Maps:
        return self._make(name, (), sides=shape[:-1], channels=shape[-1])

    def size(self, x: Maps) -> tuple[int, ...]:
        return x.sides

    def channels(self, x: Maps) -> int:
        return x.channels

    def convolution(self, x: Maps, conv: Convolution, *, name: str) -> Maps:
        lost = conv.kernel - 1 if conv.padding == "valid" else 0
        sides = tuple(math.ceil((side - lost) / conv.stride) for side in x.sides)
        weights = conv.kernel ** len(x.sides) * x.channels // conv.groups * conv.width
        return self._make(
            name,
            (x,),
            sides=sides,
            channels=conv.width,
            params=weights + conv.bias * conv.width,
            macs=weights * math.prod(sides),
            field=x.field + round((conv.kernel - 1) * x.step) if x.sides else 1,
            step=x.step * conv.stride,
            depth=x.depth + 1,
        )

    def conv_transpose(self, x: Maps, width: int, *, name: str) -> Maps:
        weights = 2 ** len(x.sides) * x.channels * width
        sides = tuple(2 * side for side in x.sides)
        macs = weights * math.prod(x.sides)
        return self._make(
            name,
            (x,),
            sides=sides,
            channels=width,
            params=weights + width,
            macs=macs,
            step=x.step / 2,
            depth=x.depth + 1,
        )

    def dense(self, x: Maps, width: int, *, name: str, activation: str | None) -> Maps:
        weights = x.channels * width
        return self._make(
            name,
            (x,),
            sides=(),
            channels=width,
            params=weights + width,
            macs=weights,
            depth=x.depth + 1,
        )

    def norm(self, x: Maps, spec: Norm, *, name: str, zero: bool = False) -> Maps:
        statistics = 2 * x.channels if isinstance(spec, BatchNorm) else 0
        return self._make(name, (x,), params=2 * x.channels, statistics=statistics)

    def activation(self, x: Maps, kind: Activation, *, name: str) -> Maps:
        return self._make(name, (x,))

    def add(self, xs: Sequence[Maps], *, name: str, float32: bool = False) -> Maps:
        return self._make(name, xs)

    def concat(self, xs: Sequence[Maps], *, name: str) -> Maps:
        return self._make(name, xs, channels=sum(x.channels for x in xs))

    def multiply(self, x: Maps, gate: Maps, *, name: str) -> Maps:
        return self._make(name, (x, gate), field=x.field, step=x.step, depth=x.depth)

    def scale(self, x: Maps, factor: float, *, offset: float = 0.0, name: str) -> Maps:
        return self._make(name, (x,))

    def learned_scale(self, x: Maps, *, name: str) -> Maps:
        x = self._make(f"{name}_split", (x,), alias=True)
        x = self._make(name, (x,), params=1)
        return self._make(f"{name}_join", (x,), alias=True)

    def window(
        self, x: Maps, kind: PoolKind, size: int, stride: int, padding: Padding, *, name: str
    ) -> Maps:
        lost = size - 1 if padding == "valid" else 0
        sides = tuple(math.ceil((side - lost) / stride) for side in x.sides)
        return self._make(
            name,
            (x,),
            sides=sides,
            field=x.field + round((size - 1) * x.step),
            step=x.step * stride,
        )

    def global_pool(self, x: Maps, *, name: str, keep_sides: bool = False) -> Maps:
        if not x.sides:
            return x
        return self._make(name, (x,), sides=(1,) * len(x.sides) if keep_sides else ())

    def upsample(self, x: Maps, *, name: str) -> Maps:
        return self._make(name, (x,), sides=tuple(2 * side for side in x.sides), step=x.step / 2)

    def pad(self, x: Maps, amounts: Sequence[tuple[int, int]], *, name: str) -> Maps:
        return self._make(
            name,
            (x,),
            sides=tuple(side + sum(pair) for side, pair in zip(x.sides, amounts, strict=True)),
        )

    def crop(self, x: Maps, amounts: Sequence[tuple[int, int]], *, name: str) -> Maps:
        return self._make(
            name,
            (x,),
            sides=tuple(side - sum(pair) for side, pair in zip(x.sides, amounts, strict=True)),
        )

    def pad_channels(self, x: Maps, width: int, *, name: str) -> Maps:
        x = self._make(f"{name}_split", (x,), alias=True)
        x = self._make(name, (x,), channels=width)
        return self._make(f"{name}_join", (x,), alias=True)

    def dropout(self, x: Maps, rate: float, *, name: str, whole: bool = False) -> Maps:
        return self._make(name, (x,))

    def endpoint(self, x: Maps, *, name: str) -> Maps:
        return self._make(name, (x,), alias=True)

    def _make(self, name: str, inputs: Iterable[Maps], **changes: Any) -> Maps:
        inputs = tuple(inputs)
        inherited: dict[str, Any] = {}
        if inputs:
            first = inputs[0]
            inherited = {
                "sides": first.sides,
                "channels": first.channels,
                "field": max(x.field for x in inputs),
                "step": first.step,
                "depth": max(x.depth for x in inputs),
            }
        maps = Maps(name=name, inputs=inputs, **inherited | changes)
        self.made.append(maps)
        return maps


def _peak(made: Sequence[Maps], ends: Sequence[Maps]) -> int:
    """The most numbers alive at once when the layers run in this order."""
    last_use = {
        id(_origin(x)): place for place, maps in enumerate(made) for x in (*maps.inputs, maps)
    }
    last_use |= {id(_origin(end)): len(made) for end in ends}
    dying: dict[int, list[Maps]] = {}
    for maps in made:
        if not maps.alias:
            dying.setdefault(last_use[id(maps)], []).append(maps)
    alive = peak = 0
    for place, maps in enumerate(made):
        alive += 0 if maps.alias else maps.elements
        peak = max(peak, alive)
        alive -= sum(dead.elements for dead in dying.get(place, ()))
    return peak


def _origin(maps: Maps) -> Maps:
    while maps.alias:
        (maps,) = maps.inputs
    return maps
