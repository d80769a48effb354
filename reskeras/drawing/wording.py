"""Texts of a drawing: blocks, heads, stems and sizes."""

from typing import Any

from reskeras.drawing.tracing import NORMS, Trace, conv_words, times
from reskeras.spec import (
    Block,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DeepStem,
    DenseBlock,
    Features,
    GatedShortcut,
    Heatmaps,
    ImagenetStem,
    LinearStem,
    NoNorm,
    Numbers,
    Regressor,
    Segmenter,
    Stem,
    is_residual,
)


def block_words(block: Block) -> str:
    """A kind of block in one word."""
    match block:
        case BottleneckBlock(cardinality=groups) if groups > 1:
            return "ResNeXt"
        case DenseBlock():
            return "dense"
        case _:
            return str(block.kind)


def stem_lines(stem: Stem, dims: int) -> list[str]:
    """The layers of a stem."""
    match stem:
        case ImagenetStem():
            return [f"{conv_words(7, dims)} /2", "max pool /2"]
        case DeepStem():
            return [f"three {conv_words(3, dims)}s, /2", "max pool /2"]
        case CifarStem():
            return [conv_words(3, dims)]
        case LinearStem():
            return [conv_words(1, dims)]


def head_lines(head: Any, dims: int) -> list[str]:
    """The layers of a head in two or three lines."""
    conv = conv_words(1, dims)
    match head:
        case Classifier():
            pool = ["global avg pool"] if dims else []
            return [
                *pool,
                f"dense {head.classes}",
                *([] if head.activation == "none" else [head.activation]),
            ]
        case Numbers():
            pool = ["global avg pool"] if dims else []
            return [*pool, f"dense {head.count}"]
        case Segmenter():
            end = "" if head.activation == "none" else f", {head.activation}"
            return [f"{conv}{end}", f"{head.classes} class{'es' if head.classes > 1 else ''}"]
        case Heatmaps():
            return [conv, f"{head.keypoints} heatmaps"]
        case Regressor():
            return [f"{conv}, {head.channels}", *(["+ the input"] if head.add_input else [])]
        case Features():
            first = list(head.endpoints[:3])
            return ["features:", *first, *(["…"] if len(head.endpoints) > 3 else [])]
        case _:
            raise TypeError(f"no head: {head!r}")


def final_lines(trace: Trace) -> list[str]:
    """Norm and activation between the last block of a pre-activation net and its head."""
    words = [
        " ".join(trace.notes[maps.name].lines)
        for maps in trace.within("final")
        if maps.name in trace.notes
    ]
    return [", ".join(words)] if words else []


def arc_words(shortcut: Any) -> str:
    """What a dashed arc stands for."""
    match shortcut:
        case "pad":
            return "subsampled, with zero channels (option A)"
        case "maxpool":
            return "pooled or projected"
        case "avgpool_project":
            return "pooled and projected (ResNet-D)"
        case "conv1x1":
            return "1×1 convolution"
        case GatedShortcut():
            return "gated"
        case str():
            return "projection"
        case _:
            return "with dropout" if shortcut.kind == "dropout" else shortcut.kind


def options(spec: Any) -> list[str]:
    """The options that all blocks of a network share."""
    block = spec.block
    norm = "no norm" if isinstance(spec.norm, NoNorm) else NORMS[spec.norm.kind]
    words = [f"{norm}, {spec.norm_order.replace('_', ' ')} order"]
    encoder = getattr(spec, "encoder", None)
    words += [f"encoder {encoder.name}"] if encoder else []
    words += [f"{spec.stacks} stacks"] if getattr(spec, "stacks", 1) > 1 else []
    if isinstance(block, BottleneckBlock) and block.cardinality > 1:
        words.append(f"cardinality {block.cardinality}")
    if isinstance(block, DenseBlock):
        words.append(f"growth rate {block.growth_rate}")
        words += [f"compression {block.compression:g}"] if block.compression else []
    words += [f"squeeze-excite 1/{spec.squeeze_excite}"] if spec.squeeze_excite else []
    words += [f"dropout {spec.dropout:g}"] if spec.dropout else []
    words += [f"drop path to {spec.drop_path_rate:g}"] if getattr(spec, "drop_path_rate", 0) else []
    return words


def size_lines(trace: Trace, name: str, after: str | None = None) -> list[str]:
    """Width and resolution of a layer, and the resolution after its pooling."""
    maps = trace[name]
    lines = [f"width {maps.channels}"]
    if maps.sides:
        pooled = trace.nodes.get(after or "")
        lines.append(sides_words(maps.sides) + (f" → {times(pooled.sides)}" if pooled else ""))
    return lines


def sides_words(sides: tuple[int, ...]) -> str:
    """A resolution."""
    return times(sides) if len(sides) > 1 else f"length {times(sides)}"


def has_shortcuts(spec: Any) -> bool:
    """Whether the blocks of a network have shortcuts."""
    return is_residual(spec.block) and spec.shortcut != "none"
