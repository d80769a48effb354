"""Signs of a network with random weights, measured on training images."""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from reskeras.data.pixels import scaled
from reskeras.lab.doctor.finding import Case, Finding, Remedy, Sign
from reskeras.lab.moments import blocks_of
from reskeras.lab.probe import Measured, initialize, measured_moments
from reskeras.lab.result import Bound
from reskeras.models.build import build
from reskeras.nets.graph import record
from reskeras.spec import BasicBlock, BatchNorm, PlainBlock
from reskeras.spec.families import ResNet, UNet

_IMAGES, _SEEDS = 64, 2
_FACTOR = math.exp(6)
"""Signals die out or explode as exp(-depth/xi), and networks train up to a depth of about 6 xi."""
_OFF = 0.25
_SOURCE = "Schoenholz 2017, arXiv 1611.01232, Section 5: e^6, the factor over the depth that trains"


def _images(case: Case) -> Any:
    sample = scaled(case.data.sampled(_IMAGES), case.data.peak)
    return sample.reshape(len(sample), *case.spec.input_shape)


@functools.lru_cache(maxsize=1)
def _measured(case: Case) -> Mapping[str, Measured]:
    outputs = [block.output.name for block in blocks_of(record(case.spec))]
    return measured_moments(
        case.spec, outputs, _images(case), last=outputs[-1], seeds=_SEEDS, seed=case.seed
    )


def _change(case: Case, side: str) -> float | None:
    """The largest factor between the second moments after any two blocks; None with one block."""
    if len(blocks_of(record(case.spec))) < 2:
        return None
    sides = [getattr(one, side).reshape(_SEEDS, -1) for one in _measured(case).values()]
    means = np.array([values.mean(axis=1) for values in sides])
    if not np.isfinite(means).all() or not means.all():
        return math.inf
    logs = np.log(means).mean(axis=1)
    return math.exp(min(700.0, logs.max() - logs.min()))


def _activations(case: Case) -> Finding | None:
    return _scale_finding(case, "forward", "activations")


def _gradients(case: Case) -> Finding | None:
    return _scale_finding(case, "backward", "gradients")


def _scale_finding(case: Case, side: str, of: str) -> Finding | None:
    number = _change(case, side)
    if number is None:
        return None
    return Finding(
        sign=of,
        number=number,
        says=f"the second moment of {of} changes by a factor of {number:.3g} between blocks",
        bound=Bound.AT_MOST,
        limit=_FACTOR,
        source=_SOURCE,
        advice="init 'he_normal', batch norm, residual blocks instead of plain ones, or sum_scale "
        "'1/sqrt(2)' if there is no norm",
    )


def _better_scale(case: Case) -> Iterator[Remedy]:
    spec, changes, words = case.spec, dict[str, Any](), list[str]()

    def also(more: str, **fields: Any) -> Remedy:
        words.append(more)
        changes.update(fields)
        return Remedy(words=", ".join(words), spec=dict(changes))

    if not spec.init.startswith("he"):
        yield also("init 'he_normal'", init="he_normal")
    plain = isinstance(spec, ResNet | UNet) and isinstance(spec.block, PlainBlock)
    if spec.norm.kind == "none" and not plain and hasattr(spec, "sum_scale"):
        scaled_sums = {**changes, "sum_scale": "1/sqrt(2)"}
        yield Remedy(words=", ".join([*words, "sum_scale '1/sqrt(2)'"]), spec=scaled_sums)
    if spec.norm.kind == "none":
        yield also("norm 'batch'", norm=BatchNorm())
    if plain:
        yield also("block 'basic'", block=BasicBlock())
    if hasattr(spec, "zero_init_last"):
        yield also("zero_init_last", zero_init_last=True)


def _dead(case: Case) -> Finding | None:
    """The largest share of a layer's channels that are off for all images."""
    graph = record(case.spec)
    layers = [
        node.name
        for node in graph.nodes
        if node.kind == "ReLU"
        or (node.kind == "Activation" and node.settings["activation"] == "relu")
    ]
    if not layers:
        return None
    model = build(case.spec)
    initialize(model, np.random.SeedSequence(case.seed))
    probe = keras.Model(model.inputs, [model.get_layer(name).output for name in layers])
    images, first = _images(case), case.spec.data_format == "channels_first"
    values = probe([np.moveaxis(images, -1, 1) if first else images], training=True)
    shares = [_share_off(np.asarray(value), first) for value in values]
    worst = int(np.argmax(shares))
    return Finding(
        sign="dead units",
        number=shares[worst],
        says=f"{shares[worst]:.0%} of the units of {layers[worst]} are off for all images",
        bound=Bound.AT_MOST,
        limit=_OFF,
        source="Lu 2020, arXiv 1903.06733: units that are born dead never learn; half of them are "
        "off if all images look the same to a layer, and the limit is half of that",
        advice="batch norm before the activation, activation 'leaky_relu', or wider blocks",
    )


def _share_off(values: Any, first: bool) -> float:
    channel = 1 if first and values.ndim > 2 else values.ndim - 1
    axes = tuple(axis for axis in range(values.ndim) if axis != channel)
    return float((values.max(axis=axes) <= 0).mean())


def _livelier(case: Case) -> Iterator[Remedy]:
    if case.spec.norm.kind == "none":
        yield Remedy(words="norm 'batch'", spec={"norm": BatchNorm()})
    yield Remedy(words="activation 'leaky_relu'", spec={"activation": "leaky_relu"})


BY_INITIALIZATION = (
    Sign(
        name="activations",
        looks="whether activations vanish or explode with depth",
        examine=_activations,
        remedies=_better_scale,
    ),
    Sign(
        name="gradients",
        looks="whether gradients vanish or explode with depth",
        examine=_gradients,
        remedies=_better_scale,
    ),
    Sign(
        name="dead units",
        looks="whether units are off for all images",
        examine=_dead,
        remedies=_livelier,
    ),
)
"""The signs, in the order in which they are looked at."""
