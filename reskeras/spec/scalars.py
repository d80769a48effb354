"""The numbers and words that make up specs."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, Strict

CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

# Counts are strict: `True` is not 1 and "16" is not 16. Floats are not strict, because PyYAML reads
# `1e-3` as a string.
Count = Annotated[int, Strict(), Field(gt=0)]
Repeats = Annotated[int, Strict(), Field(gt=0, le=10_000)]
Whole = Annotated[int, Strict(), Field(ge=0)]
Flag = Annotated[bool, Strict()]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]

Init = Literal[
    "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "orthogonal"
]


InputShape = Annotated[tuple[Count, ...], Field(min_length=1, max_length=4)]
"""Sides and channels of one input, channels last: [C], [L, C], [H, W, C] or [D, H, W, C]."""

ImageShape = tuple[int, ...]
"""Sides and channels of one image (or signal, or volume), channels last."""

Pixels = Literal["bytes", "floats"]
"""What raw images hold: bytes, or other numbers, which are not rounded when they are resized."""
