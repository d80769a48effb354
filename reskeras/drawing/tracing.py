"""What a network's layers are called in a drawing: words for each node of its graph."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

from reskeras.nets.assemble import assemble
from reskeras.nets.graph import Node, Recorder
from reskeras.nets.unet import encoder_of
from reskeras.spec import AnySpec, PresetEncoder, UNet

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


class Trace:
    """A network's layers by name, and notes on those worth drawing (no endpoints or crops)."""

    def __init__(self, spec: AnySpec) -> None:
        self.spec = plain_names(spec)
        recorder = Recorder()
        assemble(self.spec, recorder)
        self.nodes: dict[str, Node] = {node.name: node for node in recorder.nodes}
        notes = {name: note_of(node) for name, node in self.nodes.items()}
        self.notes: dict[str, Note] = {name: note for name, note in notes.items() if note}

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def within(self, name: str) -> list[Node]:
        """The layers whose names start with this one and an underscore, in running order."""
        return [node for node in self.nodes.values() if node.name.startswith(f"{name}_")]


def note_of(node: Node) -> Note | None:
    """What a drawing says of a layer; None where it leaves the layer out."""
    settings = node.settings
    match node.kind:
        case "Dense" if node.is_learned_scale:
            return Note("other", ("× α", "learned"))
        case "Conv" | "Dense":
            width = [str(node.channels)]
            if (stride := settings.get("strides", 1)) > 1:
                width.append(f"/{stride}")
            if (groups := settings.get("groups", 1)) > 1:
                width.append(f"{groups} groups")
            kind = settings["activation"]
            activation = [] if kind == "linear" else [ACTIVATIONS.get(kind, kind)]
            words = conv_words(settings.get("kernel_size", 1), len(node.sides))
            return Note("conv", (words, ", ".join(width), *activation))
        case "BatchNormalization" | "LayerNormalization" | "GroupNormalization" as kind:
            zero = ["γ = 0"] if settings["gamma_initializer"] == "zeros" else []
            return Note("norm", (NORMS[kind.removesuffix("Normalization").lower()], *zero))
        case "ReLU" | "Activation":
            return Note(
                "activation", tuple(ACTIVATIONS[settings.get("activation", "relu")].split())
            )
        case "Add":
            return Note("add", ("+",))
        case "Concatenate":
            return Note("concat", ("C",))
        case "Multiply":
            return Note("multiply", ("×",))
        case "Rescaling":
            factor = settings["scale"]
            one_minus = (factor, settings["offset"]) == (-1.0, 1.0)
            return Note("other", ("1 − g" if one_minus else f"× {factor:.3g}",))
        case "MaxPooling" | "AveragePooling" as kind:
            words = "max pool" if kind == "MaxPooling" else "avg pool"
            # Pooling of one pixel only leaves some out: option A's way of halving.
            words = "subsample" if settings["pool_size"] == 1 else words
            return Note("pool", (words, f"/{settings['strides']}"))
        case "GlobalAveragePooling":
            return Note("pool", ("global", "avg pool"))
        case "ZeroPadding2D":
            return Note("other", ("zero", "channels"))
        case "Dropout":
            words = "drop path" if settings["noise_shape"] else "dropout"
            return Note("other", (words, f"{settings['rate']:.2g}"))
        case _:
            return None


def plain_names(spec: AnySpec) -> AnySpec:
    """The spec without layer prefixes, and with its separate encoder, if any, in full."""
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
