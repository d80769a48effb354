"""U-Nets."""

import dataclasses
from functools import partial
from typing import Any

from reskeras.spec import (
    BasicBlock,
    DenseBlock,
    Level,
    NoNorm,
    PlainBlock,
    PresetEncoder,
    Segmenter,
    UNet,
)
from reskeras.spec.presets.named import Named


def levels(*widths: int) -> tuple[Level, ...]:
    """One block of two convolutions at each of these widths."""
    return tuple(Level(width=width) for width in widths)


def unet() -> UNet:
    """Five levels of valid convolutions without norms: 572x572 to 388x388, 23 convolutions."""
    return UNet(
        input_shape=(572, 572, 1),
        block=PlainBlock(),
        norm=NoNorm(),
        padding="valid",
        stages=levels(64, 128, 256, 512, 1024),
        head=Segmenter(classes=2),
    )


def unet_same(**options: Any) -> UNet:
    """The U-Net in common use: same padding and batch norm, masks of the image's size."""
    spec = UNet(
        input_shape=(256, 256, 3),
        block=PlainBlock(),
        stages=levels(64, 128, 256, 512, 1024),
        head=Segmenter(classes=2),
    )
    return dataclasses.replace(spec, **options)


def unet_plus_plus(**options: Any) -> UNet:
    """Half the U-Net's widths, biases instead of batch norm: the paper's 9.04M parameters."""
    return unet_same(
        norm=NoNorm(),
        decoder="nested",
        stages=levels(32, 64, 128, 256, 512),
        head=Segmenter(classes=1, activation="sigmoid"),
        **options,
    )


def resunet() -> UNet:
    """Four levels of pre-activation residual blocks; strided convolutions down, upsampling up.

    The paper's first unit starts with a bare convolution. Here that convolution precedes the first
    unit.
    """
    return UNet(
        input_shape=(224, 224, 3),
        block=BasicBlock(),
        norm_order="full_preact",
        down="stride",
        up="nearest",
        stages=levels(64, 128, 256, 512),
        head=Segmenter(classes=1, activation="sigmoid"),
    )


def encoder_unet(encoder: str) -> UNet:
    """A classifier's body as the encoder of a U-Net.

    The decoder is segmentation_models': widths 256 to 16, upsampling, concatenation.
    """
    return UNet(
        input_shape=(224, 224, 3),
        encoder=PresetEncoder(preset=encoder),
        up="nearest",
        stages=levels(16, 32, 64, 128, 256),
        head=Segmenter(classes=2),
    )


def unet_small() -> UNet:
    """Three narrow levels; masks of the size of the image."""
    return UNet(
        input_shape=(32, 32, 1),
        block=BasicBlock(),
        stages=levels(8, 16, 32),
        head=Segmenter(classes=2),
    )


def unet3d_small() -> UNet:
    """Three narrow levels of 3-D convolutions; masks of the size of the volume."""
    return UNet(
        input_shape=(16, 16, 16, 1),
        block=BasicBlock(),
        stages=levels(8, 16, 32),
        head=Segmenter(classes=2),
    )


_SMALL = "reskeras: small, for a laptop"
_ENCODER = (
    "Ronneberger et al. 2015, arXiv 1505.04597, on an encoder; decoder as in segmentation_models"
)

PRESETS: dict[str, Named] = {
    "unet_small": Named(unet_small, _SMALL),
    "unet3d_small": Named(unet3d_small, _SMALL),
    "unet": Named(unet, "Ronneberger et al. 2015, arXiv 1505.04597, Fig. 1"),
    "unet_same": Named(
        unet_same, "Ronneberger et al. 2015, arXiv 1505.04597, with same padding and batch norm"
    ),
    "resunet": Named(resunet, "after Zhang et al. 2017, arXiv 1711.10684"),
    "denseunet": Named(
        partial(
            unet_same,
            block=DenseBlock(growth_rate=16),
            norm_order="full_preact",
            stages=tuple(Level(blocks=4, width=w) for w in (48, 96, 192, 384)),
        ),
        "reskeras: dense layers in a U-Net, after Jegou et al. 2016, arXiv 1611.09326",
    ),
    "attention_unet": Named(
        partial(unet_same, skip="attention"),
        "Oktay et al. 2018, arXiv 1804.03999, with 2-D convolutions",
    ),
    "unet_plus_plus": Named(unet_plus_plus, "Zhou et al. 2018, arXiv 1807.10165, Table 3"),
    "unet_plus_plus_ds": Named(
        partial(unet_plus_plus, deep_supervision=True),
        "Zhou et al. 2018, arXiv 1807.10165, deep supervision",
    ),
    "unet_resnet18": Named(partial(encoder_unet, "resnet18"), _ENCODER),
    "unet_resnet34": Named(partial(encoder_unet, "resnet34"), _ENCODER),
    "unet_resnet50": Named(partial(encoder_unet, "resnet50"), _ENCODER),
    "unet_densenet121": Named(partial(encoder_unet, "densenet121"), _ENCODER),
}
