"""Stacked hourglass networks (Newell et al. 2016, arXiv 1603.06937)."""

from functools import partial

from reskeras.spec import Heatmaps, Hourglass
from reskeras.spec.presets.named import Named


def stacked_hourglass(stacks: int) -> Hourglass:
    """256x256 images to 64x64 maps of 16 keypoints after each stack.

    Every convolution has a bias, as in the authors' hg.lua.
    """
    return Hourglass(
        input_shape=(256, 256, 3), stacks=stacks, conv_bias="always", head=Heatmaps(keypoints=16)
    )


def hourglass_small() -> Hourglass:
    """Two narrow stacks for 32x32 images."""
    return Hourglass(
        input_shape=(32, 32, 1), stacks=2, depth=2, width=32, head=Heatmaps(keypoints=2)
    )


_SOURCE = "Newell et al. 2016, arXiv 1603.06937; princeton-vl/pose-hg-train"

PRESETS: dict[str, Named] = {
    "hourglass_small": Named(hourglass_small, "reskeras: small, for a laptop"),
    **{
        f"hourglass{stacks}": Named(partial(stacked_hourglass, stacks), _SOURCE)
        for stacks in (1, 2, 8)
    },
}
