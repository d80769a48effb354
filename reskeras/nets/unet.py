"""U-Net (arXiv 1505.04597) with any kind of block, and U-Net++ (arXiv 1807.10165)."""

from typing import Any

from reskeras.errors import RequestError
from reskeras.nets.blocks import stage
from reskeras.nets.densenet import densenet_body
from reskeras.nets.heads import head
from reskeras.nets.primitives import Layers, Primitives
from reskeras.nets.resnet import resnet_body
from reskeras.spec import (
    DeepStem,
    DenseNet,
    ImagenetStem,
    PresetEncoder,
    ResNet,
    UNet,
    check_sizes,
    fitting_size,
)
from reskeras.spec.presets import preset


def unet(spec: UNet, layers: Layers) -> tuple[Any, Any]:
    """Takes images [N,H,W,C], returns maps [N,H',W',K]; H' is H unless the padding is `valid`.

    Layers: `encoder{i}_block{j}_*`, `encoder{i}_pool`, `bridge_block{j}_*` (or those of a separate
    encoder, prefixed with `encoder_`), `decoder{i}_up`, `decoder{i}_concat`,
    `decoder{i}_block{j}_*`, in a nested decoder also `nest{i}_{j}_*`, `final_*`, `head`. Endpoints:
    `encoder{i}`, `bridge`, `decoder{i}`.

    Raises:
        RequestError: the encoder is a preset that does not exist, has another number of dimensions
            than the decoder, halves its images more or less often than there are levels, or cannot
            halve them.
    """
    encoder = encoder_of(spec)
    trims = spec.trims()
    if encoder is not None:
        _check_encoder(encoder, spec)
        if spec.sizes == "refuse":
            check_sizes(spec.input_shape, trims)
    primitives = Primitives(layers, spec, padding=spec.padding, blocks=_count_blocks(spec))
    inputs = layers.input(spec.input_shape, name=f"{primitives.prefix}image")
    padded = spec.sizes == "pad"
    rims = [
        _rim(size, trims, axis) if padded else (0, 0)
        for axis, size in enumerate(layers.size(inputs))
    ]
    x = _padded(inputs, rims, primitives) if any(map(any, rims)) else inputs
    if encoder is None:
        skips, bridge = _own_encoder(x, spec, primitives)
    else:
        skips, bridge = _other_encoder(x, spec, encoder, primitives)
    decode = _nested_decoder if spec.decoder == "nested" else _plain_decoder
    ends = decode(skips, bridge, spec, primitives)
    outputs = {}
    for number, end in enumerate(ends if spec.deep_supervision else ends[:1], start=1):
        suffix = "" if number == 1 else str(number)
        x = primitives.after_blocks(end, name=f"final{suffix}")
        if any(map(any, rims)) and spec.padding == "same":
            x = layers.crop(x, rims, name=f"{primitives.prefix}final{suffix}_crop")
        outputs[f"head{suffix}"] = head(
            x, spec.head, inputs=inputs, primitives=primitives, name=f"head{suffix}"
        )
    return inputs, outputs if spec.deep_supervision else outputs["head"]


def encoder_of(spec: UNet) -> ResNet | DenseNet | None:
    """The separate encoder as a spec; None if the U-Net has none.

    Raises:
        RequestError: it is a preset that does not exist, or of another family.
    """
    if not isinstance(spec.encoder, PresetEncoder):
        return spec.encoder
    encoder = preset(spec.encoder.preset)
    if not isinstance(encoder, ResNet | DenseNet):
        raise RequestError(
            f"encoder.preset: {spec.encoder.preset} is of the family {encoder.family!r}; an "
            "encoder is a resnet or densenet"
        )
    return encoder


