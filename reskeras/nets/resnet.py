"""Residual networks, stem to head (arXiv 1512.03385 and 1603.05027), and their plain twins."""

from typing import Any

from reskeras.nets.blocks import stage
from reskeras.nets.heads import head
from reskeras.nets.primitives import Layers, Primitives
from reskeras.spec import CifarStem, DeepStem, ImagenetStem, LinearStem, ResNet, Stem


def resnet(spec: ResNet, layers: Layers) -> tuple[Any, Any]:
    """Takes images [N,H,W,C], returns the head's output.

    Layers: `stem_*`, `stage{i}_block{j}_*`, `final_*`, `head`. Endpoints: `stem` (before its
    pooling), `stage{i}`, and in pre-activation networks `final`.
    """
    primitives = Primitives(layers, spec, blocks=sum(part.blocks for part in spec.stages))
    inputs = layers.input(spec.input_shape, name=f"{primitives.prefix}image")
    x = resnet_body(inputs, spec, primitives=primitives)
    return inputs, head(x, spec.head, inputs=inputs, primitives=primitives)


def resnet_body(x: Any, spec: ResNet, *, primitives: Primitives) -> Any:
    """Stem and stages: everything but the head."""
    x = stem(x, spec.stem, primitives=primitives)
    for number, part in enumerate(spec.stages, start=1):
        x = stage(
            x,
            spec.block,
            blocks=part.blocks,
            width=part.width,
            stride=part.stride,
            stride_at=spec.stride_at,
            primitives=primitives,
            name=f"stage{number}",
        )
        x = primitives.endpoint(x, f"stage{number}")
    return primitives.after_blocks(x)


def stem(x: Any, spec: Stem, *, primitives: Primitives, activated: bool = False) -> Any:
    """The layers before the first stage; `imagenet` and `deep` stems divide both sides by four.

    `activated` adds norm and activation after the last convolution even if the norm order leaves
    them to the first block.
    """
    normed = activated or not primitives.order.norm_first
    match spec:
        case CifarStem():
            x = primitives.conv(x, spec.width, 3, normed=normed, name="stem_conv")
            return primitives.endpoint(
                primitives.after_stem(x, name="stem", activated=activated), "stem"
            )
        case LinearStem():
            return primitives.endpoint(
                primitives.conv(x, spec.width, 1, normed=False, name="stem_conv"), "stem"
            )
        case ImagenetStem():
            x = primitives.conv(x, spec.width, 7, stride=2, normed=normed, name="stem_conv")
        case DeepStem():
            for number, stride in ((1, 2), (2, 1)):
                x = primitives.conv(
                    x,
                    max(1, spec.width // 2),
                    3,
                    stride=stride,
                    normed=True,
                    name=f"stem_conv{number}",
                )
                x = primitives.norm(x, name=f"stem_norm{number}")
                x = primitives.activate(x, name="stem", number=number)
            x = primitives.conv(x, spec.width, 3, normed=normed, name="stem_conv")
    x = primitives.endpoint(primitives.after_stem(x, name="stem", activated=activated), "stem")
    # A rim of zeros, as in the authors' code and keras.applications. On signed maps this differs
    # from ignoring the rim.
    return primitives.layers.pool(x, "max", 3, 2, rim=1, name=f"{primitives.prefix}stem_pool")
