"""Residual networks and their plain twins."""

import dataclasses
from functools import partial
from typing import Any

from reskeras.spec import (
    BasicBlock,
    BatchNorm,
    Block,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DeepStem,
    DenseBlock,
    ImagenetStem,
    LinearStem,
    NormOrder,
    PlainBlock,
    ResNet,
    Stage,
)
from reskeras.spec.presets.named import Named

Blocks = tuple[int, int, int, int]

KERAS_NORM = BatchNorm(epsilon=1.001e-5)
"""keras.applications' epsilon, so that its weights give its outputs."""


def imagenet_resnet(blocks: Blocks, block: Block, **options: Any) -> ResNet:
    """Four stages behind the 7x7 stem; widths 64 to 512, times four for bottlenecks.

    Strides are on the 3x3 ("v1.5", as in ResNet-B, torchvision and timm) unless `stride_at` says
    otherwise.
    """
    factor = 4 if isinstance(block, BottleneckBlock) else 1
    spec = ResNet(
        input_shape=(224, 224, 3),
        stem=ImagenetStem(width=64),
        block=block,
        norm=KERAS_NORM,
        stages=tuple(
            Stage(blocks=number, width=factor * 64 * 2**i, stride=1 if i == 0 else 2)
            for i, number in enumerate(blocks)
        ),
        head=Classifier(classes=1000),
    )
    return dataclasses.replace(spec, **options)


def resnet_v2(blocks: Blocks) -> ResNet:
    """Pre-activation bottlenecks as keras.applications' V2 has them.

    The last block of a stage carries its stride, the shortcut is then subsampled by max pooling,
    and the convolutions that no norm follows (stem, projections, the last of each branch) have a
    bias.
    """
    return ResNet(
        input_shape=(224, 224, 3),
        stem=ImagenetStem(width=64),
        block=BottleneckBlock(),
        norm_order="full_preact",
        norm=KERAS_NORM,
        shortcut="maxpool",
        stride_at="last_block",
        conv_bias="unless_normed",
        stages=tuple(
            Stage(blocks=number, width=256 * 2**i, stride=1 if i == 3 else 2)
            for i, number in enumerate(blocks)
        ),
        head=Classifier(classes=1000),
    )


def cifar_resnet(
    depth: int,
    block: Block | None = None,
    norm_order: NormOrder = "original",
    widen_factor: int = 1,
) -> ResNet:
    """Three stages on 32x32 images; `block` is `basic` unless given.

    Depth is 6n + 2, with bottlenecks 9n + 2; Wide ResNets count the three projections and not the
    dense layer: 6n + 4. Option A, but projections where the first stage is wider than the stem
    already. Bottlenecks have their stride on the first 1x1, as in the authors' Lua code: on the
    3x3, ResNet-1001 would have 1.491 GMAC instead of its 1.488.
    """
    block = block or BasicBlock()
    layers, factor = (3, 4) if isinstance(block, BottleneckBlock) else (2, widen_factor)
    number = (depth - (4 if widen_factor > 1 else 2)) // (3 * layers)
    return ResNet(
        input_shape=(32, 32, 3),
        stem=CifarStem(width=16),
        block=block,
        norm_order=norm_order,
        shortcut="project_on_change" if factor > 1 else "pad",
        stride_at="1x1" if layers == 3 else "3x3",
        stages=tuple(
            Stage(blocks=number, width=16 * factor * 2**i, stride=1 if i == 0 else 2)
            for i in range(3)
        ),
        head=Classifier(classes=10),
    )


def resnext29(cardinality: int, group_width: int) -> ResNet:
    """Three stages of three bottlenecks, widths 256 to 1024 (arXiv 1611.05431, Table 7)."""
    return ResNet(
        input_shape=(32, 32, 3),
        stem=CifarStem(width=64),
        block=_resnext(cardinality, group_width),
        shortcut="project_on_change",
        stages=tuple(
            Stage(blocks=3, width=256 * 2**i, stride=1 if i == 0 else 2) for i in range(3)
        ),
        head=Classifier(classes=10),
    )


def digits_net(block: Block) -> ResNet:
    """A net for 8x8 images that trains in seconds on a laptop."""
    return ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=16),
        block=block,
        norm_order="full_preact",
        norm=BatchNorm(),
        stages=(
            Stage(blocks=2, width=16),
            Stage(blocks=2, width=32, stride=2),
            Stage(blocks=2, width=64, stride=2),
        ),
        head=Classifier(classes=10),
    )


def mlp_res() -> ResNet:
    """A fully connected residual network for flat 28x28 images: eight pre-activation blocks."""
    return ResNet(
        input_shape=(784,),
        stem=LinearStem(width=128),
        block=BasicBlock(),
        norm_order="full_preact",
        stages=(Stage(blocks=8, width=128),),
        head=Classifier(classes=10),
    )


def mnist1d_res() -> ResNet:
    """A 1-D residual net for sequences of 40 samples in ten classes."""
    return ResNet(
        input_shape=(40, 1),
        stem=CifarStem(width=16),
        block=BasicBlock(),
        norm_order="full_preact",
        stages=(
            Stage(blocks=2, width=16),
            Stage(blocks=2, width=32, stride=2),
            Stage(blocks=2, width=64, stride=2),
        ),
        head=Classifier(classes=10),
    )


