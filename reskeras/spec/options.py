"""What all families have, beside their own fields."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.norms import BatchNorm, Norm, NormOrder
from reskeras.spec.scalars import CONFIG, Activation, Count, Flag, Init
from reskeras.spec.shortcuts import ResidualScale, Shortcut

ConvBias = Literal["without_norm", "unless_normed", "always", "never"]
"""Which convolutions have a bias: all of a net without normalisation (the papers), each that no normalisation follows
directly (keras.applications' V2), all (keras.applications' V1), or none."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Options:
    """What every family has beside its own fields."""

    norm_order: NormOrder = "original"
    norm: Norm = BatchNorm()
    activation: Activation = "relu"
    init: Init = "he_normal"
    """Of the kernels of all convolutions (he: arXiv 1502.01852; glorot: AISTATS 2010; lecun: 1998; orthogonal: arXiv 1312.6120).
    The normal ones are not truncated. A classifier's dense layer has glorot_uniform always."""
    conv_bias: ConvBias = "without_norm"
    """Of stem, blocks, projections and transitions; upsampling convolutions, gates, `conv1x1` shortcuts and heads have a bias."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """In every block: before its last convolution (arXiv 1605.07146), in dense layers after each (arXiv 1608.06993)."""
    squeeze_excite: Count | None = None
    """Reduction ratio of squeeze-and-excitation on every branch (arXiv 1709.01507; 16 in the paper); None for none."""
    data_format: Literal["channels_last", "channels_first"] = "channels_last"
    """Of the model's images and tensors. `input_shape` is always written channels last; with `channels_first` the model takes
    [N,C,H,W] (for which TensorFlow has only some of its kernels on a CPU)."""
    layer_prefix: Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9_]*)?$")] = ""
    """Begins the name of every layer."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ResidualOptions(Options):
    """What the families with residual blocks have."""

    shortcut: Shortcut = "project_on_change"
    """Of residual blocks; `plain` and `dense` blocks have none."""
    residual_scale: ResidualScale = 1.0
    zero_init_last: Flag = False
    """Whether every residual block starts as its shortcut: the last norm of its branch with gamma zero (arXiv 1706.02677),
    or its last convolution with kernel zero where no norm is last."""
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that training drops the last block's branch for an image; of the l-th of L blocks, l/L of it (stochastic depth,
    arXiv 1603.09382)."""
