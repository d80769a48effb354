"""The gradient through the identity path alone, and the whole gradient, by depth."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.lab.experiments.variance import Growths, measure
from reskeras.lab.identity_path import IdentityPath, identity_path
from reskeras.lab.networks import ACTIVATED_SUMS, SMALL_NETWORKS
from reskeras.lab.result import Check, Result, Table
from reskeras.nets.graph import Node, record
from reskeras.spec import AnySpec

_SOURCE = "He 2016, arXiv 1603.05027, Eq. 5 to 8"
_NETWORKS: Mapping[str, AnySpec] = {
    **{
        name: SMALL_NETWORKS[name]
        for name in ("plain", "plain_glorot", "residual", "residual_sum_scaled")
    },
    ACTIVATED_SUMS.name: ACTIVATED_SUMS,
}
_ROUNDING = 2.0**-22
"""In float32, a factor and each product with it are rounded, each by at most 2^-24 of its size; the
square doubles that."""


def gradients(
    spec: AnySpec | None = None,
    *,
    model: Any = None,
    images: Any = None,
    seeds: int = 8,
    seed: int = 0,
) -> Result:
    """The gradient at the first block's output: through the identity path alone, and the whole.

    The first claim is about the identity path. All gradients that would cross a layer with weights
    are stopped, and that at the last block's output is set to random signs, so its second moment is
    1. With y = x + F(x) in each block, dy/dx = 1 + dF/dx, and what is left is the product of ones:
    the second moment at the first block's output is 1, at any depth and with any weights. A factor
    s on each sum (or on each shortcut) makes it s^2 for each block, an activated sum its ReLU's
    slope of 0 or 1, for each image, position and channel. Without shortcuts it is 0.

    The expected number is the product of these slopes along the path that is read from the spec's
    graph. If there are ReLUs on it, their slopes follow from what they put out in the same forward
    pass; otherwise the number follows from the spec alone. This is an identity, not a statistic:
    the tolerance is what float32 rounds, which is nothing for slopes of 0 and 1, and at most 2^-22
    of the number for each factor s.

    The path is that of the longest run of blocks with such shortcuts, mostly a stage: projections
    have weights. Norms, gates, dropout or pools on shortcuts have another slope, and leave no
    theory.

    The second claim is about the whole gradient, whose second moment grows by a factor for each
    block. See `variance` for its theory and tolerance.

    Args:
        spec: the network; without one, five small ones.
        model: as for `variance`.
        images: [N,*sides,C]; by default, independent normal numbers.
        seeds: how many initializations.
        seed: what they follow from.

    Raises:
        RequestError: the network has fewer than two blocks, or the images have another shape.
    """
    specs = {spec.name: spec} if spec is not None else _NETWORKS
    alone = spec is not None
    found = {
        name: _measure(one, model=model, images=images, seeds=seeds, seed=seed)
        for name, one in specs.items()
    }
    checks = [
        check for name, one in found.items() for check in one.checks("" if alone else f" of {name}")
    ]
    return Result(
        name="gradients",
        network=", ".join(found),
        checks=checks,
        table=Table(
            columns=(
                "network",
                "block",
                "gradients",
                "theory of gradients",
                "through the identity path",
                "theory of the identity path",
            ),
            rows=tuple(row for name, one in found.items() for row in one.rows(name)),
        ),
        text=_text(found, alone=alone),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gradients:
    """What a network's blocks do to gradients."""

    whole: Growths
    path: IdentityPath | Node
    """The identity path, or the layer that leaves no theory."""
    measured: Any = None
    """Second moments through the path at its blocks' outputs [S,B]."""
    theory: Any = None
    """What they should be [S,B]."""

    def checks(self, where: str) -> list[Check]:
        """The identity path, and the whole gradient; `where` tells networks apart."""
        return [self._path_check(where), self.whole.checks(where)[1]]

    def _path_check(self, where: str) -> Check:
        if isinstance(self.path, Node):
            claim = f"gradients{where} pass the identity path"
            why = f"{self.path.name} on the shortcut has no known slope"
            return Check(claim=claim, source=_SOURCE, measured=math.nan, why_not=why)
        expected = float(self.theory[:, 0].mean())
        names = self.path.blocks[0].name, self.path.blocks[-1].name
        return Check(
            claim=f"the identity path alone{where} leaves this part of the gradient, "
            f"from {names[1]} back to {names[0]}",
            source=_SOURCE,
            measured=float(self.measured[:, 0].mean()),
            expected=expected,
            tolerance=expected * len(self.path.factors) * _ROUNDING,
        )

    def by_block(self, values: Any) -> dict[str, float]:
        """Second moments through the path by block, a mean over initializations."""
        if isinstance(self.path, Node):
            return {}
        means = values.mean(axis=0).tolist()
        return dict(zip((block.name for block in self.path.blocks), means, strict=True))

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """A row of the table for each block."""
        measured, theory = self.by_block(self.measured), self.by_block(self.theory)
        return [
            (name, block, whole, expected, measured.get(block), theory.get(block))
            for _, block, _, _, whole, expected in self.whole.rows(name)
        ]


def _measure(spec: AnySpec, *, model: Any, images: Any, seeds: int, seed: int) -> Gradients:
    import numpy as np

    from reskeras.lab.probe import gradients_without_weights, noise_images

    if images is None:
        images = noise_images(spec, seed)
    whole = measure(spec, model=model, images=images, seeds=seeds, seed=seed)
    path = identity_path(record(spec))
    if isinstance(path, Node):
        return Gradients(whole=whole, path=path)
    measured, theory = [], []
    for one in gradients_without_weights(
        spec,
        images,
        [block.output.name for block in path.blocks],
        between=path.activations,
        seeds=seeds,
        seed=seed,
        model=model,
    ):
        measured.append(list(map(_second_moment, one.gradients)))
        theory.append(list(map(_second_moment, path.gradients(one.gradients[-1], one.outputs))))
    return Gradients(whole=whole, path=path, measured=np.array(measured), theory=np.array(theory))


def _second_moment(values: Any) -> float:
    return float((values.astype("float64") ** 2).mean())


def _text(found: Mapping[str, Gradients], *, alone: bool) -> str:
    told = "; ".join(
        f"{'' if alone else f'{name}: '}{one.measured[:, 0].mean():.3g} through the identity path, "
        f"x{one.whole.backward.measured:.3g} per block in all"
        for name, one in found.items()
        if one.measured is not None
    )
    return (
        "Second moments of gradients at initialization, from the last block back to the first: "
        f"{told}. The identity path hands the gradient on as it is, whatever the weights are; "
        "without shortcuts, all of it depends on the weights' scale."
    )


def _figure(found: Mapping[str, Gradients]) -> Any:
    import numpy as np

    whole, through = [], []
    for name, one in found.items():
        blocks = one.whole.blocks
        places = range(1, len(blocks) + 1)
        growth = one.whole.backward
        with np.errstate(over="ignore"):
            low, high = np.exp(np.quantile(growth.logs, (0.05, 0.95), axis=0))
            mean = np.exp(growth.logs.mean(axis=0))
        whole.append(Line(label=name, x=places, y=mean, low=low, high=high, theory=growth.theory))
        measured, theory = one.by_block(one.measured), one.by_block(one.theory)
        through.append(
            Line(
                label=name,
                x=[blocks.index(block) + 1 for block in measured],
                y=list(measured.values()),
                theory=list(theory.values()),
            )
        )
    return lines_figure(
        [
            Panel(title="whole gradient", x="block", y="second moment", lines=whole, log=True),
            Panel(
                title="through the identity path alone", x="block", y="second moment", lines=through
            ),
        ]
    )