_SMALL = "reskeras: small, for a laptop"
_IMAGENET = "He et al. 2015, arXiv 1512.03385, Table 1"
_V1_5 = f"{_IMAGENET}, stride on the 3x3 (v1.5: torchvision, timm)"
_V2 = "He et al. 2016, arXiv 1603.05027, as keras.applications has it"
_D = "He et al. 2018, arXiv 1812.01187, Fig. 2: ResNet-D"
_SE = "Hu et al. 2017, arXiv 1709.01507"
_CIFAR = "He et al. 2015, arXiv 1512.03385, Section 4.2, option A"
_PLAIN = "He et al. 2015, arXiv 1512.03385, Section 4.2: the twin without shortcuts"
_PREACT = "He et al. 2016, arXiv 1603.05027, full pre-activation"
_WRN = "Zagoruyko and Komodakis 2016, arXiv 1605.07146"
_RESNEXT = "Xie et al. 2016, arXiv 1611.05431"

DEPTHS: dict[int, Blocks] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Bottlenecks in each stage."""

_D_OPTIONS: dict[str, Any] = {"stem": DeepStem(width=64), "shortcut": "avgpool_project"}


def _bottlenecks(depth: int, **options: Any) -> ResNet:
    return imagenet_resnet(DEPTHS[depth], BottleneckBlock(), **options)


def _resnext(cardinality: int, group_width: int) -> BottleneckBlock:
    """A block of inner width cardinality * group_width in the first stage, whose width is 256."""
    return BottleneckBlock(
        bottleneck_ratio=cardinality * group_width / 256, cardinality=cardinality
    )


_preact = partial(cifar_resnet, norm_order="full_preact")

PRESETS: dict[str, Named] = {
    "digits_plain": Named(partial(digits_net, PlainBlock()), _SMALL),
    "digits_basic": Named(partial(digits_net, BasicBlock()), _SMALL),
    "digits_bottleneck": Named(partial(digits_net, BottleneckBlock()), _SMALL),
    "digits_dense": Named(partial(digits_net, DenseBlock()), _SMALL),
    "mlp_res": Named(mlp_res, "reskeras: fully connected, after He et al. 2016, arXiv 1603.05027"),
    "mnist1d_res": Named(
        mnist1d_res, "reskeras: 1-D, for MNIST-1D (Greydanus 2020, arXiv 2011.14439)"
    ),
    "resnet18": Named(partial(imagenet_resnet, (2, 2, 2, 2), BasicBlock()), _IMAGENET),
    "resnet34": Named(partial(imagenet_resnet, (3, 4, 6, 3), BasicBlock()), _IMAGENET),
    **{
        f"resnet{depth}": Named(partial(_bottlenecks, depth, stride_at="1x1"), _IMAGENET)
        for depth in (50, 101, 152)
    },
    **{
        f"resnet{depth}_v1_5": Named(partial(_bottlenecks, depth), _V1_5)
        for depth in (50, 101, 152)
    },
    **{
        f"resnet{depth}v2": Named(partial(resnet_v2, DEPTHS[depth]), _V2)
        for depth in (50, 101, 152, 200)
    },
    "resnet18d": Named(partial(imagenet_resnet, (2, 2, 2, 2), BasicBlock(), **_D_OPTIONS), _D),
    "resnet34d": Named(partial(imagenet_resnet, (3, 4, 6, 3), BasicBlock(), **_D_OPTIONS), _D),
    **{
        f"resnet{depth}d": Named(partial(_bottlenecks, depth, **_D_OPTIONS), _D)
        for depth in (50, 101, 152)
    },
    **{
        f"seresnet{depth}": Named(partial(_bottlenecks, depth, squeeze_excite=16), _SE)
        for depth in (50, 101, 152)
    },
    "seresnext50_32x4d": Named(
        partial(imagenet_resnet, DEPTHS[50], _resnext(32, 4), squeeze_excite=16), _SE
    ),
    **{
        f"resnet{depth}": Named(partial(cifar_resnet, depth), _CIFAR)
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    **{
        f"plain{depth}": Named(partial(cifar_resnet, depth, PlainBlock()), _PLAIN)
        for depth in (20, 56)
    },
    "preact110": Named(partial(_preact, 110), _PREACT),
    "preact164": Named(partial(_preact, 164, BottleneckBlock()), _PREACT),
    "preact1001": Named(partial(_preact, 1001, BottleneckBlock()), _PREACT),
    "resnet110_stochastic": Named(
        lambda: dataclasses.replace(cifar_resnet(110), drop_path_rate=0.5),
        "Huang et al. 2016, arXiv 1603.09382: stochastic depth",
    ),
    "wrn_16_8": Named(partial(_preact, 16, widen_factor=8), _WRN),
    "wrn_28_10": Named(partial(_preact, 28, widen_factor=10), _WRN),
    "wrn_40_4": Named(partial(_preact, 40, widen_factor=4), _WRN),
    "wide_resnet50_2": Named(
        partial(imagenet_resnet, DEPTHS[50], BottleneckBlock(bottleneck_ratio=0.5)), _WRN
    ),
    "wide_resnet101_2": Named(
        partial(imagenet_resnet, DEPTHS[101], BottleneckBlock(bottleneck_ratio=0.5)), _WRN
    ),
    "resnext50_32x4d": Named(
        partial(imagenet_resnet, DEPTHS[50], _resnext(32, 4)), f"{_RESNEXT}, Table 1"
    ),
    "resnext101_32x8d": Named(
        partial(imagenet_resnet, DEPTHS[101], _resnext(32, 8)), f"{_RESNEXT}, after Table 1"
    ),
    "resnext101_64x4d": Named(
        partial(imagenet_resnet, DEPTHS[101], _resnext(64, 4)), f"{_RESNEXT}, Section 5.1"
    ),
    "resnext29_8x64d": Named(
        partial(resnext29, cardinality=8, group_width=64), f"{_RESNEXT}, Section 5.3"
    ),
}
