"""Rules that involve several fields of a spec; each raises the ValueError that pydantic reports."""

from typing import Any

from reskeras.spec.blocks import BottleneckBlock, DenseBlock, is_residual
from reskeras.spec.heads import Regressor
from reskeras.spec.stems import DeepStem, ImagenetStem


def check_block(spec: Any, block: Any, widths: dict[str, int]) -> None:
    """Raises ValueError if the block does not fit the widths or an option needs another block."""
    if isinstance(block, BottleneckBlock):
        for place, width in widths.items():
            inner = block.inner_width(width)
            if inner < 1 or inner % block.cardinality:
                raise ValueError(
                    f"{place}: width {width} with bottleneck_ratio {block.bottleneck_ratio:g} "
                    "gives inner width "
                    f"{inner}, which must be a multiple of cardinality {block.cardinality}"
                )
    if isinstance(block, DenseBlock) and block.compression is not None:
        raise ValueError(
            "block.compression: only the family 'densenet' has transitions; here the stages set "
            "the widths"
        )
    changed = [
        name
        for name, neutral in (
            ("residual_scale", 1.0),
            ("sum_scale", 1.0),
            ("zero_init_last", False),
            ("drop_path_rate", 0.0),
        )
        if getattr(spec, name) != neutral
    ]
    if changed and (not is_residual(block) or spec.shortcut == "none"):
        without = (
            f"block kind {block.kind!r} has no shortcut"
            if not is_residual(block)
            else "shortcut is 'none'"
        )
        raise ValueError(f"{changed[0]} applies to a branch with a shortcut, but {without}")

    if spec.zero_init_last and spec.residual_scale == "learned":
        raise ValueError(
            "zero_init_last: a learned residual_scale starts at zero too, and behind two zeros "
            "nothing gets a gradient"
        )
    if spec.zero_init_last and spec.norm_order == "relu_before_add" and spec.activation == "relu":
        raise ValueError(
            "zero_init_last: under norm_order 'relu_before_add' the branch ends in a ReLU, "
            "which at zero passes no gradient"
        )


def check_fully_connected(spec: Any, strides: list[int]) -> None:
    """Raises ValueError if a fully connected net has something that only images can have."""
    if any(stride > 1 for stride in strides):
        raise ValueError(
            "input_shape: a fully connected net ([C] alone) has no size for a stage's stride to "
            "divide"
        )
    if isinstance(spec.stem, ImagenetStem | DeepStem):
        raise ValueError(
            f"stem: {spec.stem.kind!r} divides an image's sides; a fully connected net takes "
            "'linear' or 'cifar'"
        )
    if isinstance(spec.block, BottleneckBlock) and spec.block.cardinality > 1:
        raise ValueError(
            "block.cardinality: convolutions have groups; a fully connected net has no convolutions"
        )


def check_added_input(head: Any, input_shape: tuple[int, ...]) -> None:
    """Raises ValueError if the input cannot be added to the head's maps."""
    if isinstance(head, Regressor) and head.add_input and head.channels != input_shape[-1]:
        raise ValueError(
            f"head.channels: {head.channels} maps cannot be added to an input of "
            f"{input_shape[-1]} channels; "
            "make them equal or set add_input to false"
        )
