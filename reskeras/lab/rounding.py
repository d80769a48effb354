"""Chains of a network's last block that run in a floating-point format."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.lab.moments import Block
from reskeras.lab.probe import in_layout, initialize
from reskeras.models.build import build
from reskeras.spec import AnySpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """What chains of blocks do in one format, over seeds."""

    overflow: Any
    """The block in which the first number is not finite [S]; one more than there are if none is."""
    lost: Any
    """Of the values of a branch other than 0, the part that leaves the sum equal to the shortcut
    [S,blocks]; NaN from the overflow on."""
    moments: Any
    """Second moments of outputs [S,blocks], the same."""


def run_chains(
    spec: AnySpec,
    before: Block,
    block: Block,
    images: Any,
    formats: Sequence[str],
    *,
    blocks: int,
    seeds: int,
    seed: int,
    model: keras.Model | None = None,
) -> dict[str, Chain]:
    """Runs a network up to a block, and then that block again and again with new weights.

    Each layer computes in float32 and rounds its output to the format, as hardware does that
    accumulates in float32. Weights stay in float32.

    Args:
        spec: the network.
        before: the block that the chain follows.
        block: the block of the chain, with a single input; its output has that one's shape.
        images: [N,*sides,C].
        formats: names of floating-point types.
        blocks: how many follow each other at most.
        seeds: how many chains.
        seed: what their weights follow from.
        model: the network if it is built; otherwise the spec's is built.

    Returns:
        By format.

    Raises:
        RequestError: the images do not have the shape that the network takes.
    """
    _, batch = in_layout(spec, images)
    keras.utils.set_random_seed(seed)
    model = build(spec) if model is None else model
    start = model.get_layer(before.output.name).output
    added = [node for node in block.nodes if node.kind == "Add"]
    sides = [each.name for each in added[-1].inputs] if added else []
    within = [each for each in sides if each != before.output.name]
    front = keras.Model(model.inputs, start)
    chained = keras.Model(
        start, [model.get_layer(each).output for each in (block.output.name, *within)]
    )
    fronts = [_rounded(front, name) for name in formats]
    chains = [_rounded(chained, name) for name in formats]

    @tf.function  # type: ignore[untyped-decorator]
    def begin() -> Any:
        return [one(batch, training=True) for one in fronts]

    @tf.function  # type: ignore[untyped-decorator]
    def step(inputs: Any) -> Any:
        outputs, found = [], []
        for name, chain, x in zip(formats, chains, inputs, strict=True):
            output, *values = chain(x, training=True) if within else [chain(x, training=True)]
            known = {before.output.name: x, **dict(zip(within, values, strict=True))}
            parts = [known[side] for side in sides]
            lost = _lost(parts, name) if parts else tf.constant(np.nan, "float64")
            wide = tf.cast(output, "float64")
            outputs.append(output)
            found.append(tf.stack([tf.reduce_mean(wide**2), lost]))
        return outputs, tf.stack(found)

    found = np.full((seeds, blocks, len(formats), 2), np.nan)
    for number in range(seeds):
        initialize(model, np.random.SeedSequence([seed, number]))
        values = begin()
        for place in range(blocks):
            initialize(chained, np.random.SeedSequence([seed, number, place]))
            values, numbers = step(values)
            found[number, place] = numbers
            if not np.isfinite(numbers[:, 0]).any():
                break
    # Once a number is infinite, what follows from it means nothing.
    gone = np.logical_or.accumulate(~np.isfinite(found[..., 0]), axis=1)
    found[gone] = np.nan
    return {
        name: Chain(
            overflow=(~gone[:, :, place]).sum(axis=1) + 1,
            moments=found[:, :, place, 0],
            lost=found[:, :, place, 1],
        )
        for place, name in enumerate(formats)
    }


def rounded(values: Any, name: str) -> Any:
    """An array in a format."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(tf.as_dtype(name).as_numpy_dtype)


def largest(name: str) -> float:
    """The largest number of a format."""
    return float(tf.as_dtype(name).max)


def _rounded(model: keras.Model, name: str) -> keras.Model:
    def call(layer: Any, *args: Any, **options: Any) -> Any:
        return keras.ops.cast(keras.ops.cast(layer(*args, **options), name), "float32")

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _lost(parts: Sequence[Any], name: str) -> Any:
    shortcut, branch = (tf.cast(each, name) for each in parts)
    there = branch != 0
    same = tf.logical_and(shortcut + branch == shortcut, there)
    counts = [tf.reduce_sum(tf.cast(each, "float64")) for each in (same, there)]
    return counts[0] / counts[1]
