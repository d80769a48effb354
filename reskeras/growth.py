"""From a trained network to a deeper or wider one that computes the same function (Net2Net, arXiv 1511.05641).

New blocks start as the identity, new channels start unheard: every layer that stood before has zero weights for them. What
no weights can make the identity, in training as in inference, is refused.

Not called `grow`: importing a module of that name would put it in the place of the function `reskeras.grow`.
"""

import re
from typing import Any

import keras
import numpy as np

from reskeras.builder import build
from reskeras.errors import RequestError
from reskeras.families import as_spec
from reskeras.spec import (
    PRE_ACTIVATION,
    AnySpec,
    BottleneckBlock,
    DropoutShortcut,
    GatedShortcut,
    NoNorm,
    ResNet,
    ScaledShortcut,
    UNet,
)
from reskeras.unet import encoder_of

Array = np.ndarray[Any, Any]
Channels = Array
"""Of each channel of a tensor: the channel of the trained network that it carries, or -1 where it is new."""

_BLOCK = re.compile(r"(?P<stage>.+)_block(?P<number>\d+)_(?P<part>.+)")

# What may differ between a layer and the trained one that it grows out of.
_FREE = re.compile(
    r"name|trainable|dtype|filters|units|momentum|rate|seed|noise_shape|scale|batch_shape|target_shape|.*_(initializer|regularizer|constraint)"
)