def _check_encoder(encoder: ResNet | DenseNet, spec: UNet) -> None:
    if len(encoder.input_shape) != len(spec.input_shape):
        dimensions = (
            f"{len(encoder.input_shape) - 1} dimensions, the U-Net in {len(spec.input_shape) - 1}"
        )
        raise RequestError(f"encoder: {encoder.name!r} works in {dimensions}")
    if encoder.data_format != spec.data_format:
        raise RequestError(
            f"encoder.data_format: {encoder.data_format!r}, but the U-Net's is {spec.data_format!r}"
        )
    halvings = 2 if isinstance(encoder.stem, ImagenetStem | DeepStem) else 0
    if isinstance(encoder, ResNet):
        if strange := [stage.stride for stage in encoder.stages if stage.stride > 2]:
            raise RequestError(
                f"encoder: a stage has stride {strange[0]}; the decoder doubles sizes"
            )
        halvings += sum(stage.stride == 2 for stage in encoder.stages)
    else:
        halvings += len(encoder.stages) - 1
    levels = len(spec.stages)
    if halvings != levels:
        raise RequestError(
            f"stages: the encoder {encoder.name!r} halves its images {halvings} times, "
            f"so there are {halvings} levels (got {levels})"
        )


def _count_blocks(spec: UNet) -> int:
    up = sum(level.blocks for level in spec.stages[:-1])
    if spec.encoder is not None:
        return up + spec.stages[-1].blocks
    if spec.decoder == "nested":
        up = sum(
            level.blocks * (len(spec.stages) - 1 - number)
            for number, level in enumerate(spec.stages)
        )
    return sum(level.blocks for level in spec.stages) + up


def _rim(size: int, trims: tuple[int, ...], axis: int) -> tuple[int, int]:
    fit = fitting_size(size, trims)
    if fit is None:
        raise RequestError(
            f"input_shape.{axis}: no size from {size} up can be halved {len(trims) - 1} times"
        )
    return (fit - size) // 2, fit - size - (fit - size) // 2


def _padded(x: Any, rims: list[tuple[int, int]], primitives: Primitives) -> Any:
    layers, name = primitives.layers, f"{primitives.prefix}image"
    if len(rims) < 3:
        return layers.pad(x, rims, name=f"{name}_pad")
    # TensorFlow 2.21 merges a padding into the 3-D convolution that follows and drops that
    # convolution's own padding.
    x = layers.pad(x, [(before, after + 1) for before, after in rims], name=f"{name}_pad")
    return layers.crop(x, [(0, 1)] * len(rims), name=f"{name}_crop")


def _own_encoder(x: Any, spec: UNet, primitives: Primitives) -> tuple[list[Any], Any]:
    if primitives.order.activation_first:
        # A block that starts with ReLU must not see raw pixels: it would cut off half of a centered
        # image.
        x = primitives.conv(
            x, spec.stages[0].width, 3, normed=False, padding="same", name="stem_conv"
        )
    *levels, _ = spec.stages
    skips = []
    for number, level in enumerate(spec.stages, start=1):
        name = f"encoder{number}" if number <= len(levels) else "bridge"
        if number > 1 and spec.down == "maxpool":
            x = primitives.layers.pool(
                x, "max", 2, 2, name=f"{primitives.prefix}encoder{number - 1}_pool"
            )
        stride = 2 if number > 1 and spec.down == "stride" else 1
        x = stage(
            x,
            spec.block,
            blocks=level.blocks,
            width=level.width,
            stride=stride,
            primitives=primitives,
            name=name,
        )
        x = primitives.endpoint(x, name)
        skips.append(x)
    return skips[:-1], x


