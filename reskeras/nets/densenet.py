"""Densely connected networks, stem to head (arXiv 1608.06993)."""

import math
from typing import Any

from reskeras.nets.blocks import dense_stage, transition_conv
from reskeras.nets.heads import head
from reskeras.nets.primitives import Layers, Primitives
from reskeras.nets.resnet import stem
from reskeras.spec import DeepStem, DenseNet, ImagenetStem


def densenet(spec: DenseNet, layers: Layers) -> tuple[Any, Any]:
    """Takes images [N,H,W,C], returns the head's output.

    Layers: `stem_*`, `stage{i}_block{j}_*`, `stage{i}_transition_*`, `final_*`, `head`. Endpoints:
    `stem` (before its pooling), `stage{i}` (before its transition), and in pre-activation networks
    `final`.
    """
    primitives = Primitives(layers, spec)
    inputs = layers.input(spec.input_shape, name=f"{primitives.prefix}image")
    x = densenet_body(inputs, spec, primitives=primitives)
    return inputs, head(x, spec.head, inputs=inputs, primitives=primitives)


def densenet_body(x: Any, spec: DenseNet, *, primitives: Primitives) -> Any:
    """Stem, stages and transitions: everything but the head."""
    layers = primitives.layers
    # After the 7x7 stem, the paper pools activated maps although its layers are pre-activation.
    x = stem(
        x,
        spec.stem,
        primitives=primitives,
        activated=isinstance(spec.stem, ImagenetStem | DeepStem),
    )
    for number, part in enumerate(spec.stages, start=1):
        if number > 1:
            name = f"stage{number - 1}_transition"
            width = max(1, math.floor(layers.channels(x) * (spec.block.compression or 1.0)))
            x = transition_conv(x, width, primitives=primitives, name=name)
            x = layers.pool(x, "average", 2, 2, name=f"{primitives.prefix}{name}_pool")
        x = dense_stage(
            x, spec.block, blocks=part.blocks, primitives=primitives, name=f"stage{number}"
        )
        x = primitives.endpoint(x, f"stage{number}")
    return primitives.after_blocks(x)
