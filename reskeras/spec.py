"""Networks and training runs as values: frozen, validated, and ignorant of any framework.

A spec says what a network is in the words of the papers; `reskeras.build` turns it into a Keras model. Every value is
checked on construction, on `dataclasses.replace` and when read from YAML (`reskeras.textio`), which reports all mistakes
of a file at once.

`width` is always the *output* width of a block or stage, so that changing the kind of block leaves every interface alone.
"""

import dataclasses
import itertools
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

_CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

# Counts are strict: `True` is not 1 and "16" is not 16. Floats are not, because PyYAML reads `1e-3` as a string.
Count = Annotated[int, Strict(), Field(gt=0)]
Whole = Annotated[int, Strict(), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

NormOrder = Literal["original", "norm_after_add", "relu_before_add", "relu_only_preact", "full_preact"]
"""Where normalisation and ReLU stand around the addition: He et al. 2016 (arXiv 1603.05027), Fig. 4 a to e."""

Shortcut = Literal["pad", "project_on_change", "none"]
"""He et al. 2015 (arXiv 1512.03385): options A and B; `none` leaves out the addition."""

Augment = Literal["none", "shift", "shift_flip"]
"""Random changes to training images: shifts of up to an eighth of each side, and mirroring."""

Task = Literal["classification", "segmentation"]

ImageShape = tuple[Count, Count, Count]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class BatchNorm:
    """Batch normalisation (arXiv 1502.03167)."""

    kind: Literal["batch"] = "batch"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old moving average that each training step keeps."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-5


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class NoNorm:
    """No normalisation; convolutions then carry a bias."""

    kind: Literal["none"] = "none"


Norm = Annotated[BatchNorm | NoNorm, Field(discriminator="kind")]


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
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (arXiv 1512.03385, Fig. 5 right; ResNeXt: arXiv 1611.05431).

    The 3x3 convolution carries the stride (v1.5).
    """

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

    In the family `densenet` stages are joined by transitions. In a `resnet` or `unet`, whose stages have a width, a stage of
    dense layers ends in a 1x1 convolution to that width.
    """

    kind: Literal["dense"] = "dense"
    growth_rate: Count = 12
    """Feature maps that each layer adds (k in the paper)."""
    bottleneck: Annotated[bool, Strict()] = True
    """Whether a 1x1 convolution to 4k channels precedes the 3x3 (DenseNet-B)."""
    compression: Annotated[float, Field(gt=0, le=1)] | None = None
    """Output over input channels of a transition (theta; DenseNet-C); only the family `densenet` has them. None is 1."""


Block = Annotated[PlainBlock | BasicBlock | BottleneckBlock | DenseBlock, Field(discriminator="kind")]


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


Stem = Annotated[CifarStem | ImagenetStem, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Stage:
    """Blocks at one resolution."""

    blocks: Count
    width: Count
    """Output channels of every block of the stage."""
    stride: Count = 1
    """Stride of the stage's first block."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DenseStage:
    """Dense layers at one resolution; their width follows from the growth rate."""

    blocks: Count


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Level:
    """One resolution of a U-Net: the encoder has this stage on the way down, the decoder on the way up."""

    blocks: Count = 1
    width: Count


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Classifier:
    """Global average pooling and a dense layer, in float32."""

    kind: Literal["classifier"] = "classifier"
    classes: Annotated[int, Strict(), Field(ge=2)]
    activation: Literal["softmax", "none"] = "softmax"
    """`none` gives logits."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Segmenter:
    """A 1x1 convolution to one map per class, in float32."""

    kind: Literal["segmentation"] = "segmentation"
    classes: Annotated[int, Strict(), Field(ge=2)]
    activation: Literal["softmax", "none"] = "softmax"
    """`none` gives logits."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ResNet:
    """Stem, stages of blocks, head. With `plain` blocks it is the plain twin, with `dense` ones a DenseNet of given widths."""

    family: Literal["resnet"] = "resnet"
    name: Name = "resnet"
    input_shape: ImageShape
    """Height, width and channels of one image."""
    stem: Stem
    block: Block
    norm_order: NormOrder = "original"
    norm: Norm = BatchNorm()
    shortcut: Shortcut = "project_on_change"
    """Of residual blocks; `plain` and `dense` blocks have none."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    head: Classifier

    def __post_init__(self) -> None:
        _check_widths(self.block, [stage.width for stage in self.stages])
        if self.shortcut == "pad" and isinstance(self.block, BasicBlock | BottleneckBlock):
            widths = [self.stem.width, *(stage.width for stage in self.stages)]
            for number, (before, after) in enumerate(itertools.pairwise(widths)):
                if after < before:
                    raise ValueError(
                        f"shortcut 'pad' only adds channels, but stages.{number} goes from width {before} to {after}; "
                        "use 'project_on_change'"
                    )


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DenseNet:
    """Stem, stages of dense layers joined by transitions, head (arXiv 1608.06993)."""

    family: Literal["densenet"] = "densenet"
    name: Name = "densenet"
    input_shape: ImageShape
    """Height, width and channels of one image."""
    stem: Stem
    block: DenseBlock
    norm_order: NormOrder = "full_preact"
    """The paper's layers are `full_preact`."""
    norm: Norm = BatchNorm()
    stages: Annotated[tuple[DenseStage, ...], Field(min_length=1)]
    head: Classifier


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class UNet:
    """An encoder, a bridge and a decoder with skips by concatenation (arXiv 1505.04597).

    The levels run from the full resolution down to the bridge; 2x2 max pooling leads down, a 2x2 transposed convolution that
    halves the width leads up.
    """

    family: Literal["unet"] = "unet"
    name: Name = "unet"
    input_shape: ImageShape
    """Height, width and channels of one image."""
    block: Block = PlainBlock()
    norm_order: NormOrder = "original"
    norm: Norm = BatchNorm()
    shortcut: Shortcut = "project_on_change"
    """Of residual blocks; `plain` and `dense` blocks have none."""
    padding: Literal["same", "valid"] = "same"
    """`valid` is the paper's: every 3x3 convolution trims a pixel from each edge, and skips are cropped."""
    stages: Annotated[tuple[Level, ...], Field(min_length=2, max_length=12)]
    head: Segmenter

    def __post_init__(self) -> None:
        _check_widths(self.block, [level.width for level in self.stages])
        if self.padding == "valid" and not isinstance(self.block, PlainBlock):
            raise ValueError(f"padding 'valid' needs block kind 'plain': a shortcut's size would not match ({self.block.kind})")
        if self.shortcut == "pad" and isinstance(self.block, BasicBlock | BottleneckBlock):
            raise ValueError("shortcut 'pad' only adds channels, but a decoder has fewer; use 'project_on_change'")
        for axis in (0, 1):
            _check_halvings(self, axis)


Spec = Annotated[ResNet | DenseNet | UNet, Field(discriminator="family")]


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
    seed: Whole = 0
    """Of initial weights and data order."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Recipe:
    """A network and how to train it: what a spec file with a `train:` section holds."""

    model: Spec
    train: TrainSpec = TrainSpec()


def fit_to_data(spec: ResNet | DenseNet | UNet, input_shape: ImageShape, classes: int, task: Task) -> ResNet | DenseNet | UNet:
    """The same network for images of this shape and this many classes.

    Raises:
        ValueError: the network does not do this task, or cannot take such images (a U-Net that cannot halve them often enough).
    """
    if (task == "segmentation") != isinstance(spec, UNet):
        needed = "masks need a network of the family 'unet'" if task == "segmentation" else "it has labels, not masks"
        raise ValueError(f"{needed} (the network's family is {spec.family!r})")
    head = dataclasses.replace(spec.head, classes=classes)
    return dataclasses.replace(spec, input_shape=input_shape, head=head)  # type: ignore[arg-type]


def _check_widths(block: PlainBlock | BasicBlock | BottleneckBlock | DenseBlock, widths: list[int]) -> None:
    match block:
        case BottleneckBlock():
            for number, width in enumerate(widths):
                inner = block.inner_width(width)
                if inner < 1 or inner % block.cardinality:
                    raise ValueError(
                        f"stages.{number}: width {width} with bottleneck_ratio {block.bottleneck_ratio:g} gives inner width "
                        f"{inner}, which must be a multiple of cardinality {block.cardinality}"
                    )
        case DenseBlock(compression=float()):
            raise ValueError("block.compression: only the family 'densenet' has transitions; here the stages' widths say it")
        case _:
            pass


_LARGEST_IMAGE = 1 << 14


def _check_halvings(unet: UNet, axis: int) -> None:
    size = unet.input_shape[axis]
    if unet_output_size(unet, size) is None:
        # Sizes that can come once in every 2^halvings; none up to the limit means blocks that trim all pixels away.
        down = next((s for s in range(size - 1, 0, -1) if unet_output_size(unet, s)), None)
        up = next((s for s in range(size + 1, _LARGEST_IMAGE) if unet_output_size(unet, s)), None)
        nearest = " and ".join(str(s) for s in (down, up) if s) or f"none up to {_LARGEST_IMAGE}"
        raise ValueError(
            f"input_shape.{axis}: {size} cannot be halved {len(unet.stages) - 1} times with {unet.padding} padding; "
            f"the nearest sizes that can: {nearest}"
        )


def unet_output_size(unet: UNet, size: int) -> int | None:
    """Height (or width) in pixels of the masks for an input of this height; None where a level's height is odd or used up."""
    trim = [4 * level.blocks if unet.padding == "valid" else 0 for level in unet.stages]
    for lost in trim[:-1]:
        size -= lost
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= trim[-1]
    if size <= 0:
        return None
    for lost in reversed(trim[:-1]):
        size = 2 * size - lost
    return size if size > 0 else None


UNIONS: dict[str, tuple[type, ...]] = {
    field: get_args(get_args(union)[0]) for field, union in {"block": Block, "norm": Norm, "stem": Stem}.items()
}
"""The fields that hold one of several values told apart by `kind`, and the classes of those values."""
