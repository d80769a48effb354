"""Networks and training runs as values: frozen, validated and independent of any framework.

Every value is checked on construction, by `dataclasses.replace` and when it is read from YAML.
`reskeras.spec.text` reports all mistakes of a file at once.

`width` is always the *output* width of a block or stage, so changing the kind of block leaves every
interface alone. The number of dimensions follows from `input_shape`: `[784]` is a fully connected
net, `[L, C]` is 1-D, `[H, W, C]` is 2-D and `[D, H, W, C]` is 3-D. "3x3" stands for a kernel of
size three in each dimension.

Imported by: reskeras, reskeras.cli, reskeras.data, reskeras.drawing, reskeras.lab,
reskeras.lab.doctor, reskeras.lab.experiments, reskeras.models, reskeras.nets,
reskeras.spec.presets, reskeras.tasks, reskeras.tasks.pages, reskeras.training, tuning.oracles,
tuning.record, tuning.running, tuning.search, tuning.space, tuning.tracking.
"""

from reskeras.spec.augment import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    Augmentation,
    AugmentWord,
    ColorJitter,
    RandAugment,
)
from reskeras.spec.blocks import (
    BasicBlock,
    Block,
    BottleneckBlock,
    DenseBlock,
    PlainBlock,
    StrideAt,
    is_residual,
)
from reskeras.spec.families import (
    UNIONS,
    AnySpec,
    DenseNet,
    Hourglass,
    PresetEncoder,
    ResNet,
    Spec,
    UNet,
)
from reskeras.spec.heads import (
    Classifier,
    Features,
    Heatmaps,
    MapHead,
    Numbers,
    Regressor,
    Segmenter,
)
from reskeras.spec.images import image_shape
from reskeras.spec.norms import (
    BatchNorm,
    GroupNorm,
    LayerNorm,
    NoNorm,
    Norm,
    NormOrder,
)
from reskeras.spec.options import ConvBias
from reskeras.spec.scalars import Activation, ImageShape, Init, InputShape, Pixels
from reskeras.spec.shortcuts import (
    DropoutShortcut,
    GatedShortcut,
    ResidualScale,
    ScaledShortcut,
    ScaleWord,
    Shortcut,
    ShortcutWord,
    SumScale,
    residual_scale,
    sum_scale,
)
from reskeras.spec.sizes import check_sizes, fitting_size, output_size
from reskeras.spec.stages import DenseStage, Level, Stage
from reskeras.spec.stems import CifarStem, DeepStem, ImagenetStem, LinearStem, Stem
from reskeras.spec.training import (
    PRECISIONS,
    Precision,
    Recipe,
    Resize,
    StopEarly,
    TrainSpec,
)

__all__ = [
    "AUGMENTATIONS",
    "NO_AUGMENTATION",
    "PRECISIONS",
    "UNIONS",
    "Activation",
    "AnySpec",
    "AugmentWord",
    "Augmentation",
    "BasicBlock",
    "BatchNorm",
    "Block",
    "BottleneckBlock",
    "CifarStem",
    "Classifier",
    "ColorJitter",
    "ConvBias",
    "DeepStem",
    "DenseBlock",
    "DenseNet",
    "DenseStage",
    "DropoutShortcut",
    "Features",
    "GatedShortcut",
    "GroupNorm",
    "Heatmaps",
    "Hourglass",
    "ImageShape",
    "ImagenetStem",
    "Init",
    "InputShape",
    "LayerNorm",
    "Level",
    "LinearStem",
    "MapHead",
    "NoNorm",
    "Norm",
    "NormOrder",
    "Numbers",
    "Pixels",
    "PlainBlock",
    "Precision",
    "PresetEncoder",
    "RandAugment",
    "Recipe",
    "Regressor",
    "ResNet",
    "ResidualScale",
    "Resize",
    "ScaleWord",
    "ScaledShortcut",
    "Segmenter",
    "Shortcut",
    "ShortcutWord",
    "Spec",
    "Stage",
    "Stem",
    "StopEarly",
    "StrideAt",
    "SumScale",
    "TrainSpec",
    "UNet",
    "check_sizes",
    "fitting_size",
    "image_shape",
    "is_residual",
    "output_size",
    "residual_scale",
    "sum_scale",
]