def grow(model: keras.Model, spec: AnySpec | str) -> keras.Model:
    """Builds the network of a spec so that it computes what a trained, shallower or narrower one computes.

    Blocks are added at the end of a stage (before its last block where that one has the stride). The outputs are equal to float
    rounding, in inference mode and (but for dropout and drop path, which are random there) in training mode, and the new
    weights receive gradients. Widths can grow where the channels stay separate: not under layer or group norm, in grouped
    convolutions, or past a shortcut that pads channels.

    Args:
        model: a network that `reskeras.build` made of a spec like this one, but with fewer blocks or smaller widths.
        spec: the deeper network (or a preset's name).

    Returns:
        A new model, not compiled; the trained one is left as it is.

    Raises:
        RequestError: this cannot be done; one line says where and why.
        TypeError: not a model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"grow takes a built model, not a {type(model).__name__}; reskeras.build makes one")
    spec = as_spec(spec)
    target = build(spec)
    _Growth(model, target, spec).run()
    return target


class _Growth:
    """Goes through the new network from its input on, and knows of every tensor which of its channels are old."""

    def __init__(self, source: keras.Model, target: keras.Model, spec: AnySpec) -> None:
        self.source, self.target, self.spec = source, target, spec
        self.trained = {layer.name: layer for layer in source.layers}
        self.producer = {id(tensor): layer for layer in target.layers for tensor in _list(layer.output)}
        self.channels: dict[int, Channels] = {}
        self.moved = self._moved_blocks()
        blocks = {block for name in self.trained if (block := _block_of(name))}
        self.new_blocks: dict[str, dict[str, Any]] = {}
        for layer in target.layers:
            block, twin = _block_of(layer.name), self._twin(layer.name)
            if block and (twin is None or _block_of(twin) not in blocks):
                self.new_blocks.setdefault(block, {})[layer.name.removeprefix(f"{block}_")] = layer
        kept = {self._twin(layer.name) for layer in target.layers}
        if lost := [name for name in self.trained if name not in kept]:
            raise RequestError(
                f"the trained network has a layer {lost[0]}, which the new one lacks: "
                "the two may differ in blocks and widths alone, and only upwards"
            )

    def run(self) -> None:
        """Sets all weights of the target."""
        for block in self.new_blocks:
            if reason := self._why_not(block):
                raise RequestError(f"{block} cannot start as the identity: {reason}")
        for layer in self.target.layers:
            twin = self._twin(layer.name)
            try:
                self.channels[id(layer.output)] = self._old(layer, self.trained[twin]) if twin in self.trained else self._new(layer)
            except RequestError as error:
                raise RequestError(f"{layer.name}: {error}") from error
        for output, trained in zip(_list(self.target.output), _list(self.source.output), strict=True):
            if output.shape != trained.shape:
                raise RequestError(f"the output is {list(output.shape[1:])}, the trained network's is {list(trained.shape[1:])}")
        for block, layers in self.new_blocks.items():
            self._make_identity(layers, self._options(block))

    def _old(self, layer: Any, twin: Any) -> Channels:
        """A layer that the trained network has too: its weights, and the channels of its output."""
        _check_settings(layer, twin)
        layer.trainable = twin.trainable
        if isinstance(layer, keras.layers.InputLayer):
            if layer.output.shape != twin.output.shape:
                raise RequestError(
                    f"images are {list(layer.output.shape[1:])} here, {list(twin.output.shape[1:])} in the trained network"
                )
            return np.arange(layer.output.shape[_channel_axis(self.spec)])
        inputs = [self.channels[id(tensor)] for tensor in _list(layer.input)]
        match layer:
            case keras.layers.Concatenate():
                offsets = np.cumsum([0, *(tensor.shape[layer.axis] for tensor in twin.input)])
                return np.concatenate([np.where(old < 0, -1, old + offset) for old, offset in zip(inputs, offsets, strict=False)])
            case keras.layers.Add() | keras.layers.Multiply():
                widest = max(inputs, key=len)
                if any(len(old) > 1 and not np.array_equal(old, widest) for old in inputs):
                    raise RequestError(
                        "what meets here would not be the same old channels on both sides; keep the widths as they are"
                    )
                return widest
            case keras.layers.BatchNormalization():
                old = inputs[0] >= 0
                for ours, theirs in zip(layer.weights, twin.weights, strict=True):
                    value = _numpy(ours)
                    value[old] = _numpy(theirs)[inputs[0][old]]
                    ours.assign(value)
            case keras.layers.LayerNormalization() | keras.layers.GroupNormalization() if (inputs[0] < 0).any():
                raise RequestError(f"a {type(layer).__name__} mixes channels, so that new ones change what it makes of the old")
            case keras.layers.Rescaling() if layer.scale != twin.scale:
                # Another factor of the branch, 1/sqrt(depth): what stands before it makes up for the difference.
                self._multiply_before(layer, twin.scale / layer.scale)
            case keras.layers.ZeroPadding2D() if layer.name.endswith("_shortcut_pad"):
                return _padded(layer, twin, inputs[0])
            case keras.layers.Dense(units=1) if layer.name.endswith("_scale"):
                layer.set_weights(twin.get_weights())  # of all channels alike
            case keras.layers.Layer(kernel=_):
                return _widen(layer, twin, inputs[0])
            case _:
                layer.set_weights(twin.get_weights())
        return inputs[0]

    def _new(self, layer: Any) -> Channels:
        """A layer of a new block; the block is made the identity later, so that it carries what its input does."""
        block = _block_of(layer.name)
        if block is None or block not in self.new_blocks:
            raise RequestError(
                "the trained network has no such layer, and it is in no new block, so no weights make it the identity"
                + (" (a stage becomes wider than what comes before it; widen that too)" if "shortcut" in layer.name else "")
            )
        inputs = [self.channels[id(tensor)] for tensor in _list(layer.input)]
        match layer:
            case keras.layers.Concatenate():
                return np.concatenate(inputs)
            case keras.layers.Layer(kernel=kernel):
                plain = not {"add", "concat"} & self.new_blocks[block].keys()
                carries = plain or layer.name.endswith(("_shortcut_conv", "_scale"))
                return inputs[0] if carries else np.full(kernel.shape[-1], -1)
            case _:
                return inputs[0]

    def _why_not(self, block: str) -> str | None:
        """Why no weights make a new block the identity in both modes; None where some do."""
        layers, options = self.new_blocks[block], self._options(block)
        normed = not isinstance(options.norm, NoNorm)
        repeats = "its activation is applied twice to what passes, which changes nothing for relu alone"
        if "out_norm" in layers:
            return "norm_order 'norm_after_add' normalises the sum, by statistics that no weights undo"
        if any(part.startswith("out_") for part in layers) and options.activation != "relu":
            return repeats
        if "concat" in layers:
            return None
        if "transition_conv1" in layers:
            return "dense layers outside the family 'densenet' end in a convolution to a width, which everything passes"
        if "add" not in layers:
            if isinstance(options, UNet) and options.padding == "valid":
                return "padding 'valid' trims the maps"
            if isinstance(options.block, BottleneckBlock):
                return "a bottleneck without a shortcut loses channels"
            if normed:
                return "without a shortcut everything passes a norm, by statistics that no weights undo"
            if options.norm_order in PRE_ACTIVATION:
                return "without a shortcut everything passes an activation, which cuts off what is negative"
            if options.dropout:
                return "without a shortcut everything passes dropout in training"
            if options.squeeze_excite:
                return "without a shortcut everything passes squeeze-and-excitation, whose gate is less than one"
            return repeats if options.activation != "relu" else None
        if options.norm_order == "relu_before_add" and options.activation == "relu" and options.residual_scale != "learned":
            # At zero a ReLU passes no gradient, and a little above it most channels close for good in the first steps.
            return "its branch ends in a ReLU, which gives nothing only where it learns nothing; residual_scale 'learned' can"
        match options.shortcut:
            case ScaledShortcut():
                return "shortcut 'scaled' multiplies what passes"
            case GatedShortcut():
                return "shortcut 'gated' multiplies what passes by a gate, which is less than one"
            case DropoutShortcut():
                return "shortcut 'dropout' drops what passes in training"
            case "project_always" if "shortcut_norm" in layers:
                return "shortcut 'project_always' normalises what passes, by statistics that no weights undo"
            case _:
                return None

    def _make_identity(self, layers: dict[str, Any], options: Any) -> None:
        if "concat" in layers:
            return  # what is new stands in channels of its own
        convs = [layers[part] for part in sorted(layers) if re.fullmatch(r"conv\d", part)]
        if "add" not in layers:
            for conv in convs:
                _set_identity(conv)
            return
        if "shortcut_conv" in layers:
            _set_identity(layers["shortcut_conv"])
        if isinstance(layers.get("scale"), keras.layers.Dense):
            return  # learned from zero
        last = layers.get(f"norm{len(convs)}") if options.norm_order != "full_preact" else None
        for weight in (last.gamma, last.beta) if last else convs[-1].weights:
            weight.assign(np.zeros(weight.shape))

    def _multiply_before(self, layer: Any, ratio: float) -> None:
        before = self.producer[id(layer.input)]
        while isinstance(before, keras.layers.ReLU | keras.layers.Dropout):
            before = self.producer[id(before.input)]
        named = {weight.name: weight for weight in before.weights if weight.name in ("gamma", "beta", "kernel", "bias")}
        if not named or layer.name.endswith("_shortcut_scale"):
            raise RequestError(f"its factor would change by {1 / ratio:g}, and what stands before it cannot make up for that")
        for weight in named.values():
            weight.assign(_numpy(weight) * ratio)

    def _options(self, name: str) -> Any:
        """The spec that a block belongs to: that of the encoder in a U-Net with one of another kind."""
        if isinstance(self.spec, UNet) and self.spec.encoder is not None and name.startswith(f"{self.spec.layer_prefix}encoder_"):
            return encoder_of(self.spec)
        return self.spec

    def _moved_blocks(self) -> dict[str, tuple[int, int]]:
        """Of stages whose last block has the stride: the number of that block in the trained network and in the new one."""
        moved = {}
        parts: list[tuple[str, Any]] = [(self.spec.layer_prefix, self.spec)]
        if isinstance(self.spec, UNet) and (encoder := encoder_of(self.spec)) is not None:
            parts = [(f"{self.spec.layer_prefix}encoder_{encoder.layer_prefix}", encoder)]
        for prefix, spec in parts:
            if not isinstance(spec, ResNet) or spec.stride_at != "last_block":
                continue
            for place, stage in enumerate(spec.stages, start=1):
                name = f"{prefix}stage{place}"
                numbers = [
                    int(match["number"]) for layer in self.trained if (match := _BLOCK.fullmatch(layer)) and match["stage"] == name
                ]
                if stage.stride > 1 and 1 < max(numbers, default=0) < stage.blocks:
                    moved[name] = (max(numbers), stage.blocks)
        return moved

    def _twin(self, name: str) -> str | None:
        """The name that a layer of the new network has in the trained one."""
        match = _BLOCK.fullmatch(name)
        if match is None or match["stage"] not in self.moved:
            return name
        number, (then, now) = int(match["number"]), self.moved[match["stage"]]
        if number == now:
            return f"{match['stage']}_block{then}_{match['part']}"
        return name if number < then else None


def _block_of(name: str) -> str | None:
    match = _BLOCK.fullmatch(name)
    return f"{match['stage']}_block{match['number']}" if match else None


def _check_settings(layer: Any, twin: Any) -> None:
    if type(layer) is not type(twin):
        raise RequestError(f"a {type(layer).__name__} here, a {type(twin).__name__} in the trained network")
    ours, theirs = layer.get_config(), twin.get_config()
    for key in ours:
        if key == "padding" and layer.name.endswith("_shortcut_pad"):
            continue
        if not _FREE.fullmatch(key) and ours[key] != theirs.get(key):
            raise RequestError(f"{key} {ours[key]} here, {theirs.get(key)} in the trained network")


def _widen(layer: Any, twin: Any, old: Channels) -> Channels:
    """The trained kernel within a greater one: its outputs come first and do not hear the new inputs."""
    ours, theirs = _numpy(layer.kernel), _numpy(twin.kernel)
    transposed = "Transpose" in type(layer).__name__
    if transposed:
        ours, theirs = np.swapaxes(ours, -1, -2), np.swapaxes(theirs, -1, -2)
    grouped = getattr(layer, "groups", 1) > 1
    if grouped and ours.shape != theirs.shape:
        raise RequestError("the groups of a grouped convolution cannot grow")
    inputs, outputs = theirs.shape[-2:]
    here = np.flatnonzero(old >= 0)
    if outputs > ours.shape[-1] or sorted(old[here]) != list(range(len(old) if grouped else inputs)):
        raise RequestError(
            f"its kernel is {list(layer.kernel.shape)}, which does not hold the trained network's {list(twin.kernel.shape)}"
        )
    if grouped:
        ours[...] = theirs
    else:
        ours[..., :outputs] = 0
        ours[..., here, :outputs] = theirs[..., old[here], :]
    layer.kernel.assign(np.swapaxes(ours, -1, -2) if transposed else ours)
    if getattr(layer, "bias", None) is not None:
        bias = _numpy(layer.bias)
        bias[:outputs] = _numpy(twin.bias)
        layer.bias.assign(bias)
    return np.concatenate([np.arange(outputs), np.full(ours.shape[-1] - outputs, -1)])


def _padded(layer: Any, twin: Any, old: Channels) -> Channels:
    """Channels behind a shortcut that appends zeros: the same ones only where it begins to append at the same place."""
    more, trained_more = (max(edges[1] for edges in each.padding) for each in (layer, twin))
    trained = max(old, default=-1) + 1
    added = np.arange(len(old), len(old) + more)
    return np.concatenate([old, np.where((len(old) == trained) & (added < trained + trained_more), added, -1)])


def _set_identity(layer: Any) -> None:
    kernel = np.zeros(layer.kernel.shape)
    kernel[(*(side // 2 for side in kernel.shape[:-2]), slice(None), slice(None))] = np.eye(*kernel.shape[-2:])
    layer.kernel.assign(kernel)
    if layer.bias is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))


def _channel_axis(spec: AnySpec) -> int:
    return 1 if spec.data_format == "channels_first" else -1


def _numpy(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


def _list(tensors: Any) -> list[Any]:
    if isinstance(tensors, dict):
        return list(tensors.values())
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def why_not_grow(shallow: AnySpec, deep: AnySpec) -> str | None:
    """Why `grow` would refuse (to come in the next commit)."""
    return None
