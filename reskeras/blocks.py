"""Blocks, tensor to tensor: what stands on the branch, what on the shortcut, and how the two meet."""

from typing import Any, NamedTuple

import keras

from reskeras.layers import PRE_ACTIVATION, Primitives, pad_channels
from reskeras.spec import BasicBlock, Block, BottleneckBlock, DenseBlock, PlainBlock, Shortcut


class Conv(NamedTuple):
    """One convolution of a branch."""

    width: int
    kernel: int
    stride: int = 1
    groups: int = 1


def stage(
    x: Any, block: Block, *, blocks: int, width: int, stride: int, shortcut: Shortcut, primitives: Primitives, name: str
) -> Any:
    """A stage: `blocks` blocks, the first with the stride; [N,H,W,C] -> [N,H/stride,W/stride,width].

    A stage of dense layers is average-pooled first and ends in a 1x1 convolution to `width`: the transition of DenseNet,
    cut between its convolution and its pooling.
    """
    if isinstance(block, DenseBlock):
        if stride > 1:
            x = keras.layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
        x = dense_stage(x, block, blocks=blocks, primitives=primitives, name=name)
        return transition_conv(x, width, primitives=primitives, name=f"{name}_transition")
    for number in range(1, blocks + 1):
        x = _block(
            x,
            _branch_convs(block, width, stride if number == 1 else 1),
            shortcut="none" if isinstance(block, PlainBlock) else shortcut,
            shares_activation=number == 1,
            primitives=primitives,
            name=f"{name}_block{number}",
        )
    return x


def dense_stage(x: Any, block: DenseBlock, *, blocks: int, primitives: Primitives, name: str) -> Any:
    """Dense layers, [N,H,W,C] -> [N,H,W,C + blocks * growth_rate] (arXiv 1608.06993, Fig. 1)."""
    k = block.growth_rate
    convs = [Conv(4 * k, 1), Conv(k, 3)] if block.bottleneck else [Conv(k, 3)]
    for number in range(1, blocks + 1):
        layer = f"{name}_block{number}"
        new = _branch(x, convs, primitives=primitives, name=layer)
        # The five norm orders are those of a residual block with the concatenation in the place of the addition.
        x = keras.layers.Concatenate(name=f"{layer}_concat")([x, new])
        x = _after_merge(x, primitives=primitives, name=layer)
    return x


def transition_conv(x: Any, width: int, *, primitives: Primitives, name: str) -> Any:
    """The 1x1 convolution between dense stages, with norm and ReLU where the norm order has them."""
    return _branch(x, [Conv(width, 1)], primitives=primitives, name=name)


def _branch_convs(block: PlainBlock | BasicBlock | BottleneckBlock, width: int, stride: int) -> list[Conv]:
    match block:
        case PlainBlock() | BasicBlock():
            return [Conv(width, 3, stride), Conv(width, 3)]
        case BottleneckBlock():
            inner = block.inner_width(width)
            return [Conv(inner, 1), Conv(inner, 3, stride, block.cardinality), Conv(width, 1)]


def _block(x: Any, convs: list[Conv], *, shortcut: Shortcut, shares_activation: bool, primitives: Primitives, name: str) -> Any:
    # In pre-activation nets the first block of a stage activates its input before the fork, so that a projection sees it
    # too (arXiv 1603.05027, Section 4.1; `both_preact` in fb.resnet.torch).
    shares_activation = shares_activation and primitives.norm_order in PRE_ACTIVATION
    if shares_activation:
        x = _pre_activation(x, primitives=primitives, name=name, number=1)
    branch = _branch(x, convs, primitives=primitives, name=name, activated=shares_activation)
    if shortcut == "none":
        merged = branch
    else:
        stride = max(conv.stride for conv in convs)
        side = _shortcut(x, convs[-1].width, stride, shortcut=shortcut, primitives=primitives, name=f"{name}_shortcut")
        merged = keras.layers.Add(name=f"{name}_add")([side, branch])
    return _after_merge(merged, primitives=primitives, name=name)


def _branch(x: Any, convs: list[Conv], *, primitives: Primitives, name: str, activated: bool = False) -> Any:
    order = primitives.norm_order
    for number, (width, kernel, stride, groups) in enumerate(convs, start=1):
        last = number == len(convs)
        if order in PRE_ACTIVATION and not (number == 1 and activated):
            x = _pre_activation(x, primitives=primitives, name=name, number=number)
        x = primitives.conv(x, width, kernel, stride=stride, groups=groups, name=f"{name}_conv{number}")
        if order == "full_preact" or (order == "norm_after_add" and last):
            continue
        x = primitives.norm(x, name=f"{name}_norm{number}")
        if order == "relu_before_add" or (order not in PRE_ACTIVATION and not last):
            x = primitives.relu(x, name=f"{name}_relu{number}")
    return x


def _pre_activation(x: Any, *, primitives: Primitives, name: str, number: int) -> Any:
    if primitives.norm_order == "full_preact":
        x = primitives.norm(x, name=f"{name}_norm{number}")
    return primitives.relu(x, name=f"{name}_relu{number}")


def _after_merge(x: Any, *, primitives: Primitives, name: str) -> Any:
    if primitives.norm_order == "norm_after_add":
        x = primitives.norm(x, name=f"{name}_out_norm")
    if primitives.norm_order in ("original", "norm_after_add"):
        x = primitives.relu(x, name=f"{name}_out_relu")
    return x


def _shortcut(x: Any, width: int, stride: int, *, shortcut: Shortcut, primitives: Primitives, name: str) -> Any:
    if stride == 1 and x.shape[-1] == width:
        return x
    if shortcut == "pad":
        if stride > 1:
            x = keras.layers.AveragePooling2D(1, strides=stride, name=f"{name}_subsample")(x)
        return pad_channels(x, width, name=f"{name}_pad") if x.shape[-1] < width else x
    x = primitives.conv(x, width, 1, stride=stride, name=f"{name}_conv")
    # The projection is normalised where the branch is normalised before the addition.
    if primitives.norm_order in ("norm_after_add", "full_preact"):
        return x
    return primitives.norm(x, name=f"{name}_norm")
