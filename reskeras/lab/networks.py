"""The networks that experiments take if they are given none."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from reskeras.spec import (
    AnySpec,
    BasicBlock,
    CifarStem,
    Classifier,
    LinearStem,
    NoNorm,
    PlainBlock,
    ResNet,
    Stage,
)

_BLOCKS, _WIDTH = 10, 256


def _small(name: str, **options: object) -> ResNet:
    return ResNet(
        name=name,
        input_shape=(_WIDTH,),
        stem=LinearStem(width=_WIDTH),
        stages=(Stage(blocks=_BLOCKS, width=_WIDTH),),
        head=Classifier(classes=10),
        **options,  # type: ignore[arg-type]
    )


SMALL_NETWORKS: dict[str, AnySpec] = {
    spec.name: spec
    for spec in (
        _small("plain", block=PlainBlock(), norm=NoNorm()),
        _small("plain_glorot", block=PlainBlock(), norm=NoNorm(), init="glorot_normal"),
        _small("residual", block=BasicBlock(), norm=NoNorm(), norm_order="relu_only_preact"),
        _small(
            "residual_sum_scaled",
            block=BasicBlock(),
            norm=NoNorm(),
            norm_order="relu_only_preact",
            sum_scale="1/sqrt(2)",
        ),
        _small("residual_batch_norm", block=BasicBlock(), norm_order="full_preact"),
    )
}
"""Fully connected networks, one for each rule of how second moments grow.

Convolutions would lose some of it at the border of each image.
"""

ACTIVATED_SUMS = _small("residual_activated", block=BasicBlock())
"""The first residual networks (`original`): with batch norm, each sum is activated."""


def resized(spec: Any, *, blocks: int, width: int) -> ResNet:
    """One of these networks with another depth and width."""
    stages = (Stage(blocks=blocks, width=width),)
    made: ResNet = dataclasses.replace(
        spec, input_shape=(width,), stem=LinearStem(width=width), stages=stages
    )
    return made


def image_network(
    image_shape: Sequence[int], head: Any, *, blocks: int, width: int = 16, **options: Any
) -> ResNet:
    """A residual network for small images, to train: 3x3 stem, one stage of equal blocks.

    Args:
        image_shape: [*sides,C].
        head: of the network.
        blocks: how many.
        width: of the stem and of all blocks.
        options: other fields of `ResNet`; its block is `BasicBlock` by default.
    """
    fields: dict[str, Any] = {"block": BasicBlock()} | options
    return ResNet(
        input_shape=tuple(image_shape),
        stem=CifarStem(width=width),
        stages=(Stage(blocks=blocks, width=width),),
        head=head,
        **fields,
    )
