"""How the scale of activations and gradients changes from block to block at initialization."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.identity_path import IdentityPath, identity_path
from reskeras.lab.moments import (
    blocks_of,
    expected_gradients,
    expected_moments,
    unknown,
)
from reskeras.lab.networks import SMALL_NETWORKS
from reskeras.lab.result import Check, Result, Table
from reskeras.nets.graph import Node, record
from reskeras.spec import AnySpec, NoNorm

_CERTAIN = 2.576
"""Standard deviations within which 99 % of normal values are."""
_TELLING = 1.0
"""The largest tolerance, as a power of 2 per block, that says anything: x1 and x4 are apart."""
_LOG_2 = math.log(2)
_FORWARD = "He 2015, arXiv 1502.01852, Eq. 10; Yang 2017, arXiv 1712.08969"
_BACKWARD = "He 2015, arXiv 1502.01852, Eq. 14; Yang 2017, arXiv 1712.08969"


def variance(
    spec: AnySpec | None = None,
    *,
    model: Any = None,
    images: Any = None,
    seeds: int = 8,
    seed: int = 0,
) -> Result:
    """Second moments of activations and gradients after each block, against theory.

    What theory expects is computed from the spec (`reskeras.lab.moments`) and compared with a
    network that is built and initialized `seeds` times. The main number is the growth per block:
    the factor by which the second moment grows from the first block's output to the last one's, to
    the power 1 / (blocks - 1), as a geometric mean over initializations. So is that of the
    gradient, backward from the last block to the first. Checks have its logarithm to base 2: 0 if
    nothing grows, 1 if it doubles in each block.

    Theory without norms, for each block: a plain network with He's initialization and ReLU 1, a
    residual one 2 (if its sums are not activated), whose sums are multiplied by 1/sqrt(2) 1, with
    branches times 1/sqrt(2) 1.5. With batch norm in each branch the second moment grows by 1, not
    by a factor: 1, 2, 3, ...

    The tolerance. Let V be the variance of the logarithm of the growth of one network, from its
    widths (Hanin and Nica, arXiv 1812.05994), summed over its layers; at most the sum of those of
    the first block's and the last one's second moments. The mean logarithm of S
    networks then has a standard deviation of sqrt(V / S), and lies V / 2 below the logarithm of
    the mean. Positions of an image share their weights, which makes V smaller by an unknown
    amount, so the mean lies 0 to V / 2 below: the expected value is V / 4 below, and the tolerance
    V / 4 + 2.576 sqrt(V / S), on the logarithm, divided by blocks - 1. If that is more than a
    factor of 2 per block, the network is too narrow to tell, and there is no verdict.

    Gradients get no verdict if sums are activated without a norm. Second moments of products of
    slopes and weights exceed the theory of infinite width there: after 20 blocks of width n, by a
    factor of about exp(130 / n) (measured at widths 128, 256 and 768).

    Args:
        spec: the network; without one, five small ones, each with its own check.
        model: a network to measure that should be the spec's, with its layers' names; its kernels
            are drawn anew from its initializers. By default, the spec's network is built.
        images: [N,*sides,C]; by default, independent normal numbers.
        seeds: how many initializations.
        seed: what they follow from.

    Raises:
        RequestError: the network has fewer than two blocks, or the images have another shape.
    """
    specs: Mapping[str, AnySpec] = {spec.name: spec} if spec is not None else SMALL_NETWORKS
    found = {
        name: measure(one, model=model, images=images, seeds=seeds, seed=seed)
        for name, one in specs.items()
    }
    alone = spec is not None
    checks = [
        check for name, one in found.items() for check in one.checks("" if alone else f" of {name}")
    ]
    return Result(
        name="variance",
        network=", ".join(found),
        checks=checks,
        table=Table(
            columns=(
                "network",
                "block",
                "activations",
                "theory",
                "gradients",
                "theory of gradients",
            ),
            rows=tuple(row for name, one in found.items() for row in one.rows(name)),
        ),
        text=_text(found, alone=alone),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """Activations or gradients after each block, in execution order."""

    logs: Any
    """Logarithms of second moments [S,B]."""
    theory: list[float]
    """What is expected; NaN where there is no theory."""
    noise: list[float]
    """See `Moment.noise`."""
    first: int
    """The block that the growth is counted from."""
    last: int
    """The block that it is counted to."""

    @property
    def blocks(self) -> int:
        """Over how many blocks it grows."""
        return abs(self.last - self.first)

    @property
    def measured(self) -> float:
        """The growth per block, as a power of 2."""
        growth = (self.logs[:, self.last] - self.logs[:, self.first]).mean()
        return float(growth) / self.blocks / _LOG_2

    def check(self, claim: str, source: str) -> Check:
        """Compares the growth with theory's."""
        start, end = self.theory[self.first], self.theory[self.last]
        if not (start > 0 and 0 < end < math.inf):
            why = "there is no rule for a layer on the way"
            return Check(claim=claim, source=source, measured=self.measured, why_not=why)
        variance = self.noise[self.last] + self.noise[self.first]
        scatter = _CERTAIN * math.sqrt(variance / len(self.logs))
        tolerance = (variance / 4 + scatter) / self.blocks / _LOG_2
        if tolerance > _TELLING:
            why = f"too narrow to tell: chance explains a factor of {2**tolerance:.2g} per block"
            return Check(claim=claim, source=source, measured=self.measured, why_not=why)
        return Check(
            claim=claim,
            source=source,
            measured=self.measured,
            expected=(math.log(end / start) - variance / 4) / self.blocks / _LOG_2,
            tolerance=tolerance,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growths:
    """What a network's blocks do to activations and gradients."""

    blocks: list[str]
    forward: Growth
    backward: Growth
    rectified: bool
    """Whether sums are activated, with no norm to scale them."""
    unknown: list[str]
    """Layers within blocks whose moments were measured instead."""

    def checks(self, where: str) -> list[Check]:
        """Activations and gradients; `where` tells networks apart."""
        forward = self.forward.check(
            f"the second moment of activations{where} grows by 2 to this power per block",
            _FORWARD,
        )
        if self.unknown:
            layers = ", ".join(self.unknown[:3]) + (", ..." if len(self.unknown) > 3 else "")
            why = f"there is no rule for {layers}"
            forward = dataclasses.replace(forward, expected=None, why_not=why)
        backward = self.backward.check(
            f"the second moment of gradients{where} grows by 2 to this power per block, backward",
            _BACKWARD,
        )
        if self.rectified:
            why = "sums are activated without a norm: theory is true of infinite width only"
            backward = dataclasses.replace(backward, expected=None, why_not=why)
        return [forward, backward]

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """A row of the table for each block."""
        forward, backward = (_means(side) for side in (self.forward, self.backward))
        return [
            (name, block, forward[i], self.forward.theory[i], backward[i], self.backward.theory[i])
            for i, block in enumerate(self.blocks)
        ]


def _means(side: Growth) -> list[float]:
    import numpy as np

    with np.errstate(over="ignore"):
        return [float(value) for value in np.exp(side.logs.mean(axis=0))]


def measure(spec: AnySpec, *, model: Any, images: Any, seeds: int, seed: int) -> Growths:
    """Measures a network's blocks; see `variance`."""
    import numpy as np

    from reskeras.lab.probe import measured_moments, noise_images

    graph = record(spec)
    blocks = blocks_of(graph)
    if len(blocks) < 2:
        raise RequestError(
            f"{spec.name}: has {'one block' if blocks else 'no blocks'}; growth needs two or more"
        )
    if images is None:
        images = noise_images(spec, seed)
    missing = unknown(spec, graph)
    outputs = [block.output.name for block in blocks]
    normed = {
        node.name: node.inputs[0].name for node in graph.nodes if node.kind == "BatchNormalization"
    }
    measured = measured_moments(
        spec,
        sorted({*outputs, *missing, *normed.values()}),
        images,
        last=outputs[-1],
        seeds=seeds,
        seed=seed,
        model=model,
    )
    moments = expected_moments(
        spec, graph, {name: measured[name].forward.mean(axis=0) for name in missing}
    )
    gradients = expected_gradients(
        spec,
        graph,
        moments,
        blocks[-1].output,
        {norm: float(measured[source].precision.mean()) for norm, source in normed.items()},
    )

    def logs(side: str) -> Any:
        values = [getattr(measured[name], side) for name in outputs]
        means = [value.reshape(seeds, -1).mean(axis=1) for value in values]
        with np.errstate(divide="ignore"):
            return np.log(np.stack(means, axis=1))

    known = [gradients.get(name) for name in outputs]
    within = {node.name for block in blocks for node in block.nodes}
    return Growths(
        blocks=[block.name for block in blocks],
        forward=Growth(
            logs=logs("forward"),
            theory=[moments[name].mean for name in outputs],
            noise=[moments[name].noise for name in outputs],
            first=0,
            last=len(blocks) - 1,
        ),
        backward=Growth(
            logs=logs("backward"),
            theory=[math.nan if one is None else one.mean for one in known],
            noise=[math.nan if one is None else one.noise for one in known],
            first=len(blocks) - 1,
            last=0,
        ),
        rectified=_is_rectified(spec, identity_path(graph)),
        unknown=sorted(missing & within),
    )


def _is_rectified(spec: AnySpec, path: IdentityPath | Node) -> bool:
    return (
        isinstance(spec.norm, NoNorm) and isinstance(path, IdentityPath) and bool(path.activations)
    )


def _text(found: Mapping[str, Growths], *, alone: bool) -> str:
    told = "; ".join(
        f"{'' if alone else f'{name}: '}activations x{_factor(one.forward)}, gradients "
        f"x{_factor(one.backward)}"
        for name, one in found.items()
    )
    return (
        f"From block to block, second moments change by these factors at initialization: {told}. "
        "A factor far from 1 makes deep networks explode or vanish before they have learnt "
        "anything; a norm in each branch turns the product of factors into a sum."
    )


def _factor(side: Growth) -> str:
    return f"{2.0 ** min(1000.0, side.measured):.3g}"


def _figure(found: Mapping[str, Growths]) -> Any:
    import numpy as np

    def lines(side: str) -> list[Line]:
        made = []
        for name, one in found.items():
            values: Growth = getattr(one, side)
            places = range(1, len(one.blocks) + 1)
            with np.errstate(over="ignore"):
                low, high = np.exp(np.quantile(values.logs, (0.05, 0.95), axis=0))
            made.append(
                Line(
                    label=name, x=places, y=_means(values), low=low, high=high, theory=values.theory
                )
            )
        return made

    return lines_figure(
        [
            Panel(title=title, x="block", y="second moment", lines=lines(side), log=True)
            for title, side in (
                ("activations after each block", "forward"),
                ("gradients, of the last block's output", "backward"),
            )
        ]
    )
