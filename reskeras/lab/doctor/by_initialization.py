"""Signs of a network with random weights, measured on training images."""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from reskeras.lab.doctor.finding import Case, Changes, Finding, Remedy, Sign, is_plain
from reskeras.lab.moments import blocks_of
from reskeras.lab.probe import Measured, in_layout, initialize, measured_moments, training_images
from reskeras.lab.result import Bound
from reskeras.models.build import build
from reskeras.nets.graph import record
from reskeras.spec import BasicBlock, BatchNorm

_IMAGES, _SEEDS = 64, 2
_DEPTHS = 6.0
"""Signals vanish or explode as exp(depth/xi), and networks train up to a depth of about 6 xi."""
_OFF = 0.25
_SOURCE = "Schoenholz 2017, arXiv 1611.01232, Section 5: networks train up to e^6 over their depth"


@functools.lru_cache(maxsize=1)
def _measured(case: Case) -> Mapping[str, Measured]:
    outputs = [block.output.name for block in blocks_of(record(case.spec))]
    images = training_images(case.spec, case.data, _IMAGES)
    return measured_moments(
        case.spec, outputs, images, last=outputs[-1], seeds=_SEEDS, seed=case.seed
    )


def _rate(case: Case, side: str) -> tuple[float, int] | None:
    """The median change per block of a logarithm of second moments, and over how many blocks.

    The median leaves out what happens once, such as between stages, and what slows down with depth,
    as in residual networks with norm: neither grows exponentially. None with one block.
    """
    if len(blocks_of(record(case.spec))) < 2:
        return None
    sides = [getattr(one, side).reshape(_SEEDS, -1) for one in _measured(case).values()]
    means = np.array([values.mean(axis=1) for values in sides])
    if not np.isfinite(means).all() or not means.all():
        return math.inf, len(means) - 1
    logs = np.log(means).mean(axis=1)
    return float(np.median(np.diff(logs))), len(means) - 1


def _activations(case: Case) -> Finding | None:
    return _scale_finding(case, "forward", "activations")


def _gradients(case: Case) -> Finding | None:
    # Behind norms the scale of weights does not matter, and steps fit themselves to the gradients
    # (arXiv 1812.03981). ResNet-110 before activation trains, though its gradients grow by e^10.
    # Plain networks with norms do not train when they are deep (arXiv 1902.08129).
    if case.spec.norm.kind != "none" and not is_plain(case.spec):
        return None
    return _scale_finding(case, "backward", "gradients")


def _scale_finding(case: Case, side: str, of: str) -> Finding | None:
    found = _rate(case, side)
    if found is None:
        return None
    rate, blocks = found
    factor = math.exp(min(700.0, rate))
    return Finding(
        sign=of,
        number=abs(rate) * blocks,
        says=f"the second moment of {of} changes by x{factor:.3g} per block (median), over "
        f"{blocks} blocks by e^{rate * blocks:.1f}",
        bound=Bound.AT_MOST,
        limit=_DEPTHS,
        source=_SOURCE,
        advice="init 'he_normal', batch norm, residual blocks instead of plain ones, or sum_scale "
        "'1/sqrt(2)' if there is no norm",
    )


def _better_scale(case: Case) -> Iterator[Remedy]:
    spec, changes = case.spec, Changes()
    if not spec.init.startswith("he"):
        yield changes.also("init 'he_normal'", init="he_normal")
    plain = is_plain(spec)
    if spec.norm.kind == "none" and not plain and hasattr(spec, "sum_scale"):
        yield changes.with_("sum_scale '1/sqrt(2)'", sum_scale="1/sqrt(2)")
    if spec.norm.kind == "none":
        yield changes.also("norm 'batch'", norm=BatchNorm())
    if plain:
        yield changes.also("block 'basic'", block=BasicBlock())
    if hasattr(spec, "zero_init_last"):
        yield changes.also("zero_init_last", zero_init_last=True)


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
    first, images = in_layout(case.spec, training_images(case.spec, case.data, _IMAGES))
    values = probe([images], training=True)
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
