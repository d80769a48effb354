"""Normalization, and its place in a block."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.scalars import CONFIG, Count, Finite

NormOrder = Literal[
    "original", "norm_after_add", "relu_before_add", "relu_only_preact", "full_preact"
]
"""The order of normalization, activation and addition: He et al. 2016 (arXiv 1603.05027), Fig. 4 a
to e."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class BatchNorm:
    """Batch normalization (arXiv 1502.03167)."""

    kind: Literal["batch"] = "batch"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Fraction of the old moving average that each training step keeps."""
    epsilon: Annotated[Finite, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class LayerNorm:
    """Layer normalization (arXiv 1607.06450), channel-wise: over the channels of each position."""

    kind: Literal["layer"] = "layer"
    epsilon: Annotated[Finite, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class GroupNorm:
    """Normalization over the positions and channels of each group (arXiv 1803.08494)."""

    kind: Literal["group"] = "group"
    groups: Count = 32
    """If it does not divide the width, the greatest common divisor of the two is used."""
    epsilon: Annotated[Finite, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class NoNorm:
    """No normalization."""

    kind: Literal["none"] = "none"


Norm = Annotated[BatchNorm | LayerNorm | GroupNorm | NoNorm, Field(discriminator="kind")]
