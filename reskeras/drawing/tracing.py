"""What a network's layers are called in a drawing: the arithmetic of `reskeras.nets.cost` that also takes notes."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

from reskeras.nets.assemble import assemble
from reskeras.nets.cost import Arithmetic, Maps
from reskeras.nets.primitives import Convolution, Padding, PoolKind
from reskeras.nets.unet import encoder_of
from reskeras.spec import Activation, AnySpec, Norm, PresetEncoder, UNet

Role = Literal["conv", "norm", "activation", "add", "concat", "multiply", "pool", "other"]

NORMS = {"batch": "BN", "layer": "LN", "group": "GN"}
ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
}


@dataclasses.dataclass(frozen=True)
class Note:
    """A layer in a drawing: what it is and its words, line by line."""

    role: Role
    lines: tuple[str, ...]


class Trace(Arithmetic):
    """A network's layers by name, and notes on those that a person would draw (no endpoints, rims or crops)."""

    def __init__(self, spec: AnySpec) -> None:
        super().__init__()
        self.notes: dict[str, Note] = {}
        self.spec = plain_names(spec)
        assemble(self.spec, self)
        self.maps: dict[str, Maps] = {maps.name: maps for maps in self.made}

    def __getitem__(self, name: str) -> Maps:
        return self.maps[name]

    def within(self, name: str) -> list[Maps]:
        """The layers whose names begin with this one and an underscore, in the order in which they run."""
        return [maps for maps in self.made if maps.name.startswith(f"{name}_")]

    def convolution(self, x: Maps, conv: Convolution, *, name: str) -> Maps:
        words = conv_words(conv.kernel, len(x.sides))
        more = [f"/{conv.stride}"] if conv.stride > 1 else []
        more += [f"{conv.groups} groups"] if conv.groups > 1 else []
        activation = [ACTIVATIONS.get(conv.activation, conv.activation)] if conv.activation else []
        self.notes[name] = Note("conv", (words, ", ".join([str(conv.width), *more]), *activation))
        return super().convolution(x, conv, name=name)

    def norm(self, x: Maps, spec: Norm, *, name: str, zero: bool = False) -> Maps:
        self.notes[name] = Note("norm", (NORMS[spec.kind], *(["γ = 0"] if zero else [])))
        return super().norm(x, spec, name=name)

    def activation(self, x: Maps, kind: Activation, *, name: str) -> Maps:
        self.notes[name] = Note("activation", tuple(ACTIVATIONS[kind].split()))
        return super().activation(x, kind, name=name)

    def add(self, xs: Sequence[Maps], *, name: str, float32: bool = False) -> Maps:
        self.notes[name] = Note("add", ("+",))
        return super().add(xs, name=name)

    def concat(self, xs: Sequence[Maps], *, name: str) -> Maps:
        self.notes[name] = Note("concat", ("C",))
        return super().concat(xs, name=name)

    def multiply(self, x: Maps, gate: Maps, *, name: str) -> Maps:
        self.notes[name] = Note("multiply", ("×",))
        return super().multiply(x, gate, name=name)

    def scale(self, x: Maps, factor: float, *, offset: float = 0.0, name: str) -> Maps:
        words = "1 − g" if (factor, offset) == (-1.0, 1.0) else f"× {factor:.3g}"
        self.notes[name] = Note("other", (words,))
        return super().scale(x, factor, offset=offset, name=name)

    def learned_scale(self, x: Maps, *, name: str) -> Maps:
        self.notes[name] = Note("other", ("× α", "learned"))
        return super().learned_scale(x, name=name)

    def window(
        self, x: Maps, kind: PoolKind, size: int, stride: int, padding: Padding, *, name: str
    ) -> Maps:
        # Pooling of one pixel only leaves some out: option A's way of halving.
        words = (
            "subsample" if size == 1 else f"{'max' if kind == 'max' else 'avg'} pool",
            f"/{stride}",
        )
        self.notes[name] = Note("pool", words)
        return super().window(x, kind, size, stride, padding, name=name)

    def global_pool(self, x: Maps, *, name: str, keep_sides: bool = False) -> Maps:
        self.notes[name] = Note("pool", ("global", "avg pool"))
        return super().global_pool(x, name=name, keep_sides=keep_sides)

    def pad_channels(self, x: Maps, width: int, *, name: str) -> Maps:
        self.notes[name] = Note("other", ("zero", "channels"))
        return super().pad_channels(x, width, name=name)

    def dropout(self, x: Maps, rate: float, *, name: str, whole: bool = False) -> Maps:
        self.notes[name] = Note("other", ("drop path" if whole else "dropout", f"{rate:.2g}"))
        return super().dropout(x, rate, name=name, whole=whole)


def plain_names(spec: AnySpec) -> AnySpec:
    """The spec without prefixes of layers' names, and with its encoder, where it has one of its own kind, in full."""
    changes: dict[str, Any] = {"layer_prefix": ""}
    if isinstance(spec, UNet) and isinstance(spec.encoder, PresetEncoder):
        changes["encoder"] = encoder_of(spec)
    if isinstance(spec, UNet) and (encoder := changes.get("encoder", spec.encoder)) is not None:
        changes["encoder"] = dataclasses.replace(encoder, layer_prefix="")
    return dataclasses.replace(spec, **changes)


def times(sides: Sequence[int], channels: int | None = None) -> str:
    """Sides in words: 56×56, or 56×56×3 with channels."""
    return "×".join(
        str(number) for number in itertools.chain(sides, [] if channels is None else [channels])
    )


def conv_words(kernel: int, dims: int) -> str:
    """A convolution in so many dimensions; without any it is a dense layer."""
    if dims < 2:
        return f"conv {kernel}" if dims else "dense"
    return f"{times([kernel] * dims)} conv"
