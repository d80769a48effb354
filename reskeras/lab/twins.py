"""Networks that experiments train with several seeds, to compare their losses."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

from reskeras.data import ImageData
from reskeras.errors import RequestError
from reskeras.lab.result import Bound, Check
from reskeras.lab.trained import fitted_to, train_network
from reskeras.spec import AnySpec, BasicBlock, PlainBlock, ResNet, TrainSpec, is_residual

_CONFIDENCE = 0.99
"""With which a difference is told from chance."""

Name = TypeVar("Name")
"""What networks are told apart by."""


def residual_network(spec: AnySpec) -> ResNet:
    """A network whose blocks have shortcuts, or its residual twin if they have none.

    Raises:
        RequestError: it is no ResNet of plain or residual blocks.
    """
    if not isinstance(spec, ResNet) or not (
        isinstance(spec.block, PlainBlock) or is_residual(spec.block)
    ):
        raise RequestError(
            f"{spec.name}: this needs family 'resnet' with blocks 'plain', 'basic' or 'bottleneck'"
        )
    if isinstance(spec.block, PlainBlock):
        return dataclasses.replace(spec, block=BasicBlock())
    if spec.shortcut == "none":
        return dataclasses.replace(spec, shortcut="project_on_change")
    return spec


def with_blocks(spec: ResNet, share: float) -> ResNet:
    """A network with a share of the blocks in each stage, and at least one."""
    stages = tuple(
        dataclasses.replace(stage, blocks=max(1, round(share * stage.blocks)))
        for stage in spec.stages
    )
    return dataclasses.replace(spec, stages=stages)


def blocks_in(spec: ResNet) -> int:
    """The number of its blocks."""
    return sum(stage.blocks for stage in spec.stages)


def train_each(
    specs: Mapping[Name, AnySpec], data: ImageData, *, epochs: int, seeds: int, seed: int
) -> dict[Name, list[list[float]]]:
    """Trains each network once per seed; returns its mean training loss in each epoch.

    The loss is infinite from where it stopped being finite. Networks that are trained with the same
    seed see the same batches.

    Raises:
        RequestError: a network does not fit the data.
    """
    from reskeras.training.compiled import Programs

    programs = Programs()
    fitted = {name: fitted_to(spec, data) for name, spec in specs.items()}
    curves: dict[Name, list[list[float]]] = {}
    for name, spec in fitted.items():
        curves[name] = []
        for number in range(seed, seed + seeds):
            how = TrainSpec(epochs=epochs, seed=number)
            found = train_network(spec, data, how, programs=programs).epochs
            curve = [epoch.metrics["loss"] for epoch in found]
            curves[name].append(curve + [math.inf] * (epochs - len(curve)))
    return curves


def last_losses(curves: Mapping[Name, Sequence[Sequence[float]]]) -> dict[Name, list[float]]:
    """The loss of the last epoch, for each seed."""
    return {name: [curve[-1] for curve in each] for name, each in curves.items()}


def difference(
    losses: Sequence[float], others: Sequence[float], bound: Bound, *, claim: str, source: str
) -> Check:
    """How much higher one network's losses are than another's, seed by seed.

    The tolerance is what chance explains: Student's t for 99 % on one side, times the standard
    error of the mean difference. A difference that is claimed (`AT_LEAST`) must be larger than
    that, one that is denied (`AT_MOST`) may not be.

    Args:
        losses: for each seed.
        others: those of the other network, for the same seeds.
        bound: `AT_LEAST` if it is claimed to be higher, `AT_MOST` if it is not.
        claim: the claim.
        source: who claims it.
    """
    import numpy as np
    from scipy.stats import t

    with np.errstate(invalid="ignore"):
        higher = np.subtract(losses, others)
        error = float(np.std(higher, ddof=1) / math.sqrt(len(higher)))
    quantile = float(t.ppf(_CONFIDENCE, len(higher) - 1))
    # Equal losses are not higher, though nothing scatters.
    chance = max(quantile * error, sys.float_info.min) if math.isfinite(error) else 0.0
    return Check(
        claim=claim,
        source=source,
        measured=float(np.mean(higher)),
        expected=0.0,
        bound=bound,
        tolerance=-chance if bound is Bound.AT_LEAST else chance,
    )
