"""The depth at which floating-point formats overflow, and what they lose of each branch."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.moments import Block, Moment, blocks_of, expected_moments, moments_of_chain
from reskeras.lab.networks import SMALL_NETWORKS, resized
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.graph import Node, record
from reskeras.spec import AnySpec

_FORMATS = "float16", "bfloat16", "float32"
_SHORT = _FORMATS[:2]
"""Those that lose a part of the branch that can be counted."""
_CERTAIN = 2.576
"""Standard deviations within which 99 % of normal values are."""
_WIDTH = 128
_TAIL = 0.999
"""The quantile of absolute values from which on they count as those of normal numbers."""
_OVERFLOW = "IEEE 754-2019; growth: Yang 2017, arXiv 1712.08969; Hanin 2018, arXiv 1812.05994"
_LOSS = "IEEE 754-2019, 4.3.1: round to nearest"


def precision(
    spec: AnySpec | None = None,
    *,
    model: Any = None,
    images: Any = None,
    blocks: int = 300,
    seeds: int = 6,
    seed: int = 0,
) -> Result:
    """Runs a network that grows deeper in float16, bfloat16 and float32.

    The network's last block follows itself up to `blocks` times, each time with new weights. Each
    layer's output is rounded to the format.

    Overflow. Theory knows the second moment m after each block (see `variance`), and the largest of
    M normal numbers of variance m: sqrt(m) q, where P(q < t) = (2 Phi(t) - 1)^M. A format overflows
    when this passes its largest number: that depth is expected, or that none comes in these blocks.
    The tolerance, on the logarithm of the largest square: as in `variance`, its mean over S
    networks lies V / 4 below theory, give or take V / 4 + 2.576 sqrt((V + W) / S), with W the
    variance of log q^2. All images of a deep network may point in the same direction, so M lies
    between the width and the number of all values: its expected value is between these, the
    tolerance has half of the difference. Logarithms become blocks where the expected curve,
    moved by the tolerance, crosses the limit. A count of blocks is half a block more, give or take
    as much. If theory expects no overflow even with the tolerance, the check is that none comes; if
    the tolerance reaches beyond the last block, there is no verdict.

    Loss. A branch's value F changes nothing if it is less than half a unit in the last place of its
    shortcut's x: x + F rounds to x. Theory's channels (independent, with the moments that it
    expects) are rounded in the same way, and the part of nonzero F that is lost is counted. The
    number is a mean over all blocks that all networks reach. Tolerance: Student's t over S networks
    (99 %), 2.576 standard errors of theory's sample of 32768 channels, whose F is drawn anew for
    each block, and a relative 3 v / 16. The part is proportional to E(1 / f), f the deviation of F
    per that of x. Let v be the variance of log f^2: that of a branch's second moment given x, and 2
    / n for the sum of n squares of x.
    If f^2 is log-normal with mean 1, E(1 / f) = exp(3 v / 8). Images and positions share weights
    and inputs, which makes v smaller by an unknown amount: theory is raised by 3 v / 16, give or
    take as much.

    Args:
        spec: the network; without one, three small ones.
        model: as for `variance`.
        images: [N,*sides,C]; by default, independent normal numbers.
        blocks: how many follow each other at most.
        seeds: how many networks.
        seed: what they follow from.

    Raises:
        RequestError: the last block's output does not have the shape of its only input, or the
            images have another shape.
    """
    specs: Mapping[str, AnySpec] = {spec.name: spec} if spec is not None else _NETWORKS
    alone = spec is not None
    found = {
        name: measure_precision(
            one, model=model, images=images, blocks=blocks, seeds=seeds, seed=seed
        )
        for name, one in specs.items()
    }
    checks = [
        check for name, one in found.items() for check in one.checks("" if alone else f" of {name}")
    ]
    return Result(
        name="precision",
        network=", ".join(found),
        checks=checks,
        table=Table(
            columns=(
                "network",
                "format",
                "block",
                "activations",
                "theory",
                "lost",
                "theory of loss",
            ),
            rows=tuple(row for name, one in found.items() for row in one.rows(name)),
        ),
        text=_text(found, alone=alone),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed, "blocks": blocks},
    )


_NETWORKS: Mapping[str, AnySpec] = {
    name: resized(SMALL_NETWORKS[name], blocks=2, width=_WIDTH)
    for name in ("residual", "residual_sum_scaled", "residual_batch_norm")
}


@dataclasses.dataclass(kw_only=True)
class Theory:
    """What is expected of a chain, by block; shorter than the chain if a layer has no rule."""

    moments: list[float]
    """Second moments."""
    noise: list[float]
    """See `Moment.noise`."""
    peaks: list[tuple[float, float, float]]
    """The logarithm of the largest square per second moment: its mean, its standard deviation, and
    how far the mean may be off."""
    lost: dict[str, list[float]]
    """The part of the branch that is lost, by format; empty without sums."""
    branch_noise: float
    """The variance of the logarithm of a branch's second moment per its shortcut's."""
    channels: int
    """The sample that `lost` is counted in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
    """What formats do to a chain of blocks."""

    start: int
    """How many blocks come before the chain."""
    blocks: int
    """How many it has."""
    chains: Mapping[str, Any]
    """By format, a `Chain`."""
    theory: Theory
    missing: str
    """The layer without a rule, or nothing."""

    def checks(self, where: str) -> list[Check]:
        """Overflow in each format, and what short ones lose; `where` tells networks apart."""
        return [self._overflow(name, where) for name in _FORMATS] + [
            self._loss(name, where) for name in _SHORT
        ]

    def _overflow(self, name: str, where: str) -> Check:
        import numpy as np

        from reskeras.lab.rounding import largest

        counts = self.start + self.chains[name].overflow
        last = self.start + self.blocks
        measured = float(counts.mean())
        claim = f"{name}{where} overflows at this block"
        if self.missing:
            why = f"there is no rule for {self.missing}"
            return Check(claim=claim, source=_OVERFLOW, measured=measured, why_not=why)
        noise = np.array(self.theory.noise)
        peak, deviation, bracket = np.array(self.theory.peaks).T
        curve = np.log(self.theory.moments) - noise / 4 + peak
        half = noise / 4 + bracket + _CERTAIN * np.sqrt((noise + deviation**2) / len(counts))
        limit = 2 * math.log(largest(name))
        early, middle, late = (
            self.start + 1 + _crossing(curve + shift, limit) for shift in (half, 0, -half)
        )
        if early > last:
            claim = f"{name}{where} overflows at no block up to this one"
            return Check(
                claim=claim,
                source=_OVERFLOW,
                measured=float(counts.min()) - 1,
                expected=float(last),
                bound=Bound.AT_LEAST,
            )
        if late > last:
            why = f"theory expects it near block {early:.0f} or later, out of {last}"
            return Check(claim=claim, source=_OVERFLOW, measured=measured, why_not=why)
        return Check(
            claim=claim,
            source=_OVERFLOW,
            measured=measured,
            expected=middle + 0.5,
            tolerance=max(late - middle, middle - early) + 0.5,
        )

    def _loss(self, name: str, where: str) -> Check:
        import numpy as np
        from scipy import stats

        claim = f"{name}{where} loses this part of the branch"
        chain, theory = self.chains[name], self.theory.lost[name]
        end = int(np.logical_and.accumulate(np.isfinite(chain.lost).all(axis=0)).sum())
        if self.missing or not theory or end == 0:
            why = f"there is no rule for {self.missing}" if self.missing else "there is no sum"
            return Check(claim=claim, source=_LOSS, measured=math.nan, why_not=why)
        lost = chain.lost[:, :end].mean(axis=1)
        shift = 3 / 16 * self.theory.branch_noise
        expected = float(np.mean(theory[:end])) * (1 + shift)
        error = stats.t.ppf(0.995, len(lost) - 1) * stats.sem(lost)
        counted = self.theory.channels * end
        sampled = _CERTAIN * math.sqrt(expected * (1 - expected) / counted)
        return Check(
            claim=claim,
            source=_LOSS,
            measured=float(lost.mean()),
            expected=expected,
            tolerance=float(error + sampled + expected * shift),
        )

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """A row of the table for each format and block that is reached."""
        import numpy as np

        rows = []
        for format_, chain in self.chains.items():
            lost = self.theory.lost[format_]
            for place in range(int(chain.overflow.min()) - 1):
                known = place < len(self.theory.moments)
                rows.append(
                    (
                        name,
                        format_,
                        self.start + place + 1,
                        float(np.exp(np.log(chain.moments[:, place]).mean())),
                        self.theory.moments[place] if known else math.nan,
                        float(chain.lost[:, place].mean()),
                        lost[place] if place < len(lost) else math.nan,
                    )
                )
        return rows


