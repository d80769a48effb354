"""What of the input passes a first block that begins with ReLU."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.moments import Block, blocks_of
from reskeras.lab.networks import ACTIVATED_SUMS, SMALL_NETWORKS
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.graph import Graph, Node, record
from reskeras.spec import AnySpec

_SOURCE = "relu(x) = relu(max(x, 0)); He 2016, arXiv 1603.05027, Appendix"
_UNIT = 2.0**-24
"""By which part float32 rounds at most."""


def start(
    spec: AnySpec | None = None,
    *,
    model: Any = None,
    images: Any = None,
    seeds: int = 4,
    seed: int = 0,
) -> Result:
    """Removes the negative parts of the input, and looks for a change behind the first block.

    The number is the root mean square of the change of the first block's branch, per that of the
    branch. Once, the block gets raw input: independent normal numbers in place of what the stem
    puts out. Once, the network gets images, whose negative parts are removed before the stem.

    A branch that begins with ReLU cannot tell x from max(x, 0): on raw input, the change is exactly
    0, at any weights, with no tolerance. Behind a linear layer the sign of a unit depends on all of
    its inputs, so the change must be more than what float32 rounds. A sum of n products is off by
    at most n 2^-24 of the sum of their sizes (Higham 2002, Eq. 3.5), and that sum is at most
    sqrt(n) times the root mean square that random signs leave: n^1.5 2^-24 for each layer up to the
    branch's end, summed.

    If a norm, another activation or weights come first, there is no theory of raw input.

    Args:
        spec: the network; without one, three small ones.
        model: as for `variance`.
        images: [N,*sides,C]; by default, independent normal numbers. Images without a negative
            number are centered at their mean first.
        seeds: how many initializations.
        seed: what they follow from.

    Raises:
        RequestError: the network's first block has no branch of its own, or the images have another
            shape.
    """
    specs: Mapping[str, AnySpec] = {spec.name: spec} if spec is not None else _NETWORKS
    alone = spec is not None
    found = {
        name: _measure(one, model=model, images=images, seeds=seeds, seed=seed)
        for name, one in specs.items()
    }
    checks = [
        check for name, one in found.items() for check in one.checks("" if alone else f" of {name}")
    ]
    return Result(
        name="start",
        network=", ".join(found),
        checks=checks,
        table=Table(
            columns=("network", "layer", "raw input", "behind the stem"),
            rows=tuple(
                (name, layer, one.raw[place], one.behind[place])
                for name, one in found.items()
                for place, layer in enumerate(one.layers)
            ),
        ),
        text=_text(found, alone=alone),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed},
    )


_NETWORKS: Mapping[str, AnySpec] = {
    spec.name: spec
    for spec in (SMALL_NETWORKS["residual"], SMALL_NETWORKS["residual_batch_norm"], ACTIVATED_SUMS)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """How far a network's layers change if the negative parts of the input are removed."""

    layers: list[str]
    """The end of the first block's branch, and all blocks."""
    raw: list[float]
    """By layer, a mean over initializations: on raw input."""
    behind: list[float]
    """The same behind the stem."""
    first: Node | None
    """The layer that keeps theory away, if there is one."""
    rounding: float
    """What float32 explains of the change behind the stem."""

    def checks(self, where: str) -> list[Check]:
        """On raw input and behind the stem; `where` tells networks apart."""
        raw = Check(
            claim=f"on raw input, this part of the first branch{where} depends on what is negative",
            source=_SOURCE,
            measured=self.raw[0],
            expected=0.0,
        )
        if self.first is not None:
            why = f"the branch begins with {self.first.name}, not with ReLU"
            raw = dataclasses.replace(raw, expected=None, why_not=why)
        behind = Check(
            claim=f"behind the stem, this part of the first branch{where} does",
            source=_SOURCE,
            measured=self.behind[0],
            expected=0.0,
            bound=Bound.AT_LEAST,
            tolerance=-self.rounding,
        )
        return [raw, behind]


def _measure(spec: AnySpec, *, model: Any, images: Any, seeds: int, seed: int) -> Start:
    import numpy as np

    from reskeras.lab.probe import changes, noise_images

    graph = record(spec)
    blocks = blocks_of(graph)
    if not blocks:
        raise RequestError(f"{spec.name}: has no block to start with")
    entry, branch = _entry(spec, blocks[0]), _branch(blocks[0])
    layers = [branch.name, *(block.output.name for block in blocks)]
    if images is None:
        images = noise_images(spec, seed)
    elif images.min() >= 0:
        images = images - images.mean()
    raw_input = np.random.default_rng(seed).standard_normal((len(images), *entry.shape), "float32")
    raw, behind = (
        changes(spec, begin, layers, values, seeds=seeds, seed=seed, model=model)
        for begin, values in ((entry.name, raw_input), (graph.nodes[0].name, images))
    )
    return Start(
        layers=[f"{blocks[0].name} branch", *(block.name for block in blocks)],
        raw=raw.mean(axis=0).tolist(),
        behind=behind.mean(axis=0).tolist(),
        first=_not_rectified(blocks[0], entry, branch),
        rounding=_rounding(graph, branch),
    )


def _entry(spec: AnySpec, block: Block) -> Node:
    """What a block takes."""
    inputs = {each for node in block.nodes for each in node.inputs} - set(block.nodes)
    if len(inputs) != 1:
        raise RequestError(f"{spec.name}: the first block has {len(inputs)} inputs, not one")
    return inputs.pop()


def _branch(block: Block) -> Node:
    """The end of a block's branch: what is added or joined to the shortcut, or the whole block."""
    for node in reversed(block.nodes):
        if node.kind in ("Add", "Concatenate"):
            return node.inputs[1]
    return block.output


def _not_rectified(block: Block, entry: Node, branch: Node) -> Node | None:
    """The first layer on a way from a block's input to its branch's end that is no ReLU."""
    needed, waiting = {branch}, [branch]
    while waiting:
        for each in waiting.pop().inputs:
            if each in block.nodes and each not in needed:
                needed.add(each)
                waiting.append(each)
    return next(
        (
            node
            for node in block.nodes
            if node in needed and entry in node.inputs and node.kind != "ReLU"
        ),
        None,
    )


def _rounding(graph: Graph, branch: Node) -> float:
    before = list(graph.nodes)[: list(graph.nodes).index(branch) + 1]
    inputs = [math.prod(node.kernel[:-1]) for node in before if node.kernel is not None]
    return sum(_UNIT * math.sqrt(count) ** 3 for count in inputs)


def _text(found: Mapping[str, Start], *, alone: bool) -> str:
    told = "; ".join(
        f"{'' if alone else f'{name}: '}{one.raw[0]:.3g} on raw input, {one.behind[0]:.3g} behind "
        "the stem"
        for name, one in found.items()
    )
    return (
        "If the negative parts of the input are removed, the first block's branch changes by this "
        f"part: {told}. A block that begins with ReLU never sees what is negative in its input; a "
        "linear layer before it mixes signs, and the block sees all of its input."
    )


def _figure(found: Mapping[str, Start]) -> Any:
    def lines(side: str) -> list[Line]:
        return [
            Line(label=name, x=range(1, len(one.layers)), y=getattr(one, side)[1:])
            for name, one in found.items()
        ]

    return lines_figure(
        [
            Panel(title=title, x="block", y="change without negative parts", lines=lines(side))
            for title, side in (("on raw input", "raw"), ("behind the stem", "behind"))
        ]
    )
