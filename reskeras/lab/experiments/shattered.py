"""How far gradients of different images are alike, by depth."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.identity_path import IdentityPath, identity_path
from reskeras.lab.moments import blocks_of, expected_gradients, expected_moments, unknown
from reskeras.lab.networks import SMALL_NETWORKS, resized
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.graph import record
from reskeras.spec import AnySpec, BatchNorm

_SOURCE = "Balduzzi 2017, arXiv 1702.08591, Theorems 1 to 3"
_BOUND = f"{_SOURCE}; Cho and Saul 2009, Eq. 6"
_CERTAIN = 0.995
"""Both tails leave 1 %."""
_SEEN = 0.05
"""The least correlation to compare; smaller ones drown in chance."""


def shattered(
    spec: AnySpec | None = None,
    *,
    model: Any = None,
    images: Any = None,
    seeds: int = 8,
    seed: int = 0,
) -> Result:
    """The correlation of gradients of different images at initialization, by block.

    It is the mean product of two images' gradients at a block's output, over all pairs, per the
    mean square. The gradient is that of a sum of the last block's outputs with random signs. With
    independent weights in the backward pass, a convolution multiplies covariance and variance by
    the same factor; a ReLU multiplies the covariance by the part of pairs that both pass it, and
    the variance by the part of images that pass it; a sum adds up. If signs of two images are
    independent, these parts are 1/4 and 1/2, and a plain network has 2^-L after L ReLUs, a residual
    one without norm, whose branches have one ReLU each, (3/4)^L (two each: (5/8)^B for B blocks).

    Batch norm before ReLU makes signs nearly independent. There the correlation must be what these
    parts make of it, at the first block that should have 0.05 or more. Tolerance: Student's t over
    S networks (99 %), and, since covariance and variance of one network are log-normal with
    variances of at most V (see `variance`) and a correlation between 0 and 1, the mean of their
    ratios is exp(0 to V) times the ratio of their means: V / 2 more is expected, give or take as
    much.

    Without batch norm images become more alike with each layer: at an angle a they both pass a ReLU
    with probability (pi - a) / 2 pi, which is 1/4 or more if a <= pi / 2. So correlations must be
    larger than with independent signs, by Student's t (99 %), at the middle block: farther from the
    end, single networks scatter more. What the measured parts make of it is in the table.

    Args:
        spec: the network; without one, four small ones.
        model: as for `variance`.
        images: [N,*sides,C]; by default, independent normal numbers.
        seeds: how many initializations.
        seed: what they follow from.

    Raises:
        RequestError: the network has fewer than two blocks, or the images have another shape.
    """
    specs: Mapping[str, AnySpec] = {spec.name: spec} if spec is not None else _networks()
    alone = spec is not None
    found = {
        name: measure_correlations(one, model=model, images=images, seeds=seeds, seed=seed)
        for name, one in specs.items()
    }
    return Result(
        name="shattered",
        network=", ".join(found),
        checks=[one.check("" if alone else f" of {name}") for name, one in found.items()],
        table=Table(
            columns=("network", "block", "correlation", "theory", "independent signs"),
            rows=tuple(
                (name, block, one.means[place], one.theory[place], one.independent[place])
                for name, one in found.items()
                for place, block in enumerate(one.blocks)
            ),
        ),
        text=_text(found, alone=alone),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed},
    )


def _networks() -> dict[str, AnySpec]:
    small = {
        name: resized(SMALL_NETWORKS[name], blocks=10, width=128)
        for name in ("plain", "residual", "residual_batch_norm")
    }
    normed = dataclasses.replace(small["plain"], name="plain_batch_norm", norm=BatchNorm())
    return {**small, normed.name: normed}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correlations:
    """Correlations of gradients at the blocks' outputs."""

    blocks: list[str]
    measured: Any
    """[S,blocks]."""
    theory: list[float]
    """With the parts that pass each ReLU as measured; NaN where there is none."""
    independent: list[float]
    """With 1/4 and 1/2."""
    noise: list[float]
    """Of the variance of gradients; see `Moment.noise`."""
    centered: bool
    """Whether batch norm makes signs independent."""
    why_not: str

    @property
    def means(self) -> list[float]:
        """The measured correlation by block."""
        return [float(each) for each in self.measured.mean(axis=0)]

    def check(self, where: str) -> Check:
        """Compares with theory; `where` tells networks apart."""
        from scipy import stats

        place = (len(self.blocks) - 1) // 2
        if self.centered:
            place = next((i for i, one in enumerate(self.independent) if one >= _SEEN), 0)
        values = self.measured[:, place]
        claim = f"gradients{where} at {self.blocks[place]} have this correlation between images"
        measured, source = float(values.mean()), _SOURCE if self.centered else _BOUND
        if self.why_not:
            return Check(claim=claim, source=source, measured=measured, why_not=self.why_not)
        error = float(stats.t.ppf(_CERTAIN, len(values) - 1) * stats.sem(values))
        if not self.centered:
            return Check(
                claim=f"{claim}, more than with independent signs",
                source=source,
                measured=measured,
                expected=self.independent[place],
                bound=Bound.AT_LEAST,
                tolerance=-error,
            )
        half = self.independent[place] * self.noise[place] / 2
        return Check(
            claim=claim,
            source=source,
            measured=measured,
            expected=self.independent[place] + half,
            tolerance=half + error,
        )


