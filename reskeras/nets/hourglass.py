"""Stacked hourglass networks (arXiv 1603.06937), layer by layer as in the authors' hg.lua."""

from typing import Any

from reskeras.nets.blocks import residual_block, stage
from reskeras.nets.heads import head
from reskeras.nets.primitives import Layers, Primitives
from reskeras.spec import DenseBlock, Features, Hourglass


def hourglass(spec: Hourglass, layers: Layers) -> tuple[Any, Any]:
    """Takes images [N,H,W,C], returns maps [N,H/4,W/4,K].

    Returns one output, or for several stacks a dict of `stack{i}_head` and `head`. Layers:
    `stem_*`, `stack{i}_level{n}_*` (1 is the outermost), `stack{i}_bridge_*`, `stack{i}_post_*`.
    Endpoints: `stem` and `stack{i}`.
    """
    per_stack = 3 * spec.depth + 2
    primitives = Primitives(layers, spec, blocks=3 + spec.stacks * per_stack * spec.blocks)
    inputs = layers.input(spec.input_shape, name=f"{primitives.prefix}image")
    x = primitives.conv(inputs, max(1, spec.width // 4), 7, stride=2, normed=True, name="stem_conv")
    x = primitives.activate(primitives.norm(x, name="stem_norm"), name="stem")
    x = _block(x, spec, max(1, spec.width // 2), primitives=primitives, name="stem_block1")
    x = layers.pool(x, "max", 2, 2, name=f"{primitives.prefix}stem_pool")
    x = _block(x, spec, max(1, spec.width // 2), primitives=primitives, name="stem_block2")
    x = primitives.endpoint(
        _block(x, spec, spec.width, primitives=primitives, name="stem_block3"), "stem"
    )
    outputs = {}
    for stack in range(1, spec.stacks + 1):
        name = f"stack{stack}"
        last = stack == spec.stacks
        y = _level(x, spec, 1, primitives=primitives, name=name)
        y = _blocks(y, spec, primitives=primitives, name=f"{name}_post")
        y = primitives.conv(y, spec.width, 1, normed=True, name=f"{name}_lin_conv")
        y = primitives.activate(primitives.norm(y, name=f"{name}_lin_norm"), name=f"{name}_lin")
        y = primitives.endpoint(y, name)
        if last and isinstance(spec.head, Features):
            return inputs, head(y, spec.head, inputs=inputs, primitives=primitives)
        if isinstance(spec.head, Features):
            x = _remap(x, y, None, spec, primitives=primitives, name=f"{name}_remap")
            continue
        key = "head" if last else f"{name}_head"
        outputs[key] = head(y, spec.head, inputs=inputs, primitives=primitives, name=key)
        if not last:
            guess = primitives.conv(
                outputs[key], spec.width, 1, normed=False, name=f"{name}_remap_head"
            )
            x = _remap(x, y, guess, spec, primitives=primitives, name=f"{name}_remap")
    return inputs, outputs if spec.stacks > 1 else outputs["head"]


def _remap(
    x: Any, features: Any, guess: Any | None, spec: Hourglass, *, primitives: Primitives, name: str
) -> Any:
    """The next stack's input: its predecessor's input, features, and prediction if any."""
    features = primitives.conv(features, spec.width, 1, normed=False, name=f"{name}_features")
    terms = [x, features] if guess is None else [x, features, guess]
    return primitives.layers.add(terms, name=f"{primitives.prefix}{name}_add")


def _level(x: Any, spec: Hourglass, number: int, *, primitives: Primitives, name: str) -> Any:
    """One halving and everything inside it (arXiv 1603.06937, Fig. 3)."""
    level, layers = f"{name}_level{number}", primitives.layers
    skip = _blocks(x, spec, primitives=primitives, name=f"{level}_skip")
    x = layers.pool(x, "max", 2, 2, name=f"{primitives.prefix}{level}_pool")
    x = _blocks(x, spec, primitives=primitives, name=f"{level}_in")
    if number < spec.depth:
        x = _level(x, spec, number + 1, primitives=primitives, name=name)
    else:
        x = _blocks(x, spec, primitives=primitives, name=f"{name}_bridge")
    x = _blocks(x, spec, primitives=primitives, name=f"{level}_out")
    x = layers.upsample(x, name=f"{primitives.prefix}{level}_up")
    return layers.add([skip, x], name=f"{primitives.prefix}{level}_add")


def _blocks(x: Any, spec: Hourglass, *, primitives: Primitives, name: str) -> Any:
    for number in range(1, spec.blocks + 1):
        x = _block(x, spec, spec.width, primitives=primitives, name=f"{name}_block{number}")
    return x


def _block(x: Any, spec: Hourglass, width: int, *, primitives: Primitives, name: str) -> Any:
    if isinstance(spec.block, DenseBlock):
        return stage(
            x, spec.block, blocks=1, width=width, stride=1, primitives=primitives, name=name
        )
    return residual_block(x, spec.block, width, primitives=primitives, name=name)
