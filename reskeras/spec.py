"""Networks and training runs as values: frozen, validated, and ignorant of any framework.

A spec says what a network is in the words of the papers; `reskeras.build` turns it into a Keras model and `reskeras.cost`
into numbers. Every value is checked on construction, on `dataclasses.replace` and when read from YAML (`reskeras.textio`),
which reports all mistakes of a file at once.

`width` is always the *output* width of a block or stage, so that changing the kind of block leaves every interface alone.
The number of dimensions follows from `input_shape`: `[784]` is a fully connected net, `[L, C]` is 1-D, `[H, W, C]` 2-D and
`[D, H, W, C]` 3-D; "3x3" below stands for a kernel of three in each dimension.
"""

import dataclasses
import itertools
import math
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Strict, Tag, ValidationError
from pydantic.dataclasses import dataclass

from reskeras.errors import RequestError

_CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

# Counts are strict: `True` is not 1 and "16" is not 16. Floats are not, because PyYAML reads `1e-3` as a string.
Count = Annotated[int, Strict(), Field(gt=0)]
Repeats = Annotated[int, Strict(), Field(gt=0, le=10_000)]
Whole = Annotated[int, Strict(), Field(ge=0)]
Flag = Annotated[bool, Strict()]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

NormOrder = Literal["original", "norm_after_add", "relu_before_add", "relu_only_preact", "full_preact"]
"""Where normalisation and activation stand around the addition: He et al. 2016 (arXiv 1603.05027), Fig. 4 a to e."""

PRE_ACTIVATION = frozenset({"relu_only_preact", "full_preact"})
"""Norm orders whose branch begins with the activation; their stem stays linear and the last stage is followed by one."""

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]

