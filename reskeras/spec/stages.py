"""Stages of blocks, and the levels of a U-Net."""

from pydantic.dataclasses import dataclass

from reskeras.spec.scalars import CONFIG, Count, Repeats


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Stage:
    """Blocks at one resolution."""

    blocks: Repeats
    width: Count
    """Output channels of every block of the stage."""
    stride: Count = 1
    """Stride of the stage; `stride_at` says which convolution has it."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DenseStage:
    """Dense layers at one resolution; their width follows from the growth rate."""

    blocks: Repeats


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Level:
    """One resolution of a U-Net: a stage of the encoder and one of the decoder."""

    blocks: Repeats = 1
    width: Count
