"""U-Net: encoder, bridge, decoder, skips (arXiv 1505.04597), with any kind of block."""

from typing import Any

import keras

from reskeras.blocks import stage
from reskeras.layers import PRE_ACTIVATION, Primitives, map_to_classes
from reskeras.spec import Level, UNet


def build_unet(spec: UNet) -> keras.Model:
    """[N,H,W,C] -> [N,H',W',classes]; H' is H unless the padding is `valid`.

    Layers: `encoder{i}_block{j}_*`, `encoder{i}_pool`, `bridge_block{j}_*`, `decoder{i}_up`, `decoder{i}_concat`,
    `decoder{i}_block{j}_*`, `final_*`, `head`.
    """
    primitives = Primitives(norm_spec=spec.norm, norm_order=spec.norm_order, padding=spec.padding)

    def blocks(x: Any, level: Level, name: str) -> Any:
        return stage(
            x,
            spec.block,
            blocks=level.blocks,
            width=level.width,
            stride=1,
            shortcut=spec.shortcut,
            primitives=primitives,
            name=name,
        )

    x = inputs = keras.Input(spec.input_shape, name="image")
    if spec.norm_order in PRE_ACTIVATION:
        # A block that begins with ReLU must not see raw pixels: it would cut off half of a centred image.
        x = Primitives(norm_spec=spec.norm, norm_order=spec.norm_order).conv(x, spec.stages[0].width, 3, name="stem_conv")
    *levels, bridge = spec.stages
    skips = []
    for number, level in enumerate(levels, start=1):
        x = blocks(x, level, f"encoder{number}")
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"encoder{number}_pool")(x)
    x = blocks(x, bridge, "bridge")
    for number, level in reversed(list(enumerate(levels, start=1))):
        name = f"decoder{number}"
        up = keras.layers.Conv2DTranspose(level.width, 2, strides=2, kernel_initializer="he_normal", name=f"{name}_up")(x)
        skip = _crop_to(skips[number - 1], up, name=f"{name}_crop")
        x = keras.layers.Concatenate(name=f"{name}_concat")([skip, up])
        x = blocks(x, level, name)
    x = primitives.after_blocks(x, name="final")
    outputs = map_to_classes(x, spec.head.classes, spec.head.activation)
    return keras.Model(inputs, outputs, name=spec.name)


def _crop_to(skip: Any, other: Any, *, name: str) -> Any:
    trims = [(big - small) // 2 for big, small in zip(skip.shape[1:3], other.shape[1:3], strict=True)]
    if not any(trims):
        return skip
    return keras.layers.Cropping2D(tuple((trim, trim) for trim in trims), name=name)(skip)
