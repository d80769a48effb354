"""Whether and how a network can grow from a trained one, decided without Keras.

The decision rests on the names, settings and shapes of layers. `reskeras.models.growth` plans with
the layers of the trained model, `why_not_grow` with the layers that its spec describes.
"""

import re
from typing import Any

import numpy as np

from reskeras.errors import RequestError
from reskeras.nets.graph import Graph, Node, record
from reskeras.nets.orders import ORDERS
from reskeras.nets.unet import encoder_of
from reskeras.spec import (
    AnySpec,
    BottleneckBlock,
    DropoutShortcut,
    GatedShortcut,
    NoNorm,
    ResNet,
    ScaledShortcut,
    UNet,
)

Channels = np.ndarray[Any, Any]
"""For each channel of a tensor: the trained network's channel that it carries, or -1 if it is
new."""

_BLOCK = re.compile(r"(?P<stage>.+)_block(?P<number>\d+)_(?P<part>.+)")

# Settings that may differ between a layer and the trained layer that it grows from.
_FREE = re.compile(
    r"name|trainable|dtype|filters|units|momentum|rate|seed|noise_shape|scale|batch_shape"
    r"|target_shape|.*_(initializer|regularizer|constraint)"
)


def why_not_grow(shallow: AnySpec, deep: AnySpec) -> str | None:
    """Says why `reskeras.grow` would refuse to grow a model of one spec into a model of another.

    Takes milliseconds: nothing is built, and Keras is not loaded.

    Returns:
        The reason in one line; None if `grow` would succeed.
    """
    try:
        Plan(record(shallow), record(deep), deep)
    except RequestError as error:
        return str(error)
    return None


