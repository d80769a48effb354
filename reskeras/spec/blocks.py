"""Kinds of block."""

from typing import Annotated, Literal, assert_never

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.scalars import CONFIG, Count, Flag

StrideAt = Literal["1x1", "3x3", "last_block"]
"""The convolution with a stage's stride: the first 1x1 of a bottleneck (arXiv 1512.03385), the 3x3
("v1.5", ResNet-B), or the 3x3 of the stage's last block (keras.applications' V2)."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class PlainBlock:
    """Two 3x3 convolutions: the plain twin of `basic` (arXiv 1512.03385, Section 3.3)."""

    kind: Literal["plain"] = "plain"


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class BasicBlock:
    """Two 3x3 convolutions and a shortcut (arXiv 1512.03385, Fig. 5 left)."""

    kind: Literal["basic"] = "basic"


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class BottleneckBlock:
    """1x1, 3x3 and 1x1 convolutions with a shortcut.

    Source: arXiv 1512.03385, Fig. 5 right; ResNeXt: arXiv 1611.05431.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    bottleneck_ratio: Annotated[float, Field(gt=0, le=8)] = 0.25
    """Inner width divided by the block's width; the papers' "expansion 4" is 0.25."""
    cardinality: Count = 1
    """Number of groups of the 3x3 convolution; a ResNeXt block has more than one."""

    def inner_width(self, width: int) -> int:
        """Channels of the two inner convolutions for a given output width."""
        return round(width * self.bottleneck_ratio)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DenseBlock:
    """One densely connected layer: concatenates new feature maps to its input (arXiv 1608.06993).

    In the family `densenet`, transitions join the stages. In the other families, whose stages have
    a width, a stage of dense layers ends in a 1x1 convolution to that width.
    """

    kind: Literal["dense"] = "dense"
    growth_rate: Count = 12
    """Feature maps that each layer adds (k in the paper)."""
    bottleneck: Flag = True
    """Whether a 1x1 convolution to 4k channels precedes the 3x3 (DenseNet-B)."""
    compression: Annotated[float, Field(gt=0, le=1)] | None = None
    """Output channels of a transition divided by its input channels (theta; DenseNet-C). Only the
    family `densenet` has transitions. None means 1."""


Block = Annotated[
    PlainBlock | BasicBlock | BottleneckBlock | DenseBlock, Field(discriminator="kind")
]


def is_residual(block: Block) -> bool:
    """Whether blocks of this kind have a shortcut."""
    match block:
        case BasicBlock() | BottleneckBlock():
            return True
        case PlainBlock() | DenseBlock():
            return False
        case _:
            assert_never(block)
