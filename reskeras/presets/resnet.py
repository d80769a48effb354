"""Residual networks and their plain twins."""

from functools import partial

from reskeras.presets.named import Named
from reskeras.spec import (
    BasicBlock,
    BatchNorm,
    Block,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    ImagenetStem,
    NormOrder,
    PlainBlock,
    ResNet,
    Stage,
)


def imagenet_resnet(blocks: tuple[int, int, int, int], block: Block) -> ResNet:
    """Four stages behind the 7x7 stem; widths 64 to 512, times four for bottlenecks."""
    factor = 4 if isinstance(block, BottleneckBlock) else 1
    return ResNet(
        input_shape=(224, 224, 3),
        stem=ImagenetStem(width=64),
        block=block,
        shortcut="project_on_change",
        stages=tuple(Stage(blocks=number, width=factor * 64 * 2**i, stride=1 if i == 0 else 2) for i, number in enumerate(blocks)),
        head=Classifier(classes=1000),
    )


def cifar_resnet(depth: int, block: Block | None = None, norm_order: NormOrder = "original", widen_factor: int = 1) -> ResNet:
    """Three stages on 32x32 images; `block` is `basic` unless given.

    Depth is 6n + 2, with bottlenecks 9n + 2; Wide ResNets also count a projection: 6n + 4. Option A, but projections where the
    first stage is wider than the stem already.
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
        stages=tuple(Stage(blocks=number, width=16 * factor * 2**i, stride=1 if i == 0 else 2) for i in range(3)),
        head=Classifier(classes=10),
    )


def resnext29(cardinality: int, group_width: int) -> ResNet:
    """Three stages of three bottlenecks, widths 256 to 1024 (arXiv 1611.05431, Section 5.1 and Table 7)."""
    block = BottleneckBlock(bottleneck_ratio=cardinality * group_width / 256, cardinality=cardinality)
    return ResNet(
        input_shape=(32, 32, 3),
        stem=CifarStem(width=64),
        block=block,
        shortcut="project_on_change",
        stages=tuple(Stage(blocks=3, width=256 * 2**i, stride=1 if i == 0 else 2) for i in range(3)),
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
        stages=(Stage(blocks=2, width=16), Stage(blocks=2, width=32, stride=2), Stage(blocks=2, width=64, stride=2)),
        head=Classifier(classes=10),
    )


_SMALL = "reskeras: small, for a laptop"
_IMAGENET = "He et al. 2015, arXiv 1512.03385, Table 1 (stride on the 3x3: v1.5)"
_CIFAR = "He et al. 2015, arXiv 1512.03385, Section 4.2, option A"
_PLAIN = "He et al. 2015, arXiv 1512.03385, Section 4.2: the twin without shortcuts"
_PREACT = "He et al. 2016, arXiv 1603.05027, full pre-activation"
_WRN = "Zagoruyko and Komodakis 2016, arXiv 1605.07146"
_RESNEXT = "Xie et al. 2016, arXiv 1611.05431"

_preact = partial(cifar_resnet, norm_order="full_preact")

PRESETS: dict[str, Named] = {
    "digits_plain": Named(partial(digits_net, PlainBlock()), _SMALL),
    "digits_basic": Named(partial(digits_net, BasicBlock()), _SMALL),
    "digits_bottleneck": Named(partial(digits_net, BottleneckBlock()), _SMALL),
    "digits_dense": Named(partial(digits_net, DenseBlock()), _SMALL),
    "resnet18": Named(partial(imagenet_resnet, (2, 2, 2, 2), BasicBlock()), _IMAGENET),
    "resnet34": Named(partial(imagenet_resnet, (3, 4, 6, 3), BasicBlock()), _IMAGENET),
    "resnet50": Named(partial(imagenet_resnet, (3, 4, 6, 3), BottleneckBlock()), _IMAGENET),
    "resnet101": Named(partial(imagenet_resnet, (3, 4, 23, 3), BottleneckBlock()), _IMAGENET),
    "resnet152": Named(partial(imagenet_resnet, (3, 8, 36, 3), BottleneckBlock()), _IMAGENET),
    **{f"resnet{depth}": Named(partial(cifar_resnet, depth), _CIFAR) for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"plain{depth}": Named(partial(cifar_resnet, depth, PlainBlock()), _PLAIN) for depth in (20, 56)},
    "preact110": Named(partial(_preact, 110), _PREACT),
    "preact164": Named(partial(_preact, 164, BottleneckBlock()), _PREACT),
    "preact1001": Named(partial(_preact, 1001, BottleneckBlock()), _PREACT),
    "wrn_28_10": Named(partial(_preact, 28, widen_factor=10), _WRN),
    "wrn_16_8": Named(partial(_preact, 16, widen_factor=8), _WRN),
    "resnext50_32x4d": Named(
        partial(imagenet_resnet, (3, 4, 6, 3), BottleneckBlock(bottleneck_ratio=0.5, cardinality=32)), f"{_RESNEXT}, Table 1"
    ),
    "resnext29_8x64d": Named(partial(resnext29, cardinality=8, group_width=64), f"{_RESNEXT}, Section 5.1"),
}
