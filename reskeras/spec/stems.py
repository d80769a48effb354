"""Kinds of stem."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.scalars import CONFIG, Count


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class CifarStem:
    """One 3x3 convolution at full resolution."""

    kind: Literal["cifar"] = "cifar"
    width: Count = 16


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ImagenetStem:
    """A 7x7 convolution with stride 2, then 3x3 max pooling with stride 2."""

    kind: Literal["imagenet"] = "imagenet"
    width: Count = 64


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DeepStem:
    """Three 3x3 convolutions, then 3x3 max pooling with stride 2.

    The first convolution has stride 2; the first two have half the width. Source: ResNet-C and D,
    arXiv 1812.01187, Fig. 2b.
    """

    kind: Literal["deep"] = "deep"
    width: Count = 64


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class LinearStem:
    """A bare linear layer (a 1x1 convolution), before blocks that start with an activation."""

    kind: Literal["linear"] = "linear"
    width: Count = 16


Stem = Annotated[CifarStem | ImagenetStem | DeepStem | LinearStem, Field(discriminator="kind")]