def measure_correlations(
    spec: AnySpec, *, model: Any, images: Any, seeds: int, seed: int
) -> Correlations:
    """Measures a network's correlations; see `shattered`."""
    import numpy as np

    from reskeras.lab.probe import measured_moments, measured_pairs, noise_images

    graph = record(spec)
    blocks = blocks_of(graph)
    if len(blocks) < 2:
        raise RequestError(f"{spec.name}: has {len(blocks)} blocks; depth needs two or more")
    if images is None:
        images = noise_images(spec, seed)
    outputs = [block.output.name for block in blocks]
    nodes = list(graph.nodes)
    nodes = nodes[: nodes.index(blocks[-1].output) + 1]
    relus = [node.name for node in nodes if node.kind == "ReLU"]
    normed = {node.name: node.inputs[0].name for node in nodes if node.kind == "BatchNormalization"}
    missing = unknown(spec, graph)
    scales = measured_moments(
        spec,
        sorted({outputs[-1], *missing, *normed.values()}),
        images,
        last=outputs[-1],
        seeds=seeds,
        seed=seed,
        model=model,
    )
    moments = expected_moments(
        spec, graph, {name: scales[name].forward.mean(axis=0) for name in missing}
    )
    precisions = {norm: float(scales[name].precision.mean()) for norm, name in normed.items()}
    pairs = measured_pairs(spec, outputs, relus, images, seeds=seeds, seed=seed, model=model)
    halves, quarters = (dict.fromkeys(relus, np.array(part)) for part in (0.5, 0.25))
    both, one, independent, half = (
        expected_gradients(spec, graph, moments, blocks[-1].output, precisions, slopes)
        for slopes in (pairs.both, pairs.one, quarters, halves)
    )

    def ratios(covariance: Mapping[str, Any], variance: Mapping[str, Any]) -> list[float]:
        return [
            float(covariance[name].mean / variance[name].mean) if name in variance else math.nan
            for name in outputs
        ]

    path = identity_path(graph)
    why_not = ""
    if outputs[0] not in one:
        why_not = "there is no rule for a layer on the way"
    elif spec.activation != "relu":
        why_not = f"{spec.activation} has other slopes than 0 and 1"
    elif isinstance(path, IdentityPath) and path.activations:
        why_not = "sums are activated: their slopes correlate from block to block"
    return Correlations(
        blocks=[block.name for block in blocks],
        measured=pairs.covariances / pairs.variances,
        theory=ratios(both, one),
        independent=ratios(independent, half),
        noise=[float(one[name].noise) if name in one else math.nan for name in outputs],
        centered=isinstance(spec.norm, BatchNorm),
        why_not=why_not,
    )


def _text(found: Mapping[str, Correlations], *, alone: bool) -> str:
    told = "; ".join(
        f"{'' if alone else f'{name}: '}{one.means[0]:.2g} at the first block, with independent "
        f"signs {one.independent[0]:.2g}"
        for name, one in found.items()
    )
    return (
        f"Correlations of gradients of different images at initialization: {told}. Gradients "
        "shatter where signs of different images are independent at each ReLU; batch norm makes "
        "them so, and shortcuts keep a part of the correlation."
    )


def _figure(found: Mapping[str, Correlations]) -> Any:
    lines = [
        Line(label=name, x=range(1, len(one.blocks) + 1), y=one.means, theory=one.theory)
        for name, one in found.items()
    ]
    signs = [
        Line(label=name, x=range(1, len(one.blocks) + 1), y=one.independent)
        for name, one in found.items()
    ]
    return lines_figure(
        [
            Panel(title="measured", x="block", y="correlation", lines=lines),
            Panel(title="if signs were independent", x="block", y="correlation", lines=signs),
        ]
    )