class Plan:
    """Follows the new network from its input and tracks which channels of each tensor are old.

    Attributes:
        channels: the channels of the output of each layer of the new network, by layer name.
        new_blocks: names of the layers of each new block, by the part of the name after the
            block's.

    Raises:
        RequestError: no weights make the new network compute what the trained one does. One line
            says where and why.
    """

    def __init__(
        self,
        source: Graph,
        target: Graph,
        spec: AnySpec,
    ) -> None:
        self.spec = spec
        self._trained = {node.name: node for node in source.nodes}
        self.channels: dict[str, Channels] = {}
        self._moved = self._moved_blocks()
        blocks = {block for name in self._trained if (block := block_of(name))}
        self.new_blocks: dict[str, dict[str, str]] = {}
        for node in target.nodes:
            block, twin = block_of(node.name), self.twin(node.name)
            if block and (twin is None or block_of(twin) not in blocks):
                self.new_blocks.setdefault(block, {})[node.name.removeprefix(f"{block}_")] = (
                    node.name
                )
        kept = {self.twin(node.name) for node in target.nodes}
        if lost := [name for name in self._trained if name not in kept]:
            raise RequestError(
                f"the trained network has a layer {lost[0]}, which the new one lacks: "
                "the two may differ only in blocks and widths, and only upward"
            )
        for block in self.new_blocks:
            if reason := self._why_not(block):
                raise RequestError(f"{block} cannot start as the identity: {reason}")
        for node in target.nodes:
            twin = self.twin(node.name)
            try:
                self.channels[node.name] = (
                    self._old(node, self._trained[twin])
                    if twin is not None and twin in self._trained
                    else self._new(node)
                )
            except RequestError as error:
                raise RequestError(f"{node.name}: {error}") from error
        if len(target.outputs) != len(source.outputs):
            raise RequestError(
                f"there are {len(target.outputs)} outputs, the trained network has "
                f"{len(source.outputs)}"
            )
        for end, trained in zip(target.outputs, source.outputs, strict=True):
            if end.shape != trained.shape:
                raise RequestError(
                    f"the output is {list(end.shape)}, the trained network's is "
                    f"{list(trained.shape)}"
                )

    def twin(self, name: str) -> str | None:
        """The name of a new network's layer in the trained one; None if that has no such layer."""
        match = _BLOCK.fullmatch(name)
        if match is None or match["stage"] not in self._moved:
            return name
        number, (then, now) = int(match["number"]), self._moved[match["stage"]]
        if number == now:
            return f"{match['stage']}_block{then}_{match['part']}"
        return name if number < then else None

    def options(self, name: str) -> Any:
        """The spec that a block belongs to: the encoder's, for a U-Net with a separate encoder."""
        if (
            isinstance(self.spec, UNet)
            and self.spec.encoder is not None
            and name.startswith(f"{self.spec.layer_prefix}encoder_")
        ):
            return encoder_of(self.spec)
        return self.spec

    def _old(self, node: Node, twin: Node) -> Channels:
        """A layer that the trained network has too."""
        _check_settings(node, twin)
        inputs = [self.channels[before.name] for before in node.inputs]
        match node.kind:
            case "InputLayer":
                if node.shape != twin.shape:
                    raise RequestError(
                        f"images are {list(node.shape)} here, {list(twin.shape)} in the trained "
                        "network"
                    )
                return np.arange(node.channels)
            case "Concatenate":
                offsets = np.cumsum([0, *(before.channels for before in twin.inputs)])
                return np.concatenate(
                    [
                        np.where(old < 0, -1, old + offset)
                        for old, offset in zip(inputs, offsets, strict=False)
                    ]
                )
            case "Add" | "Multiply":
                widest = max(inputs, key=len)
                if any(len(old) > 1 and not np.array_equal(old, widest) for old in inputs):
                    raise RequestError(
                        "the old channels on the two sides of this layer would not match; keep "
                        "the widths as they are"
                    )
                return widest
            case "LayerNormalization" | "GroupNormalization" if (inputs[0] < 0).any():
                raise RequestError(
                    f"a {node.kind} mixes channels, so new channels would change the old ones"
                )
            case "Rescaling" if node.settings["scale"] != twin.settings["scale"]:
                # Another factor of the branch, 1/sqrt(depth): the layer before it compensates.
                if not has_factor(scaled_by(node)) or node.name.endswith("_shortcut_scale"):
                    factor = node.settings["scale"] / twin.settings["scale"]
                    raise RequestError(
                        f"its factor would change by {factor:g}, and no layer before it can "
                        "compensate"
                    )
            case "ZeroPadding2D" if node.name.endswith("_shortcut_pad"):
                return _padded(node, twin, inputs[0])
            case _ if node.kernel is not None and not node.is_learned_scale:
                return _widened(node, twin, inputs[0])
        return inputs[0]

    def _new(self, node: Node) -> Channels:
        """A layer of a new block, which carries its input: the block becomes the identity later."""
        block = block_of(node.name)
        if block is None or block not in self.new_blocks:
            raise RequestError(
                "the trained network has no such layer, and it is in no new block, so no "
                "weights make it the identity"
                + (
                    " (a stage becomes wider than its predecessor; widen that too)"
                    if "shortcut" in node.name
                    else ""
                )
            )
        inputs = [self.channels[before.name] for before in node.inputs]
        if node.kind == "Concatenate":
            return np.concatenate(inputs)
        if node.kernel is not None:
            plain = not {"add", "concat"} & self.new_blocks[block].keys()
            carries = plain or node.name.endswith(("_shortcut_conv", "_scale"))
            return inputs[0] if carries else np.full(node.kernel_channels[1], -1)
        return inputs[0]

    def _why_not(self, block: str) -> str | None:
        """Why no weights make a new block the identity in both modes; None if some do."""
        layers, options = self.new_blocks[block], self.options(block)
        normed = not isinstance(options.norm, NoNorm)
        repeats = "its activation is applied twice to what passes, which only relu leaves unchanged"
        if "out_norm" in layers:
            return (
                "norm_order 'norm_after_add' normalizes the sum by statistics that no weights undo"
            )
        if any(part.startswith("out_") for part in layers) and options.activation != "relu":
            return repeats
        if "concat" in layers:
            return None
        if "transition_conv1" in layers:
            return (
                "dense layers outside the family 'densenet' end in a convolution to a width, which "
                "everything passes"
            )
        if "add" not in layers:
            if isinstance(options, UNet) and options.padding == "valid":
                return "padding 'valid' trims the maps"
            if isinstance(options.block, BottleneckBlock):
                return "a bottleneck without a shortcut loses channels"
            if normed:
                return (
                    "without a shortcut everything passes a norm, whose statistics no weights undo"
                )
            if ORDERS[options.norm_order].activation_first:
                return (
                    "without a shortcut everything passes an activation, which cuts off negative "
                    "values"
                )
            if options.dropout:
                return "without a shortcut everything passes dropout in training"
            if options.squeeze_excite:
                return (
                    "without a shortcut everything passes squeeze-and-excitation, whose gate is "
                    "less than one"
                )
            return repeats if options.activation != "relu" else None
        if (
            ORDERS[options.norm_order].last_activation
            and options.activation == "relu"
            and options.residual_scale != "learned"
        ):
            # At zero a ReLU passes no gradient, and slightly above it most channels die in the
            # first steps.
            return (
                "its branch ends in a ReLU, whose output is zero only if it cannot learn; "
                "residual_scale 'learned' can"
            )
        if options.sum_scale != 1:
            return "sum_scale multiplies what passes"
        match options.shortcut:
            case ScaledShortcut():
                return "shortcut 'scaled' multiplies what passes"
            case GatedShortcut():
                return "shortcut 'gated' multiplies what passes by a gate, which is less than one"
            case DropoutShortcut():
                return "shortcut 'dropout' drops what passes in training"
            case "project_always" if "shortcut_norm" in layers:
                return (
                    "shortcut 'project_always' normalizes what passes, by statistics that no "
                    "weights undo"
                )
            case _:
                return None

    def _moved_blocks(self) -> dict[str, tuple[int, int]]:
        """Numbers of the block with the stride in the trained and new network, by stage.

        Only for stages whose last block has the stride.
        """
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
                    int(match["number"])
                    for layer in self._trained
                    if (match := _BLOCK.fullmatch(layer)) and match["stage"] == name
                ]
                if stage.stride > 1 and 1 < max(numbers, default=0) < stage.blocks:
                    moved[name] = (max(numbers), stage.blocks)
        return moved


