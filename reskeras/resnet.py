"""Residual networks, stem to head (arXiv 1512.03385 and 1603.05027), and their plain twins."""

from typing import Any

import keras

from reskeras.blocks import stage
from reskeras.layers import Primitives, pool_to_classes
from reskeras.spec import CifarStem, ImagenetStem, ResNet, Stem


def build_resnet(spec: ResNet) -> keras.Model:
    """[N,H,W,C] -> [N,classes]. Layers: `stem_*`, `stage{i}_block{j}_*`, `final_*`, `head`."""
    primitives = Primitives(norm_spec=spec.norm, norm_order=spec.norm_order)
    inputs = keras.Input(spec.input_shape, name="image")
    x = stem(inputs, spec.stem, primitives=primitives)
    for number, part in enumerate(spec.stages, start=1):
        x = stage(
            x,
            spec.block,
            blocks=part.blocks,
            width=part.width,
            stride=part.stride,
            shortcut=spec.shortcut,
            primitives=primitives,
            name=f"stage{number}",
        )
    x = primitives.after_blocks(x, name="final")
    outputs = pool_to_classes(x, spec.head.classes, spec.head.activation)
    return keras.Model(inputs, outputs, name=spec.name)


def stem(x: Any, spec: Stem, *, primitives: Primitives, activated: bool = False) -> Any:
    """The layers before the first stage; the ImageNet stem divides height and width by four.

    `activated` asks for norm and ReLU after the convolution where the norm order would leave them to the first block.
    """
    match spec:
        case CifarStem():
            x = primitives.conv(x, spec.width, 3, name="stem_conv")
            return primitives.after_stem(x, name="stem", activated=activated)
        case ImagenetStem():
            x = primitives.conv(x, spec.width, 7, stride=2, name="stem_conv")
            x = primitives.after_stem(x, name="stem", activated=activated)
            return keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
