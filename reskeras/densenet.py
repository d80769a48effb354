"""Densely connected networks, stem to head (arXiv 1608.06993)."""

import math

import keras

from reskeras.blocks import dense_stage, transition_conv
from reskeras.layers import Primitives, pool_to_classes
from reskeras.resnet import stem
from reskeras.spec import DenseNet, ImagenetStem


def build_densenet(spec: DenseNet) -> keras.Model:
    """[N,H,W,C] -> [N,classes]. Layers: `stem_*`, `stage{i}_block{j}_*`, `stage{i}_transition_*`, `final_*`, `head`."""
    primitives = Primitives(norm_spec=spec.norm, norm_order=spec.norm_order)
    inputs = keras.Input(spec.input_shape, name="image")
    # Behind the 7x7 stem the paper pools activated maps although its layers are pre-activation ones.
    x = stem(inputs, spec.stem, primitives=primitives, activated=isinstance(spec.stem, ImagenetStem))
    for number, part in enumerate(spec.stages, start=1):
        if number > 1:
            name = f"stage{number - 1}_transition"
            width = math.floor(x.shape[-1] * (spec.block.compression or 1.0))
            x = transition_conv(x, width, primitives=primitives, name=name)
            x = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")(x)
        x = dense_stage(x, spec.block, blocks=part.blocks, primitives=primitives, name=f"stage{number}")
    x = primitives.after_blocks(x, name="final")
    outputs = pool_to_classes(x, spec.head.classes, spec.head.activation)
    return keras.Model(inputs, outputs, name=spec.name)
