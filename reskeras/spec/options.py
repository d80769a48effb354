"""Options shared by all families."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.norms import BatchNorm, Norm, NormOrder
from reskeras.spec.scalars import CONFIG, Activation, Count, Flag, Init
from reskeras.spec.shortcuts import ResidualScale, Shortcut, SumScale

ConvBias = Literal["without_norm", "unless_normed", "always", "never"]
"""Which convolutions have a bias: all of a network without normalization (the papers), those not
directly followed by a norm (keras.applications' V2), all (keras.applications' V1), or none."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Options:
    """Options of every family."""

    norm_order: NormOrder = "original"
    norm: Norm = BatchNorm()
    activation: Activation = "relu"
    init: Init = "he_normal"
    """Initializer of all convolution kernels (he: arXiv 1502.01852; glorot: AISTATS 2010; lecun:
    1998; orthogonal: arXiv 1312.6120). Normal distributions are not truncated. A classifier's dense
    layer always uses glorot_uniform."""
    conv_bias: ConvBias = "without_norm"
    """For stem, blocks, projections and transitions. Upsampling convolutions, gates, `conv1x1`
    shortcuts and heads always have a bias."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate in every block: before its last convolution (arXiv 1605.07146); in dense layers
    after each (arXiv 1608.06993)."""
    squeeze_excite: Count | None = None
    """Reduction ratio of squeeze-and-excitation on every branch (arXiv 1709.01507; 16 in the
    paper); None disables it."""
    data_format: Literal["channels_last", "channels_first"] = "channels_last"
    """Layout of the model's images and tensors. `input_shape` is always channels last; with
    `channels_first` the model takes [N,C,H,W], for which TensorFlow lacks some CPU kernels."""
    layer_prefix: Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9_]*)?$")] = ""
    """Prefix of every layer's name."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ResidualOptions(Options):
    """Options of the families with residual blocks."""

    shortcut: Shortcut = "project_on_change"
    """Applies to residual blocks; `plain` and `dense` blocks have no shortcut."""
    residual_scale: ResidualScale = 1.0
    sum_scale: SumScale = 1.0
    zero_init_last: Flag = False
    """Whether every residual block starts as its shortcut: gamma of the branch's last norm is zero
    (arXiv 1706.02677), or the kernel of its last convolution if the branch does not end in a norm.
    """
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping the last block's branch for an image in training; the l-th of L
    blocks has l/L of it (stochastic depth, arXiv 1603.09382)."""