def block_of(name: str) -> str | None:
    """The block of a layer."""
    match = _BLOCK.fullmatch(name)
    return f"{match['stage']}_block{match['number']}" if match else None


def scaled_by(node: Node) -> Node:
    """The layer before a scale whose weights can absorb its factor, if there is one."""
    before = node.inputs[0]
    while before.kind in ("ReLU", "Dropout"):
        before = before.inputs[0]
    return before


def has_factor(node: Node) -> bool:
    """Whether multiplying a layer's weights multiplies its output."""
    return node.kernel is not None or node.kind.endswith("Normalization")


def _check_settings(node: Node, twin: Node) -> None:
    if node.kind != twin.kind:
        raise RequestError(f"a {node.kind} here, a {twin.kind} in the trained network")
    for key, ours in node.settings.items():
        if key == "padding" and node.name.endswith("_shortcut_pad"):
            continue
        if not _FREE.fullmatch(key) and ours != twin.settings.get(key):
            raise RequestError(
                f"{key} {ours} here, {twin.settings.get(key)} in the trained network"
            )


def _widened(node: Node, twin: Node, old: Channels) -> Channels:
    """Channels after a trained kernel inside a larger one: its outputs come first."""
    grouped = node.settings.get("groups", 1) > 1
    if grouped and node.kernel != twin.kernel:
        raise RequestError("the groups of a grouped convolution cannot grow")
    inputs, outputs = twin.kernel_channels
    width = node.kernel_channels[1]
    if outputs > width or sorted(old[old >= 0]) != list(range(len(old) if grouped else inputs)):
        raise RequestError(
            f"its kernel is {list(node.kernel or ())}, which does not contain the trained "
            f"network's {list(twin.kernel or ())}"
        )
    return np.concatenate([np.arange(outputs), np.full(width - outputs, -1)])


def _padded(node: Node, twin: Node, old: Channels) -> Channels:
    """Channels after zero padding; old ones match only if the padding starts at the same place."""
    more, trained_more = (
        max(edges[1] for edges in each.settings["padding"]) for each in (node, twin)
    )
    trained = max(old, default=-1) + 1
    added = np.arange(len(old), len(old) + more)
    return np.concatenate(
        [old, np.where((len(old) == trained) & (added < trained + trained_more), added, -1)]
    )