Init = Literal["he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "orthogonal"]

StrideAt = Literal["1x1", "3x3", "last_block"]
"""The convolution that carries a stage's stride: the first 1x1 of a bottleneck (arXiv 1512.03385), the 3x3 ("v1.5",
ResNet-B), or the 3x3 of the stage's last block (keras.applications' V2)."""

ConvBias = Literal["without_norm", "unless_normed", "always", "never"]
"""Which convolutions have a bias: all of a net without normalisation (the papers), each that no normalisation follows
directly (keras.applications' V2), all (keras.applications' V1), or none."""

Augment = Literal["none", "shift", "shift_flip"]
"""Random changes to training images: shifts of up to an eighth of each side, and mirroring."""

Task = Literal["classification", "segmentation"]

InputShape = Annotated[tuple[Count, ...], Field(min_length=1, max_length=4)]
"""Sides and channels of one image, channels last: [C], [L, C], [H, W, C] or [D, H, W, C]."""

ImageShape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class BatchNorm:
    """Batch normalisation (arXiv 1502.03167)."""

    kind: Literal["batch"] = "batch"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old moving average that each training step keeps."""
    epsilon: Annotated[Finite, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class LayerNorm:
    """Layer normalisation (arXiv 1607.06450) in its channel-wise form: over the channels of each position."""

    kind: Literal["layer"] = "layer"
    epsilon: Annotated[Finite, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class GroupNorm:
    """Normalisation over the positions and the channels of each group (arXiv 1803.08494)."""

    kind: Literal["group"] = "group"
    groups: Count = 32
    """Where it does not divide the width, the greatest common divisor of the two."""
    epsilon: Annotated[Finite, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class NoNorm:
    """No normalisation."""

    kind: Literal["none"] = "none"


Norm = Annotated[BatchNorm | LayerNorm | GroupNorm | NoNorm, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class PlainBlock:
    """Two 3x3 convolutions and no shortcut: the plain twin of `basic` (arXiv 1512.03385, Section 3.3)."""

    kind: Literal["plain"] = "plain"


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class BasicBlock:
    """Two 3x3 convolutions beside a shortcut (arXiv 1512.03385, Fig. 5 left)."""

    kind: Literal["basic"] = "basic"


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class BottleneckBlock:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (arXiv 1512.03385, Fig. 5 right; ResNeXt: arXiv 1611.05431)."""

    kind: Literal["bottleneck"] = "bottleneck"
    bottleneck_ratio: Annotated[float, Field(gt=0, le=8)] = 0.25
    """Inner width as a share of the block's width; the papers' "expansion 4" is 0.25."""
    cardinality: Count = 1
    """Number of groups of the 3x3 convolution; more than one is a ResNeXt block."""

    def inner_width(self, width: int) -> int:
        """Channels of the two inner convolutions of a block of this output width."""
        return round(width * self.bottleneck_ratio)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DenseBlock:
    """One densely connected layer: its new feature maps are concatenated to its input (arXiv 1608.06993).

    In the family `densenet` stages are joined by transitions. In the other families, whose stages have a width, a stage of
    dense layers ends in a 1x1 convolution to that width.
    """

    kind: Literal["dense"] = "dense"
    growth_rate: Count = 12
    """Feature maps that each layer adds (k in the paper)."""
    bottleneck: Flag = True
    """Whether a 1x1 convolution to 4k channels precedes the 3x3 (DenseNet-B)."""
    compression: Annotated[float, Field(gt=0, le=1)] | None = None
    """Output over input channels of a transition (theta; DenseNet-C); only the family `densenet` has them. None is 1."""


Block = Annotated[PlainBlock | BasicBlock | BottleneckBlock | DenseBlock, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ScaledShortcut:
    """The shortcut times a constant (arXiv 1603.05027, Section 3.1)."""

    kind: Literal["scaled"] = "scaled"
    factor: Annotated[Finite, Field(gt=0)] = 0.5


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class GatedShortcut:
    """The shortcut times 1 - g(x), with g the sigmoid of a 1x1 convolution (arXiv 1603.05027, Fig. 2c and d)."""

    kind: Literal["gated"] = "gated"
    gate: Literal["exclusive", "shortcut_only"] = "exclusive"
    """`exclusive` multiplies the branch by g(x) too, as a highway net does (arXiv 1505.00387)."""
    bias: Finite = -6.0
    """Of the gate at the start; the more negative, the nearer the shortcut is to the identity."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DropoutShortcut:
    """Dropout on the shortcut (arXiv 1603.05027, Fig. 2f)."""

    kind: Literal["dropout"] = "dropout"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5


_SHORTCUTS_WITH_VALUES = ("scaled", "gated", "dropout")

ShortcutWord = Literal[
    "pad", "project_on_change", "project_always", "avgpool_project", "maxpool", "conv1x1", "none", "scaled", "gated", "dropout"
]


def _shortcut_tag(value: Any) -> str:
    return "word" if isinstance(value, str) else str(value.get("kind") if isinstance(value, dict) else getattr(value, "kind", ""))


Shortcut = Annotated[
    Annotated[ShortcutWord, Tag("word")]
    | Annotated[ScaledShortcut, Tag("scaled")]
    | Annotated[GatedShortcut, Tag("gated")]
    | Annotated[DropoutShortcut, Tag("dropout")],
    Discriminator(
        _shortcut_tag,
        custom_error_type="shortcut",
        custom_error_message=f"a shortcut is one of {', '.join(get_args(ShortcutWord))}, or a mapping whose kind is "
        + " or ".join(_SHORTCUTS_WITH_VALUES),
    ),
    BeforeValidator(lambda value: {"kind": value} if value in _SHORTCUTS_WITH_VALUES else value),
]
"""The identity path of a residual block. Where a block changes neither size nor width most are the identity; else:

`pad` subsamples and appends zero channels (option A of arXiv 1512.03385); `project_on_change` is a normalised 1x1
convolution (option B), `project_always` has it in every block (option C); `avgpool_project` averages first and convolves
without stride (ResNet-D, arXiv 1812.01187, Fig. 2c); `maxpool` subsamples where only the size changes and projects without
norm where the width does (keras.applications' V2). `conv1x1` is a bare 1x1 convolution in every block, and `scaled`, `gated`
and `dropout` stand for mappings with that kind and their values (all of arXiv 1603.05027, Section 3), projected as option B
where the shape changes. `none` leaves out the addition.
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
    Annotated[ScaleWord, Tag("word")] | Annotated[Annotated[Finite, Field(gt=0)], Tag("number")], Discriminator(_scale_tag)
]
"""Factor of the branch before the addition: a number, 1/sqrt(2), 1/sqrt(the number of residual blocks) (arXiv 2309.16620), or
a scalar learned from zero in each block (SkipInit, arXiv 2002.10444; ReZero, arXiv 2003.04887)."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class CifarStem:
    """One 3x3 convolution at full resolution."""

    kind: Literal["cifar"] = "cifar"
    width: Count = 16


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ImagenetStem:
    """A 7x7 convolution with stride 2, then 3x3 max pooling with stride 2."""

    kind: Literal["imagenet"] = "imagenet"
    width: Count = 64


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DeepStem:
    """Three 3x3 convolutions, then 3x3 max pooling with stride 2 (ResNet-C and D: arXiv 1812.01187, Fig. 2b).

    The first convolution has stride 2, the first two have half the width.
    """

    kind: Literal["deep"] = "deep"
    width: Count = 64


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class LinearStem:
    """A bare linear layer (a 1x1 convolution), so that a block that begins with an activation never sees the raw input."""

    kind: Literal["linear"] = "linear"
    width: Count = 16


Stem = Annotated[CifarStem | ImagenetStem | DeepStem | LinearStem, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Stage:
    """Blocks at one resolution."""

    blocks: Repeats
    width: Count
    """Output channels of every block of the stage."""
    stride: Count = 1
    """Stride of the stage; `stride_at` says which block has it."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DenseStage:
    """Dense layers at one resolution; their width follows from the growth rate."""

    blocks: Repeats


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Level:
    """One resolution of a U-Net: the encoder has this stage on the way down, the decoder on the way up."""

    blocks: Repeats = 1
    width: Count


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Classifier:
    """Global average pooling and a dense layer, in float32."""

    kind: Literal["classifier"] = "classifier"
    classes: Annotated[int, Strict(), Field(ge=2)]
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """`none` gives logits."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Segmenter:
    """A 1x1 convolution to one map per class, in float32."""

    kind: Literal["segmentation"] = "segmentation"
    classes: Count
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """`none` gives logits."""

    def __post_init__(self) -> None:
        if self.classes == 1 and self.activation == "softmax":
            raise ValueError("softmax over one class is always 1; use activation 'sigmoid' or at least 2 classes")


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Heatmaps:
    """A 1x1 convolution to one linear map per keypoint, in float32 (pose: arXiv 1603.06937)."""

    kind: Literal["heatmap"] = "heatmap"
    keypoints: Count = 16


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Regressor:
    """A 1x1 convolution to linear maps, in float32, for images from images (super-resolution, denoising)."""

    kind: Literal["regression"] = "regression"
    channels: Count
    add_input: Flag = True
    """Whether the net learns the residual to its input (arXiv 1511.04587); the channels then are the input's."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Features:
    """No layers of its own: the model gives these endpoints, by name."""

    kind: Literal["features"] = "features"
    endpoints: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Such as `stem`, `stage1`; in a U-Net `encoder1`, `bridge`, `decoder1`; in an hourglass net `stack1`."""


MapHead = Annotated[Segmenter | Heatmaps | Regressor | Features, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Options:
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


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _ResidualOptions(_Options):
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


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ResNet(_ResidualOptions):
    """Stem, stages of blocks, head. With `plain` blocks it is the plain twin, with `dense` ones a DenseNet of given widths."""

    family: Literal["resnet"] = "resnet"
    name: Name = "resnet"
    input_shape: InputShape
    stem: Stem
    block: Block
    stride_at: StrideAt = "3x3"
    """A stage of dense layers is pooled where it begins, whatever this says."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    head: Annotated[Classifier | Regressor | Features, Field(discriminator="kind")]

    def __post_init__(self) -> None:
        _check_block(self, self.block, {f"stages.{place}": stage.width for place, stage in enumerate(self.stages)})
        if self.stride_at == "1x1" and isinstance(self.block, PlainBlock | BasicBlock):
            raise ValueError(f"stride_at '1x1' is the first convolution of block kind 'bottleneck'; {self.block.kind!r} has '3x3'")
        if not self.input_shape[:-1]:
            _check_fully_connected(self, [stage.stride for stage in self.stages])
        if self.shortcut == "pad" and _is_residual(self.block):
            widths = [self.stem.width, *(stage.width for stage in self.stages)]
            for number, (before, after) in enumerate(itertools.pairwise(widths)):
                if after < before:
                    raise ValueError(
                        f"shortcut 'pad' only adds channels, but stages.{number} goes from width {before} to {after}; "
                        "use 'project_on_change'"
                    )
        strided = isinstance(self.stem, ImagenetStem | DeepStem) or any(stage.stride > 1 for stage in self.stages)
        if isinstance(self.head, Regressor) and strided:
            raise ValueError(
                "head 'regression' gives maps of the image's size, but the stem or a stage has a stride; use family 'unet'"
            )
        _check_added_input(self.head, self.input_shape)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DenseNet(_Options):
    """Stem, stages of dense layers joined by transitions, head (arXiv 1608.06993)."""

    family: Literal["densenet"] = "densenet"
    name: Name = "densenet"
    input_shape: InputShape
    stem: Stem
    block: DenseBlock
    stages: Annotated[tuple[DenseStage, ...], Field(min_length=1)]
    head: Annotated[Classifier | Features, Field(discriminator="kind")]
    norm_order: NormOrder = "full_preact"
    """The paper's layers are `full_preact`."""

    def __post_init__(self) -> None:
        if not self.input_shape[:-1]:
            _check_fully_connected(self, [2] * (len(self.stages) - 1))


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class PresetEncoder:
    """A preset, without its head, as the encoder of a U-Net."""

    preset: str
    """Its name; a ResNet or DenseNet."""


def _encoder_tag(value: Any) -> str:
    if isinstance(value, dict):
        return "by_preset" if "preset" in value else str(value.get("family"))
    return "by_preset" if isinstance(value, PresetEncoder) else getattr(value, "family", "")


Encoder = Annotated[
    Annotated[PresetEncoder, Tag("by_preset")] | Annotated[ResNet, Tag("resnet")] | Annotated[DenseNet, Tag("densenet")],
    Discriminator(
        _encoder_tag,
        custom_error_type="encoder",
        custom_error_message="an encoder is {preset: NAME}, or a whole spec of the family resnet or densenet",
    ),
]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class UNet(_ResidualOptions):
    """An encoder, a bridge and a decoder joined by skips (arXiv 1505.04597).

    The levels run from the full resolution down to the bridge. With an `encoder` of its own kind the levels are those of the
    decoder alone, one for each halving in the encoder, whose last stage is the bridge.
    """

    family: Literal["unet"] = "unet"
    name: Name = "unet"
    input_shape: InputShape
    encoder: Encoder | None = None
    """None: one stage for each level, of the same blocks as the decoder's. Of an encoder its stem, stages and options count; its
    images are those of the U-Net, its head and name are not used."""
    block: Block = PlainBlock()
    padding: Literal["same", "valid"] = "same"
    """`valid` is the paper's: every 3x3 convolution trims a pixel from each edge, and skips are cropped."""
    sizes: Literal["refuse", "pad"] = "refuse"
    """What becomes of images that cannot be halved often enough: refused with the nearest sizes that can, or padded with zeros
    all around, and the output cropped back."""
    down: Literal["maxpool", "stride"] = "maxpool"
    """What halves the resolution: 2x2 max pooling, or the first block of the next level (arXiv 1711.10684)."""
    up: Literal["transpose", "nearest"] = "transpose"
    """What doubles it: a 2x2 transposed convolution to the level's width, or nearest-neighbour upsampling."""
    skip: Literal["concat", "add", "attention"] = "concat"
    """How encoder maps meet the decoder's; `attention` concatenates them gated (arXiv 1804.03999)."""
    decoder: Literal["plain", "nested"] = "plain"
    """`nested` puts densely connected decoder blocks on the skips (U-Net++, arXiv 1807.10165)."""
    deep_supervision: Flag = False
    """Whether the inner decoder levels have heads too: the model then gives a dict of outputs, `head` and `head2`, `head3`, ...;
    in a plain decoder the n-th at 1/2^(n-1) of the resolution, in a nested one all at the full one."""
    stages: Annotated[tuple[Level, ...], Field(max_length=12)]
    head: MapHead

    def __post_init__(self) -> None:
        least = 2 if self.encoder is None else 1
        if len(self.stages) < least:
            raise ValueError(f"stages: at least {least} (got {len(self.stages)})")
        _check_block(self, self.block, {f"stages.{place}": level.width for place, level in enumerate(self.stages)})
        if not self.input_shape[:-1]:
            raise ValueError("input_shape: a U-Net works on images; [C] alone has no resolution to halve")
        if self.padding == "valid" and not isinstance(self.block, PlainBlock):
            raise ValueError(f"padding 'valid' needs block kind 'plain': a shortcut's size would not match ({self.block.kind})")
        if self.padding == "valid" and (self.decoder == "nested" or self.encoder is not None or self.down == "stride"):
            raise ValueError(
                "padding 'valid' trims maps, which a nested decoder, an encoder of its own kind and down 'stride' do not allow"
            )
        if self.shortcut == "pad" and _is_residual(self.block):
            raise ValueError("shortcut 'pad' only adds channels, but a decoder has fewer; use 'project_on_change'")
        if self.skip == "add" and (self.up == "nearest" or self.encoder is not None or self.decoder == "nested"):
            raise ValueError(
                "skip 'add' needs maps of one width on both sides: up 'transpose', a plain decoder and no encoder of its own kind"
            )
        if self.down == "stride" and self.encoder is not None:
            raise ValueError("down: the encoder has its own way down; leave it at 'maxpool'")
        if self.decoder == "nested" and self.encoder is not None:
            raise ValueError("decoder 'nested' needs an encoder of the same blocks: leave out `encoder`")
        if self.deep_supervision and self.padding == "valid":
            raise ValueError(
                "deep_supervision compares every level with the mask, but padding 'valid' trims each by another margin"
            )
        if self.deep_supervision and isinstance(self.head, Features):
            raise ValueError("deep_supervision adds heads, but head 'features' has none")
        if self.deep_supervision and isinstance(self.head, Regressor) and self.head.add_input and self.decoder == "plain":
            raise ValueError("deep_supervision in a plain decoder has heads below the input's resolution; they cannot add_input")
        padded = self.sizes == "pad" and any(fitting_size(side, self.trims()) != side for side in self.input_shape[:-1])
        if self.deep_supervision and padded and self.decoder == "plain":
            raise ValueError(
                "deep_supervision in a plain decoder has heads at half the resolution and less, which padded sizes do not have"
            )
        if (
            len(self.input_shape) == 2
            and self.data_format == "channels_first"
            and (self.up == "nearest" or padded or self.padding == "valid")
        ):
            raise ValueError("Keras crops and upsamples 1-D sequences in data_format 'channels_last' alone")
        _check_added_input(self.head, self.input_shape)
        if isinstance(self.head, Regressor) and self.head.add_input and self.padding == "valid":
            raise ValueError("head.add_input: padding 'valid' gives maps smaller than the input")
        if self.encoder is None and self.sizes == "refuse":
            check_sizes(self.input_shape, self.trims())

    def trims(self) -> tuple[int, ...]:
        """Pixels that the blocks of each level take away from a side, from the full resolution down to the bridge."""
        levels = tuple(4 * level.blocks if self.padding == "valid" else 0 for level in self.stages)
        return levels if self.encoder is None else (*levels, 0)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Hourglass(_ResidualOptions):
    """Stacked hourglass networks with intermediate supervision (arXiv 1603.06937; the authors' hg.lua).

    With more than one stack the model gives a dict of outputs: `stack1_head`, `stack2_head`, ... and `head` for the last.
    """

    family: Literal["hourglass"] = "hourglass"
    name: Name = "hourglass"
    input_shape: InputShape
    block: Block = BottleneckBlock(bottleneck_ratio=0.5)
    norm_order: NormOrder = "full_preact"
    stacks: Repeats = 1
    depth: Annotated[int, Strict(), Field(ge=1, le=8)] = 4
    """Halvings within one hourglass."""
    blocks: Repeats = 1
    """Blocks at each place of an hourglass (nModules)."""
    width: Count = 256
    head: MapHead

    def __post_init__(self) -> None:
        _check_block(self, self.block, {"width": self.width, "width / 2": max(1, self.width // 2)})
        if not self.input_shape[:-1]:
            raise ValueError("input_shape: an hourglass works on images; [C] alone has no resolution to halve")
        if self.shortcut == "pad" and self.width % 4:
            raise ValueError(f"width: the stem has a quarter of it, so it is a multiple of 4 (got {self.width})")
        if isinstance(self.head, Regressor) and self.head.add_input:
            raise ValueError("head.add_input: an hourglass gives maps of a quarter of the input's size")
        if len(self.input_shape) == 2 and self.data_format == "channels_first":
            raise ValueError("Keras upsamples 1-D sequences in data_format 'channels_last' alone")
        check_sizes(self.input_shape, (0,) * (self.depth + 3))


Spec = Annotated[ResNet | DenseNet | UNet | Hourglass, Field(discriminator="family")]
AnySpec = ResNet | DenseNet | UNet | Hourglass


Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class TrainSpec:
    """How a network is trained."""

    epochs: Count = 10
    batch_size: Count = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` has Nesterov momentum 0.9."""
    learning_rate: Annotated[float, Field(gt=0, lt=100)] = 3e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` decays the learning rate to zero over the run (arXiv 1608.03983, without restarts)."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decoupled (arXiv 1711.05101), on kernels only."""
    augment: Augment = "none"
    """`shift_flip` is the usual choice for photographs, `shift` for what has a left and a right, such as digits."""
    precision: Precision = "float32"
    """What layers compute in; weights and heads stay float32 (arXiv 1710.03740). `mixed_float16` is for GPUs, `mixed_bfloat16`
    for TPUs and newer GPUs; on CPUs both are slower."""
    recompute: Flag = False
    """Whether the backward pass computes activations anew instead of keeping them: less than half the memory for a DenseNet, about
    a fifth more time (arXiv 1604.06174; benchmarks/memory.py)."""
    seed: Whole = 0
    """Of initial weights and data order."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Recipe:
    """A network and how to train it: what a spec file with a `train:` section holds."""

    model: Spec
    train: TrainSpec = TrainSpec()


def fit_to_data(spec: AnySpec, input_shape: tuple[int, ...], classes: int, task: Task) -> AnySpec:
    """The same network for images of this shape and this many classes; a fully connected one takes them flat.

    Raises:
        ValueError: the network does not do this task, or cannot take such images (a U-Net that cannot halve them often enough).
    """
    wanted: type = Segmenter if task == "segmentation" else Classifier
    if not isinstance(spec.head, wanted):
        found = f"(the network is of the family {spec.family!r} with head {spec.head.kind!r})"
        if task == "segmentation":
            raise ValueError(f"masks need a segmentation head, which a network of the family 'unet' has {found}")
        raise ValueError(f"it has labels, not masks, and needs a classifier {found}")
    shape = (math.prod(input_shape),) if len(spec.input_shape) == 1 else tuple(input_shape)
    if len(spec.input_shape) != len(shape):
        raise ValueError(f"it has images of {len(shape) - 1} dimensions, the network works in {len(spec.input_shape) - 1}")
    if task == "segmentation" and spec.data_format == "channels_first":
        raise ValueError("masks are trained with data_format 'channels_last'")
    # One map with a sigmoid tells two classes apart as well as two do.
    binary = isinstance(spec.head, Segmenter) and spec.head.classes == 1 and classes == 2
    head: Any = spec.head if binary else dataclasses.replace(spec.head, classes=classes)  # type: ignore[arg-type]
    try:
        return dataclasses.replace(spec, input_shape=shape, head=head)
    except ValidationError as error:
        raise ValueError("; ".join(mistake["msg"].removeprefix("Value error, ") for mistake in error.errors())) from error


def image_shape(spec: AnySpec) -> ImageShape:
    """Height, width and channels of the images that a network takes; a fully connected one takes square ones of one channel.

    Raises:
        RequestError: it does not take images.
    """
    match spec.input_shape:
        case (height, width, channels):
            return height, width, channels
        case (size,) if math.isqrt(size) ** 2 == size:
            return math.isqrt(size), math.isqrt(size), 1
        case shape:
            raise RequestError(f"{spec.name} takes inputs of the shape {list(shape)}, which are no images")


def _is_residual(block: PlainBlock | BasicBlock | BottleneckBlock | DenseBlock) -> bool:
    return isinstance(block, BasicBlock | BottleneckBlock)


def _check_block(
    spec: ResNet | UNet | Hourglass, block: PlainBlock | BasicBlock | BottleneckBlock | DenseBlock, widths: dict[str, int]
) -> None:
    if isinstance(block, BottleneckBlock):
        for place, width in widths.items():
            inner = block.inner_width(width)
            if inner < 1 or inner % block.cardinality:
                raise ValueError(
                    f"{place}: width {width} with bottleneck_ratio {block.bottleneck_ratio:g} gives inner width "
                    f"{inner}, which must be a multiple of cardinality {block.cardinality}"
                )
    if isinstance(block, DenseBlock) and block.compression is not None:
        raise ValueError("block.compression: only the family 'densenet' has transitions; here the stages' widths say it")
    changed = [
        name
        for name, neutral in (("residual_scale", 1.0), ("zero_init_last", False), ("drop_path_rate", 0.0))
        if getattr(spec, name) != neutral
    ]
    if changed and (not _is_residual(block) or spec.shortcut == "none"):
        without = f"block kind {block.kind!r} has no shortcut" if not _is_residual(block) else "shortcut is 'none'"
        raise ValueError(f"{changed[0]} is about a branch beside a shortcut, but {without}")

    if spec.zero_init_last and spec.residual_scale == "learned":
        raise ValueError(
            "zero_init_last: a learned residual_scale starts at zero too, and behind two zeros nothing gets a gradient"
        )
    if spec.zero_init_last and spec.norm_order == "relu_before_add" and spec.activation == "relu":
        raise ValueError(
            "zero_init_last: under norm_order 'relu_before_add' the branch ends in a ReLU, which at zero passes no gradient"
        )


def _check_fully_connected(spec: ResNet | DenseNet, strides: list[int]) -> None:
    if any(stride > 1 for stride in strides):
        raise ValueError("input_shape: a fully connected net ([C] alone) has no size that a stage's stride could divide")
    if isinstance(spec.stem, ImagenetStem | DeepStem):
        raise ValueError(f"stem: {spec.stem.kind!r} divides an image's sides; a fully connected net takes 'linear' or 'cifar'")
    if isinstance(spec.block, BottleneckBlock) and spec.block.cardinality > 1:
        raise ValueError("block.cardinality: groups are of convolutions; a fully connected net has none")


def _check_added_input(head: Any, input_shape: tuple[int, ...]) -> None:
    if isinstance(head, Regressor) and head.add_input and head.channels != input_shape[-1]:
        raise ValueError(
            f"head.channels: {head.channels} maps cannot be added to an input of {input_shape[-1]} channels; "
            "make them equal or set add_input to false"
        )


_LARGEST_IMAGE = 1 << 14


def check_sizes(input_shape: tuple[int, ...], trims: tuple[int, ...]) -> None:
    """Refuses an image that cannot be halved between the levels, which trim so many pixels.

    Raises:
        RequestError: names the side, its size and the nearest sizes that can.
    """
    for axis, size in enumerate(input_shape[:-1]):
        if output_size(size, trims) is None:
            down = next((s for s in range(size - 1, 0, -1) if output_size(s, trims)), None)
            up = fitting_size(size, trims)
            nearest = " and ".join(str(s) for s in (down, up) if s) or f"none up to {_LARGEST_IMAGE}"
            raise RequestError(
                f"input_shape.{axis}: {size} cannot be halved {len(trims) - 1} times"
                f"{' with valid padding' if any(trims) else ''}; the nearest sizes that can: {nearest}"
            )


def fitting_size(size: int, trims: tuple[int, ...]) -> int | None:
    """The least size from this one on that can be halved between the levels; None where there is none."""
    # Sizes that can come once in every 2^halvings; further on than the largest image there are none because blocks trim all away.
    return next((s for s in range(size, max(_LARGEST_IMAGE, size + 2 ** len(trims))) if output_size(s, trims)), None)


def output_size(size: int, trims: tuple[int, ...]) -> int | None:
    """Side in pixels of a U-Net's maps for an input of this side; None where a level's side is odd or used up.

    `trims` are the pixels that each level's blocks take away, from the full resolution down to the bridge.
    """
    for lost in trims[:-1]:
        size -= lost
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= trims[-1]
    if size <= 0:
        return None
    for lost in reversed(trims[:-1]):
        size = 2 * size - lost
    return size if size > 0 else None


def residual_scale(scale: float | ScaleWord, blocks: int) -> float | None:
    """The factor that a residual scale stands for in a net of so many residual blocks; None where it is learned."""
    match scale:
        case "learned":
            return None
        case "1/sqrt(2)":
            return 1 / math.sqrt(2)
        case "1/sqrt(depth)":
            return 1 / math.sqrt(blocks)
        case _:
            return float(scale)


UNIONS: dict[str, tuple[type, ...]] = {
    field: get_args(get_args(union)[0]) for field, union in {"block": Block, "norm": Norm, "stem": Stem}.items()
}
"""The fields that hold one of several values told apart by `kind`, and the classes of those values."""
