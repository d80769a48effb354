"""Shortcuts, and the factor of the residual branch."""

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from reskeras.spec.scalars import CONFIG, Finite


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ScaledShortcut:
    """The shortcut times a constant (arXiv 1603.05027, Section 3.1)."""

    kind: Literal["scaled"] = "scaled"
    factor: Annotated[Finite, Field(gt=0)] = 0.5


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class GatedShortcut:
    """The shortcut times 1 - g(x), g the sigmoid of a 1x1 convolution.

    Source: arXiv 1603.05027, Fig. 2c and d.
    """

    kind: Literal["gated"] = "gated"
    gate: Literal["exclusive", "shortcut_only"] = "exclusive"
    """`exclusive` multiplies the branch by g(x) too, as a highway net does (arXiv 1505.00387)."""
    bias: Finite = -6.0
    """Initial bias of the gate; the more negative, the closer the shortcut is to the identity."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DropoutShortcut:
    """Dropout on the shortcut (arXiv 1603.05027, Fig. 2f)."""

    kind: Literal["dropout"] = "dropout"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5


_SHORTCUTS_WITH_VALUES = ("scaled", "gated", "dropout")

ShortcutWord = Literal[
    "pad",
    "project_on_change",
    "project_always",
    "avgpool_project",
    "maxpool",
    "conv1x1",
    "none",
    "scaled",
    "gated",
    "dropout",
]


def _shortcut_tag(value: Any) -> str:
    return (
        "word"
        if isinstance(value, str)
        else str(value.get("kind") if isinstance(value, dict) else getattr(value, "kind", ""))
    )


Shortcut = Annotated[
    Annotated[ShortcutWord, Tag("word")]
    | Annotated[ScaledShortcut, Tag("scaled")]
    | Annotated[GatedShortcut, Tag("gated")]
    | Annotated[DropoutShortcut, Tag("dropout")],
    Discriminator(
        _shortcut_tag,
        custom_error_type="shortcut",
        custom_error_message=f"a shortcut is one of {', '.join(get_args(ShortcutWord))}, or a "
        "mapping whose kind is " + " or ".join(_SHORTCUTS_WITH_VALUES),
    ),
    BeforeValidator(lambda value: {"kind": value} if value in _SHORTCUTS_WITH_VALUES else value),
]
"""The shortcut of a residual block. If a block changes neither size nor width, most kinds are the
identity. Otherwise:

`pad` subsamples and appends zero channels (option A of arXiv 1512.03385). `project_on_change` is a
1x1 convolution with a norm (option B); `project_always` has it in every block (option C).
`avgpool_project` averages first and convolves without stride (ResNet-D, arXiv 1812.01187, Fig. 2c).
`maxpool` subsamples if only the size changes and projects without a norm if the width changes
(keras.applications' V2). `conv1x1` is a bare 1x1 convolution in every block. `scaled`, `gated` and
`dropout` stand for mappings of that kind with default values (all of arXiv 1603.05027, Section 3);
if the shape changes, they project like option B. `none` omits the addition.
"""

ScaleWord = Literal["1/sqrt(2)", "1/sqrt(depth)", "learned"]


def _scale_tag(value: Any) -> str:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "word"
    return "number"


ResidualScale = Annotated[
    Annotated[ScaleWord, Tag("word")] | Annotated[Annotated[Finite, Field(gt=0)], Tag("number")],
    Discriminator(_scale_tag),
]
"""Factor of the branch before the addition: a number, 1/sqrt(2), 1/sqrt(number of residual blocks)
(arXiv 2309.16620), or a scalar per block learned from zero (SkipInit, arXiv 2002.10444; ReZero,
arXiv 2003.04887)."""

SumScale = Annotated[
    Annotated[Literal["1/sqrt(2)"], Tag("word")]
    | Annotated[Annotated[Finite, Field(gt=0)], Tag("number")],
    Discriminator(_scale_tag),
]
"""Factor of the sum of shortcut and branch: a number, or 1/sqrt(2) (arXiv 2011.13456, Appendix H),
which keeps the second moment if the two are uncorrelated and of equal size."""


def sum_scale(scale: float | Literal["1/sqrt(2)"]) -> float:
    """The value of a sum's scale."""
    return 1 / math.sqrt(2) if scale == "1/sqrt(2)" else float(scale)


def residual_scale(scale: float | ScaleWord, blocks: int) -> float | None:
    """The value of a residual scale in a network of so many blocks; None if it is learned."""
    match scale:
        case "learned":
            return None
        case "1/sqrt(2)":
            return 1 / math.sqrt(2)
        case "1/sqrt(depth)":
            return 1 / math.sqrt(blocks)
        case _:
            return float(scale)
