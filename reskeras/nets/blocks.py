"""Blocks, tensor to tensor: the branch, the shortcut, and how they meet."""

from typing import Any, NamedTuple

from reskeras.nets.primitives import Primitives
from reskeras.spec import (
    BasicBlock,
    Block,
    BottleneckBlock,
    DenseBlock,
    DropoutShortcut,
    GatedShortcut,
    PlainBlock,
    ScaledShortcut,
    StrideAt,
    sum_scale,
)


class Conv(NamedTuple):
    """One convolution of a branch."""

    width: int
    kernel: int
    stride: int = 1
    groups: int = 1


def stage(
    x: Any,
    block: Block,
    *,
    blocks: int,
    width: int,
    stride: int,
    primitives: Primitives,
    name: str,
    stride_at: StrideAt = "3x3",
) -> Any:
    """A stage of blocks, one with the stride: [N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),width].

    A stage of dense layers starts with average pooling and ends in a 1x1 convolution to `width`:
    DenseNet's transition, cut between its convolution and its pooling.
    """
    if isinstance(block, DenseBlock):
        if stride > 1:
            x = primitives.layers.pool(
                x, "average", stride, stride, ceil=True, name=f"{primitives.prefix}{name}_pool"
            )
        x = dense_stage(x, block, blocks=blocks, primitives=primitives, name=name)
        return transition_conv(x, width, primitives=primitives, name=f"{name}_transition")
    strided = blocks if stride_at == "last_block" else 1
    for number in range(1, blocks + 1):
        x = residual_block(
            x,
            block,
            width,
            stride=stride if number == strided else 1,
            stride_at=stride_at,
            # In pre-activation networks, the first block of a stage activates its input before the
            # fork, so a projection sees activated maps too (arXiv 1603.05027, Appendix;
            # `both_preact` in fb.resnet.torch).
            shares_activation=number == 1,
            primitives=primitives,
            name=f"{name}_block{number}",
        )
    return x


def residual_block(
    x: Any,
    block: PlainBlock | BasicBlock | BottleneckBlock,
    width: int,
    *,
    primitives: Primitives,
    name: str,
    stride: int = 1,
    stride_at: StrideAt = "3x3",
    shares_activation: bool = False,
) -> Any:
    """One block, [N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),width]."""
    convs = _branch_convs(block, width, stride, stride_at)
    layers, prefixed = primitives.layers, primitives.prefix + name
    shares_activation = shares_activation and primitives.order.activation_first
    if shares_activation:
        x = _pre_activation(x, primitives=primitives, name=name, number=1)
    if isinstance(block, PlainBlock) or primitives.shortcut == "none":
        branch = _branch(x, convs, primitives=primitives, name=name, activated=shares_activation)
        return _after_merge(branch, primitives=primitives, name=name)
    zero = primitives.options.zero_init_last
    branch = _branch(
        x, convs, primitives=primitives, name=name, activated=shares_activation, zero=zero
    )
    scale = primitives.residual_scale()
    if scale is None:
        branch = layers.learned_scale(branch, name=f"{prefixed}_scale")
    elif scale != 1:
        branch = layers.scale(branch, scale, name=f"{prefixed}_scale")
    if rate := primitives.next_drop_path_rate():
        branch = layers.dropout(branch, rate, whole=True, name=f"{prefixed}_drop_path")
    side = _project(x, width, stride, primitives=primitives, name=f"{name}_shortcut")
    match primitives.shortcut:
        case ScaledShortcut(factor=factor):
            side = layers.scale(side, factor, name=f"{prefixed}_shortcut_scale")
        case DropoutShortcut(rate=rate):
            side = layers.dropout(side, rate, name=f"{prefixed}_shortcut_dropout")
        case GatedShortcut(gate=kind, bias=bias):
            gate = layers.conv(
                x,
                width,
                1,
                stride=stride,
                bias=True,
                bias_start=bias,
                activation="sigmoid",
                name=f"{prefixed}_shortcut_gate",
            )
            if kind == "exclusive":
                branch = layers.multiply(branch, gate, name=f"{prefixed}_gated_branch")
            rest = layers.scale(gate, -1.0, offset=1.0, name=f"{prefixed}_shortcut_gate_rest")
            side = layers.multiply(side, rest, name=f"{prefixed}_gated_shortcut")
        case _:
            pass
    merged = layers.add([side, branch], name=f"{prefixed}_add")
    if (factor := sum_scale(primitives.options.sum_scale)) != 1:
        merged = layers.scale(merged, factor, name=f"{prefixed}_sum_scale")
    return _after_merge(merged, primitives=primitives, name=name)


def dense_stage(
    x: Any, block: DenseBlock, *, blocks: int, primitives: Primitives, name: str
) -> Any:
    """Dense layers, [N,H,W,C] -> [N,H,W,C + blocks * growth_rate] (arXiv 1608.06993, Fig. 1)."""
    k = block.growth_rate
    convs = [Conv(4 * k, 1), Conv(k, 3)] if block.bottleneck else [Conv(k, 3)]
    for number in range(1, blocks + 1):
        layer = f"{name}_block{number}"
        new = _branch(x, convs, primitives=primitives, name=layer, dropout_after_each=True)
        # The five norm orders are those of a residual block, with concatenation instead of
        # addition.
        x = primitives.layers.concat([x, new], name=f"{primitives.prefix}{layer}_concat")
        x = _after_merge(x, primitives=primitives, name=layer)
    return x


