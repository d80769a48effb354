"""Whole networks: the four families."""

import itertools
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Strict, Tag
from pydantic.dataclasses import dataclass

from reskeras.spec.blocks import (
    BasicBlock,
    Block,
    BottleneckBlock,
    DenseBlock,
    PlainBlock,
    StrideAt,
    is_residual,
)
from reskeras.spec.checks import check_added_input, check_block, check_fully_connected
from reskeras.spec.heads import Classifier, Features, MapHead, Numbers, Regressor
from reskeras.spec.norms import Norm, NormOrder
from reskeras.spec.options import Options, ResidualOptions
from reskeras.spec.scalars import CONFIG, Count, Flag, InputShape, Name, Repeats
from reskeras.spec.sizes import check_sizes, fitting_size
from reskeras.spec.stages import DenseStage, Level, Stage
from reskeras.spec.stems import DeepStem, ImagenetStem, Stem


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ResNet(ResidualOptions):
    """Stem, stages of blocks, head.

    `plain` blocks make the plain twin, `dense` ones a DenseNet with given widths.
    """

    family: Literal["resnet"] = "resnet"
    name: Name = "resnet"
    input_shape: InputShape
    stem: Stem
    block: Block
    stride_at: StrideAt = "3x3"
    """A stage of dense layers is pooled at its start, whatever this says."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    head: Annotated[Classifier | Numbers | Regressor | Features, Field(discriminator="kind")]

    def __post_init__(self) -> None:
        check_block(
            self,
            self.block,
            {f"stages.{place}": stage.width for place, stage in enumerate(self.stages)},
        )
        if self.stride_at == "1x1" and isinstance(self.block, PlainBlock | BasicBlock):
            raise ValueError(
                "stride_at '1x1' means the first convolution of block kind 'bottleneck'; "
                f"{self.block.kind!r} has '3x3'"
            )
        if not self.input_shape[:-1]:
            check_fully_connected(self, [stage.stride for stage in self.stages])
        if self.shortcut == "pad" and is_residual(self.block):
            widths = [self.stem.width, *(stage.width for stage in self.stages)]
            for number, (before, after) in enumerate(itertools.pairwise(widths)):
                if after < before:
                    raise ValueError(
                        f"shortcut 'pad' only adds channels, but stages.{number} goes from "
                        f"width {before} to {after}; "
                        "use 'project_on_change'"
                    )
        strided = isinstance(self.stem, ImagenetStem | DeepStem) or any(
            stage.stride > 1 for stage in self.stages
        )
        if isinstance(self.head, Regressor) and strided:
            raise ValueError(
                "head 'regression' needs maps of the image's size, but the stem or a stage has "
                "a stride; use family 'unet'"
            )
        check_added_input(self.head, self.input_shape)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DenseNet(Options):
    """Stem, stages of dense layers joined by transitions, head (arXiv 1608.06993)."""

    family: Literal["densenet"] = "densenet"
    name: Name = "densenet"
    input_shape: InputShape
    stem: Stem
    block: DenseBlock
    stages: Annotated[tuple[DenseStage, ...], Field(min_length=1)]
    head: Annotated[Classifier | Numbers | Features, Field(discriminator="kind")]
    norm_order: NormOrder = "full_preact"
    """The paper uses `full_preact`."""

    def __post_init__(self) -> None:
        if not self.input_shape[:-1]:
            check_fully_connected(self, [2] * (len(self.stages) - 1))


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class PresetEncoder:
    """A preset, without its head, as the encoder of a U-Net."""

    preset: str
    """The name of a ResNet or DenseNet preset."""


def _encoder_tag(value: Any) -> str:
    if isinstance(value, dict):
        return "by_preset" if "preset" in value else str(value.get("family"))
    return "by_preset" if isinstance(value, PresetEncoder) else getattr(value, "family", "")


Encoder = Annotated[
    Annotated[PresetEncoder, Tag("by_preset")]
    | Annotated[ResNet, Tag("resnet")]
    | Annotated[DenseNet, Tag("densenet")],
    Discriminator(
        _encoder_tag,
        custom_error_type="encoder",
        custom_error_message="an encoder is {preset: NAME}, or a whole spec of the family resnet "
        "or densenet",
    ),
]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class UNet(ResidualOptions):
    """An encoder, a bridge and a decoder joined by skips (arXiv 1505.04597).

    The levels run from the full resolution down to the bridge. With a separate `encoder`, the
    levels describe only the decoder, one for each halving in the encoder; the encoder's last stage
    is the bridge.
    """

    family: Literal["unet"] = "unet"
    name: Name = "unet"
    input_shape: InputShape
    encoder: Encoder | None = None
    """None: one stage per level, with the decoder's blocks. A separate encoder contributes its
    stem, stages and options; the U-Net's images replace its own, and its head and name are ignored.
    """
    block: Block = PlainBlock()
    padding: Literal["same", "valid"] = "same"
    """`valid` follows the paper: every 3x3 convolution trims a pixel from each edge, and skips are
    cropped."""
    sizes: Literal["refuse", "pad"] = "refuse"
    """What to do with images that cannot be halved often enough: refuse them and name the nearest
    sizes that fit, or pad them with zeros on all sides and crop the output."""
    down: Literal["maxpool", "stride"] = "maxpool"
    """How to halve the resolution: 2x2 max pooling, or the first block of the next level (arXiv
    1711.10684)."""
    up: Literal["transpose", "nearest"] = "transpose"
    """How to double it: a 2x2 transposed convolution to the level's width, or nearest-neighbor
    upsampling."""
    skip: Literal["concat", "add", "attention"] = "concat"
    """How encoder maps join the decoder's; `attention` gates and concatenates them (arXiv
    1804.03999)."""
    decoder: Literal["plain", "nested"] = "plain"
    """`nested` places densely connected decoder blocks on the skips (U-Net++, arXiv 1807.10165)."""
    deep_supervision: Flag = False
    """Whether the inner decoder levels have heads too. The model then returns a dict of outputs:
    `head` and `head2`, `head3`, ... In a plain decoder the n-th has 1/2^(n-1) of the resolution; in
    a nested one all have the full resolution."""
    stages: Annotated[tuple[Level, ...], Field(max_length=12)]
    head: MapHead

    def __post_init__(self) -> None:
        least = 2 if self.encoder is None else 1
        if len(self.stages) < least:
            raise ValueError(f"stages: at least {least} (got {len(self.stages)})")
        check_block(
            self,
            self.block,
            {f"stages.{place}": level.width for place, level in enumerate(self.stages)},
        )
        if not self.input_shape[:-1]:
            raise ValueError(
                "input_shape: a U-Net works on images; [C] alone has no resolution to halve"
            )
        if self.padding == "valid" and not isinstance(self.block, PlainBlock):
            raise ValueError(
                "padding 'valid' needs block kind 'plain': a shortcut's size would not match "
                f"({self.block.kind})"
            )
        if self.padding == "valid" and (
            self.decoder == "nested" or self.encoder is not None or self.down == "stride"
        ):
            raise ValueError(
                "padding 'valid' trims maps, which a nested decoder, a separate encoder and "
                "down 'stride' do not allow"
            )
        if self.shortcut == "pad" and is_residual(self.block):
            raise ValueError(
                "shortcut 'pad' only adds channels, but a decoder has fewer; use "
                "'project_on_change'"
            )
        if self.skip == "add" and (
            self.up == "nearest" or self.encoder is not None or self.decoder == "nested"
        ):
            raise ValueError(
                "skip 'add' needs maps of one width on both sides: up 'transpose', a plain "
                "decoder and no separate encoder"
            )
        if self.down == "stride" and self.encoder is not None:
            raise ValueError("down: a separate encoder has its own way down; leave it at 'maxpool'")
        if self.decoder == "nested" and self.encoder is not None:
            raise ValueError(
                "decoder 'nested' needs an encoder of the same blocks: leave out `encoder`"
            )
        if self.deep_supervision and self.padding == "valid":
            raise ValueError(
                "deep_supervision compares every level with the mask, but padding 'valid' trims "
                "each by a different margin"
            )
        if self.deep_supervision and isinstance(self.head, Features):
            raise ValueError("deep_supervision adds heads, but head 'features' has none")
        if (
            self.deep_supervision
            and isinstance(self.head, Regressor)
            and self.head.add_input
            and self.decoder == "plain"
        ):
            raise ValueError(
                "deep_supervision in a plain decoder has heads below the input's resolution; "
                "they cannot add_input"
            )
        padded = self.sizes == "pad" and any(
            fitting_size(side, self.trims()) != side for side in self.input_shape[:-1]
        )
        if self.deep_supervision and padded and self.decoder == "plain":
            raise ValueError(
                "deep_supervision in a plain decoder has heads at half the resolution and less, "
                "which padded sizes do not have"
            )
        if (
            len(self.input_shape) == 2
            and self.data_format == "channels_first"
            and (self.up == "nearest" or padded or self.padding == "valid")
        ):
            raise ValueError(
                "Keras crops and upsamples 1-D sequences only in data_format 'channels_last'"
            )
        check_added_input(self.head, self.input_shape)
        if isinstance(self.head, Regressor) and self.head.add_input and self.padding == "valid":
            raise ValueError("head.add_input: padding 'valid' gives maps smaller than the input")
        if self.encoder is None and self.sizes == "refuse":
            check_sizes(self.input_shape, self.trims())

    def trims(self) -> tuple[int, ...]:
        """Pixels that each level's blocks trim from a side, from full resolution to the bridge."""
        levels = tuple(4 * level.blocks if self.padding == "valid" else 0 for level in self.stages)
        return levels if self.encoder is None else (*levels, 0)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Hourglass(ResidualOptions):
    """Stacked hourglass networks (arXiv 1603.06937; the authors' hg.lua).

    With more than one stack, supervision is intermediate: the model returns a dict of outputs,
    `stack1_head`, `stack2_head`, ... and `head` for the last.
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
    """Blocks at each position of an hourglass (nModules)."""
    width: Count = 256
    head: MapHead

    def __post_init__(self) -> None:
        check_block(self, self.block, {"width": self.width, "width / 2": max(1, self.width // 2)})
        if not self.input_shape[:-1]:
            raise ValueError(
                "input_shape: an hourglass works on images; [C] alone has no resolution to halve"
            )
        if self.shortcut == "pad" and self.width % 4:
            raise ValueError(
                "width: must be a multiple of 4, because the stem has a quarter of it (got "
                f"{self.width})"
            )
        if isinstance(self.head, Regressor) and self.head.add_input:
            raise ValueError(
                "head.add_input: an hourglass returns maps of a quarter of the input's size"
            )
        if len(self.input_shape) == 2 and self.data_format == "channels_first":
            raise ValueError("Keras upsamples 1-D sequences only in data_format 'channels_last'")
        check_sizes(self.input_shape, (0,) * (self.depth + 3))


Spec = Annotated[ResNet | DenseNet | UNet | Hourglass, Field(discriminator="family")]
AnySpec = ResNet | DenseNet | UNet | Hourglass


UNIONS: dict[str, tuple[type, ...]] = {
    field: get_args(get_args(union)[0])
    for field, union in {"block": Block, "norm": Norm, "stem": Stem}.items()
}
"""The kinds of block, norm and stem: fields whose value has one of several types."""