def _crossing(curve: Any, limit: float) -> float:
    """Where a curve first reaches a limit, between two places; infinity if it does not."""
    import numpy as np

    above = np.flatnonzero(curve >= limit)
    if not len(above):
        return math.inf
    place = int(above[0])
    if place == 0:
        return 0.0
    return float(place - (curve[place] - limit) / (curve[place] - curve[place - 1]))


def measure_precision(
    spec: AnySpec, *, model: Any, images: Any, blocks: int, seeds: int, seed: int
) -> Precision:
    """Runs a network's last block in all formats; see `precision`."""
    import numpy as np

    from reskeras.lab.probe import noise_images
    from reskeras.lab.rounding import run_chains

    graph = record(spec)
    own = blocks_of(graph)
    if len(own) < 2 or not _follows(own[-1], own[-2].output):
        raise RequestError(
            f"{spec.name}: precision needs two last blocks of one shape, of which the last takes "
            "the other's output alone"
        )
    before, block = own[-2:]
    if images is None:
        images = noise_images(spec, seed)
    chains = run_chains(
        spec, before, block, images, _FORMATS, blocks=blocks, seeds=seeds, seed=seed, model=model
    )
    square = float(np.mean(np.square(images, dtype="float64")))
    ones = {node.name: np.full(node.sides, square) for node in graph.nodes}
    moments = expected_moments(spec, graph, ones)
    known = all(
        moments[node.name].known for node in graph.nodes[1 : graph.nodes.index(block.output) + 1]
    )
    theory = _theory(spec, block, moments[before.output.name], len(images), blocks)
    missing = (
        "" if known else next(name for name, one in list(moments.items())[1:] if not one.known)
    )
    return Precision(
        start=len(own) - 1, blocks=blocks, chains=chains, theory=theory, missing=missing
    )


