"""U-Nets."""

from reskeras.presets.named import Named
from reskeras.spec import BasicBlock, BatchNorm, Level, NoNorm, PlainBlock, Segmenter, UNet

_WIDTHS = (64, 128, 256, 512, 1024)


def unet() -> UNet:
    """Five levels of valid convolutions without normalisation: 572x572 -> 388x388."""
    return UNet(
        input_shape=(572, 572, 1),
        block=PlainBlock(),
        norm=NoNorm(),
        padding="valid",
        stages=tuple(Level(width=width) for width in _WIDTHS),
        head=Segmenter(classes=2),
    )


def resunet() -> UNet:
    """Four levels of pre-activation residual blocks; unlike the paper's, with max pooling between them."""
    return UNet(
        input_shape=(224, 224, 3),
        block=BasicBlock(),
        norm_order="full_preact",
        norm=BatchNorm(),
        stages=tuple(Level(width=width) for width in _WIDTHS[:4]),
        head=Segmenter(classes=2),
    )


def unet_small() -> UNet:
    """Three narrow levels; masks of the size of the image."""
    return UNet(
        input_shape=(32, 32, 1),
        block=BasicBlock(),
        stages=(Level(width=8), Level(width=16), Level(width=32)),
        head=Segmenter(classes=2),
    )


PRESETS: dict[str, Named] = {
    "unet_small": Named(unet_small, "reskeras: small, for a laptop"),
    "unet": Named(unet, "Ronneberger et al. 2015, arXiv 1505.04597, Fig. 1"),
    "resunet": Named(resunet, "after Zhang et al. 2017, arXiv 1711.10684"),
}