def transition_conv(x: Any, width: int, *, primitives: Primitives, name: str) -> Any:
    """The 1x1 convolution between dense stages, with the norm order's norm and activation."""
    order = primitives.order
    if order.activation_first:
        x = _pre_activation(x, primitives=primitives, name=name, number=1)
    x = primitives.conv(x, width, 1, normed=order.last_norm, name=f"{name}_conv1")
    if order.last_norm:
        x = primitives.norm(x, name=f"{name}_norm1")
    return primitives.activate(x, name=name, number=1) if order.last_activation else x


def _branch_convs(
    block: PlainBlock | BasicBlock | BottleneckBlock, width: int, stride: int, stride_at: StrideAt
) -> list[Conv]:
    match block:
        case PlainBlock() | BasicBlock():
            return [Conv(width, 3, stride), Conv(width, 3)]
        case BottleneckBlock():
            inner = block.inner_width(width)
            first, second = (stride, 1) if stride_at == "1x1" else (1, stride)
            return [
                Conv(inner, 1, first),
                Conv(inner, 3, second, block.cardinality),
                Conv(width, 1),
            ]


def _branch(
    x: Any,
    convs: list[Conv],
    *,
    primitives: Primitives,
    name: str,
    activated: bool = False,
    zero: bool = False,
    dropout_after_each: bool = False,
) -> Any:
    order = primitives.order
    for number, (width, kernel, stride, groups) in enumerate(convs, start=1):
        last = number == len(convs)
        if order.activation_first and not (number == 1 and activated):
            x = _pre_activation(x, primitives=primitives, name=name, number=number)
        if last and not dropout_after_each:
            x = primitives.dropout(x, name=f"{name}_dropout")
        norm_here = order.last_norm if last else order.norm
        x = primitives.conv(
            x,
            width,
            kernel,
            stride=stride,
            groups=groups,
            normed=norm_here or (order.norm_first and not last),
            zero=zero and last and not (norm_here and primitives.normed),
            name=f"{name}_conv{number}",
        )
        if dropout_after_each:
            x = primitives.dropout(x, name=f"{name}_dropout{number}")
        if norm_here:
            x = primitives.norm(x, name=f"{name}_norm{number}", zero=zero and last)
        if order.last_activation if last else not order.activation_first:
            x = primitives.activate(x, name=name, number=number)
    return _squeeze_excite(x, primitives=primitives, name=f"{name}_se")


def _squeeze_excite(x: Any, *, primitives: Primitives, name: str) -> Any:
    ratio = primitives.options.squeeze_excite
    if ratio is None:
        return x
    layers, name = primitives.layers, primitives.prefix + name
    width = layers.channels(x)
    gate = layers.global_pool(x, keep_sides=True, name=f"{name}_pool")
    gate = layers.conv(
        gate, max(1, width // ratio), 1, bias=True, activation="relu", name=f"{name}_squeeze"
    )
    gate = layers.conv(gate, width, 1, bias=True, activation="sigmoid", name=f"{name}_excite")
    return layers.multiply(x, gate, name=name)


def _pre_activation(x: Any, *, primitives: Primitives, name: str, number: int) -> Any:
    if primitives.order.norm_first:
        x = primitives.norm(x, name=f"{name}_norm{number}")
    x = primitives.activate(x, name=name, number=number)
    if number == 1:
        primitives.remember(x)
    return x


def _after_merge(x: Any, *, primitives: Primitives, name: str) -> Any:
    if primitives.order.sum_norm:
        x = primitives.norm(x, name=f"{name}_out_norm")
    if primitives.order.sum_activation:
        x = primitives.activate(x, name=f"{name}_out")
    return x


def _project(x: Any, width: int, stride: int, *, primitives: Primitives, name: str) -> Any:
    """The shortcut with the block's output shape, before `scaled`, `gated` or `dropout`."""
    layers, prefixed = primitives.layers, primitives.prefix + name
    wider = layers.channels(x) != width
    match primitives.shortcut:
        case "conv1x1":
            return layers.conv(x, width, 1, stride=stride, bias=True, name=f"{prefixed}_conv")
        case shortcut if shortcut != "project_always" and stride == 1 and not wider:
            return x
        case "pad":
            if stride > 1:
                x = layers.pool(x, "average", 1, stride, name=f"{prefixed}_subsample")
            return layers.pad_channels(x, width, name=f"{prefixed}_pad") if wider else x
        case "maxpool" if not wider:
            return layers.pool(x, "max", 1, stride, name=f"{prefixed}_subsample")
        case "avgpool_project":
            if stride > 1:
                x = layers.pool(x, "average", stride, stride, ceil=True, name=f"{prefixed}_pool")
                stride = 1
        case _:
            pass
    # The projection has a norm if the branch has one before the addition.
    normed = primitives.order.last_norm
    x = primitives.conv(x, width, 1, stride=stride, normed=normed, name=f"{name}_conv")
    return primitives.norm(x, name=f"{name}_norm") if normed else x