def _follows(block: Block, before: Node) -> bool:
    inputs = {each for node in block.nodes for each in node.inputs} - set(block.nodes)
    return inputs == {before} and before.shape == block.output.shape


def _theory(spec: AnySpec, block: Block, start: Moment, images: int, blocks: int) -> Theory:
    import numpy as np

    from reskeras.lab.rounding import rounded

    random = np.random.default_rng(2)
    added = next((node for node in reversed(block.nodes) if node.kind == "Add"), None)
    output = block.output
    branch_noise = 0.0
    exact = dataclasses.replace(start, noise=0.0)
    for found in moments_of_chain(spec, block, exact, 1):
        if added is not None:
            branch_noise = found[added.inputs[1].name].noise + 2 / output.channels
    theory = Theory(
        moments=[],
        noise=[],
        peaks=[],
        lost={name: [] for name in _FORMATS},
        branch_noise=branch_noise,
        channels=len(start.sample),
    )
    for found in moments_of_chain(spec, block, start, blocks):
        moment = found[output.name]
        theory.moments.append(moment.mean)
        theory.noise.append(moment.noise)
        theory.peaks.append(_peak(moment, output, images, random))
        if added is not None:
            sides = [found.get(each.name, start) for each in added.inputs]
            places = random.integers(sides[0].map.size, size=len(start.sample))
            x, branch = (np.sqrt(each.map.ravel()[places]) * each.sample for each in sides)
            for name, lost in theory.lost.items():
                one, other = rounded(x, name), rounded(branch, name)
                with np.errstate(over="ignore", invalid="ignore"):
                    total = one + other
                counted = np.isfinite(total) & (other != 0)
                lost.append(float(np.mean((total == one)[counted])) if counted.any() else math.nan)
        start = moment
    return theory


def _peak(moment: Moment, output: Node, images: int, random: Any) -> tuple[float, float, float]:
    """See `Theory.peaks`."""
    import numpy as np
    from scipy.special import ndtri

    places = random.integers(moment.map.size, size=len(moment.sample))
    values = np.abs(np.sqrt(moment.map.ravel()[places] / moment.mean) * moment.sample)
    tail = np.quantile(values, _TAIL) / ndtri((1 + _TAIL) / 2)
    chances = (np.arange(200) + 0.5) / 200
    few, many = (
        2 * np.log(tail * ndtri((1 + chances ** (1 / count)) / 2))
        for count in (output.channels, output.elements * images)
    )
    middle, bracket = (few.mean() + many.mean()) / 2, (many.mean() - few.mean()) / 2
    return float(middle), float(few.std()), float(bracket)


def _text(found: Mapping[str, Precision], *, alone: bool) -> str:
    told = []
    for name, one in found.items():
        depths = []
        for format_ in _FORMATS:
            count = one.chains[format_].overflow.mean()
            where = "at no block" if count > one.blocks else f"at block {one.start + count:.0f}"
            depths.append(f"{format_} {where}")
        told.append(f"{'' if alone else f'{name}: '}{', '.join(depths)}")
    return (
        "Formats overflow where second moments grow by a factor per block: "
        f"{'; '.join(told)}. bfloat16 has the range of float32, but each sum loses eight times as "
        "many of the branch's values as in float16."
    )


def _figure(found: Mapping[str, Precision]) -> Any:
    import numpy as np

    def lines(name: str, side: str) -> list[Line]:
        made = []
        for label, one in found.items():
            chain = one.chains[name]
            end = int(chain.overflow.min()) - 1
            values = getattr(chain, side)[:, :end]
            theory = one.theory.moments if side == "moments" else one.theory.lost[name]
            places = np.unique(np.linspace(0, end - 1, 40).astype(int))
            made.append(
                Line(
                    label=label,
                    x=(places + one.start + 1).tolist(),
                    y=np.exp(np.log(values[:, places]).mean(axis=0))
                    if side == "moments"
                    else values[:, places].mean(axis=0),
                    theory=[theory[place] if place < len(theory) else math.nan for place in places],
                )
            )
        return made

    return lines_figure(
        [
            Panel(
                title="activations in float32",
                x="block",
                y="second moment",
                lines=lines("float32", "moments"),
                log=True,
            ),
            Panel(
                title="what bfloat16 loses of the branch",
                x="block",
                y="part",
                lines=lines("bfloat16", "lost"),
            ),
        ]
    )
