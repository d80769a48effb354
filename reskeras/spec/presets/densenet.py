"""Densely connected networks (Huang et al. 2016, arXiv 1608.06993)."""

from functools import partial

from reskeras.spec import (
    BatchNorm,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    ImagenetStem,
)
from reskeras.spec.presets.named import Named


def imagenet_densenet(blocks: tuple[int, int, int, int], growth_rate: int = 32) -> DenseNet:
    """DenseNet-BC with compression 0.5 behind the 7x7 stem, which has 2k channels."""
    return DenseNet(
        input_shape=(224, 224, 3),
        stem=ImagenetStem(width=2 * growth_rate),
        # keras.applications' epsilon, so that its weights give its outputs
        norm=BatchNorm(epsilon=1.001e-5),
        block=DenseBlock(growth_rate=growth_rate, bottleneck=True, compression=0.5),
        stages=tuple(DenseStage(blocks=number) for number in blocks),
        head=Classifier(classes=1000),
    )


def cifar_densenet(depth: int, growth_rate: int, *, bc: bool) -> DenseNet:
    """Three stages on 32x32 images; depth counts every convolution and the dense layer.

    The stem has 2k channels with bottleneck and compression, else 16: what the paper's parameter
    counts need (its Lua code starts every net with 2k).
    """
    per_stage = (depth - 4) // 3
    return DenseNet(
        input_shape=(32, 32, 3),
        stem=CifarStem(width=2 * growth_rate if bc else 16),
        block=DenseBlock(growth_rate=growth_rate, bottleneck=bc, compression=0.5 if bc else None),
        stages=(DenseStage(blocks=per_stage // 2 if bc else per_stage),) * 3,
        head=Classifier(classes=10),
    )


_IMAGENET = "Huang et al. 2016, arXiv 1608.06993, Table 1"
_CIFAR = "Huang et al. 2016, arXiv 1608.06993, Table 2"

PRESETS: dict[str, Named] = {
    "densenet121": Named(partial(imagenet_densenet, (6, 12, 24, 16)), _IMAGENET),
    "densenet161": Named(
        partial(imagenet_densenet, (6, 12, 36, 24), 48), f"{_IMAGENET} with growth rate 48"
    ),
    "densenet169": Named(partial(imagenet_densenet, (6, 12, 32, 32)), _IMAGENET),
    "densenet201": Named(partial(imagenet_densenet, (6, 12, 48, 32)), _IMAGENET),
    "densenet_40_12": Named(partial(cifar_densenet, 40, 12, bc=False), _CIFAR),
    "densenet_100_12": Named(partial(cifar_densenet, 100, 12, bc=False), _CIFAR),
    "densenet_100_24": Named(partial(cifar_densenet, 100, 24, bc=False), _CIFAR),
    "densenet_bc_100_12": Named(partial(cifar_densenet, 100, 12, bc=True), _CIFAR),
    "densenet_bc_250_24": Named(partial(cifar_densenet, 250, 24, bc=True), _CIFAR),
    "densenet_bc_190_40": Named(partial(cifar_densenet, 190, 40, bc=True), _CIFAR),
}