def _other_encoder(
    x: Any, spec: UNet, encoder: ResNet | DenseNet, primitives: Primitives
) -> tuple[list[Any], Any]:
    blocks = sum(part.blocks for part in encoder.stages)
    inner = Primitives(
        primitives.layers, encoder, blocks=blocks, prefix=f"{primitives.prefix}encoder_"
    )
    sides = primitives.layers.size(x)
    if isinstance(encoder, ResNet):
        bridge = resnet_body(x, encoder, primitives=inner)
    else:
        bridge = densenet_body(x, encoder, primitives=inner)
    skips = []
    for number in range(len(spec.stages)):
        # At resolutions for which the encoder has no maps (the full one, after the 7x7 stem), the
        # decoder has no skip.
        skip = inner.last_at.get(tuple(side // 2**number for side in sides))
        skips.append(skip if skip is None else primitives.endpoint(skip, f"encoder{number + 1}"))
    return skips, primitives.endpoint(bridge, "bridge")


def _plain_decoder(skips: list[Any], x: Any, spec: UNet, primitives: Primitives) -> list[Any]:
    """The maps of every level, from the full resolution down."""
    ends = []
    for number in range(len(skips), 0, -1):
        x = _meet(x, [skips[number - 1]], spec, number, primitives, f"decoder{number}")
        ends.append(x)
    return ends[::-1]


def _nested_decoder(skips: list[Any], bridge: Any, spec: UNet, primitives: Primitives) -> list[Any]:
    """The full-resolution maps of every depth, the deepest first (arXiv 1807.10165, Eq. 1)."""
    nodes = [[x] for x in (*skips, bridge)]  # nodes[i][j] is the paper's X^{i,j}
    for column in range(1, len(nodes)):
        for row in range(len(nodes) - column):
            name = f"decoder{row + 1}" if row + column == len(skips) else f"nest{row + 1}_{column}"
            nodes[row].append(
                _meet(nodes[row + 1][column - 1], nodes[row], spec, row + 1, primitives, name)
            )
    return nodes[0][:0:-1]


def _meet(
    x: Any, skips: list[Any], spec: UNet, number: int, primitives: Primitives, name: str
) -> Any:
    """Doubles maps from below, joins them with the skips, and applies the level's blocks."""
    layers, prefixed, level = primitives.layers, primitives.prefix + name, spec.stages[number - 1]
    if spec.up == "transpose":
        x = layers.conv_transpose(x, level.width, name=f"{prefixed}_up")
    else:
        x = layers.upsample(x, name=f"{prefixed}_up")
    present = [
        _crop_to(skip, x, primitives, f"{prefixed}_crop") for skip in skips if skip is not None
    ]
    match spec.skip:
        case "add":
            x = layers.add([*present, x], name=f"{prefixed}_add")
        case _ if present:
            if spec.skip == "attention":
                present = [
                    _attention(skip, x, primitives, f"{prefixed}_gate{column or ''}")
                    for column, skip in enumerate(present)
                ]
            x = layers.concat([*present, x], name=f"{prefixed}_concat")
    x = stage(
        x,
        spec.block,
        blocks=level.blocks,
        width=level.width,
        stride=1,
        primitives=primitives,
        name=name,
    )
    return primitives.endpoint(x, name)


def _attention(skip: Any, x: Any, primitives: Primitives, name: str) -> Any:
    """Gates the skip by a map in 0..1 computed from it and the decoder.

    Source: arXiv 1804.03999, Eq. 1; here x is doubled first.
    """
    layers = primitives.layers
    width = max(1, layers.channels(skip) // 2)
    seen = layers.conv(skip, width, 1, bias=False, name=f"{name}_skip")
    asked = layers.conv(x, width, 1, bias=True, name=f"{name}_query")
    both = layers.activation(
        layers.add([seen, asked], name=f"{name}_add"), "relu", name=f"{name}_relu"
    )
    gate = layers.conv(both, 1, 1, bias=True, activation="sigmoid", name=f"{name}_map")
    return layers.multiply(skip, gate, name=name)


def _crop_to(skip: Any, other: Any, primitives: Primitives, name: str) -> Any:
    sizes = zip(primitives.layers.size(skip), primitives.layers.size(other), strict=True)
    trims = [((big - small) // 2, (big - small) // 2) for big, small in sizes]
    return primitives.layers.crop(skip, trims, name=name) if any(map(any, trims)) else skip
