"""The identity path of a network: what leads from block to block through no weights.

In a plain network there is none: every path crosses the convolutions of each block. With identity
shortcuts it leads through additions alone; activated sums put a ReLU on it, scaled sums a factor.
A dense layer's concatenation carries its input on.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from reskeras.lab.moments import Array, Block, blocks_of, is_plain_rescaling
from reskeras.nets.graph import SAME_NUMBERS, Graph, Node


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentityPath:
    """The longest run of blocks whose identity path has only layers of a known slope."""

    blocks: tuple[Block, ...]
    nodes: tuple[Node, ...]
    """The layers on it behind the first block's output, in execution order; none if weights are on
    every path."""

    @property
    def activations(self) -> list[str]:
        """Its ReLUs."""
        return [node.name for node in self.nodes if node.kind == "ReLU"]

    @property
    def factors(self) -> list[float]:
        """What it multiplies by."""
        return [node.settings["scale"] for node in self.nodes if node.kind == "Rescaling"]

    def gradients(self, last: Array, outputs: Mapping[str, Array]) -> list[Array]:
        """The gradient at each block's output through this path alone.

        Args:
            last: that at the last block's output [N,*sides,C].
            outputs: of its activations, by name [N,*sides,C].
        """
        ends = [block.output for block in self.blocks]
        gradients = {ends[-1]: last.astype("float64")}
        on_it = {ends[0], *self.nodes}
        for node in reversed(self.nodes):
            gradient = gradients[node]
            if node.kind == "ReLU":
                gradient = gradient * (outputs[node.name] > 0)
            elif node.kind == "Rescaling":
                gradient = gradient * node.settings["scale"]
            begin = 0
            for source in node.inputs:
                end = begin + source.channels
                if source in on_it:
                    part = gradient[..., begin:end] if node.kind == "Concatenate" else gradient
                    gradients[source] = gradients.get(source, 0) + part
                begin = end
        return [gradients.get(end, np.zeros((len(last), *end.shape))) for end in ends]


def identity_path(graph: Graph) -> IdentityPath | Node:
    """The identity path of a network with two or more blocks.

    Returns:
        The longest; the whole plain network if weights are everywhere between its blocks; or, if no
        two blocks are joined by layers of a known slope alone, the first layer of another kind.
    """
    blocks = blocks_of(graph)
    steps = [
        _weightless(graph, before.output, after.output)
        for before, after in itertools.pairwise(blocks)
    ]
    if not any(steps):
        return IdentityPath(blocks=blocks, nodes=())
    longest = begin = end = 0
    for place, step in enumerate(steps):
        if not step or not all(map(_is_known, step)):
            begin = place + 1
        elif place + 1 - begin > longest:
            longest, end = place + 1 - begin, place + 1
    if not longest:
        return next(node for step in steps for node in step if not _is_known(node))
    run = slice(end - longest, end)
    return IdentityPath(
        blocks=blocks[end - longest : end + 1],
        nodes=tuple(node for step in steps[run] for node in step),
    )


def _is_known(node: Node) -> bool:
    if node.kind == "Rescaling":
        return is_plain_rescaling(node)
    return node.kind in {"Add", "Concatenate", "ReLU"} | SAME_NUMBERS


def _weightless(graph: Graph, start: Node, end: Node) -> tuple[Node, ...]:
    """The layers behind `start` on the ways to `end` that cross no weights."""
    reached = {start}
    for node in graph.nodes:
        if node.kernel is None and not reached.isdisjoint(node.inputs):
            reached.add(node)
    needed: set[Node] = set()
    waiting = [end] if end in reached else []
    while waiting:
        node = waiting.pop()
        if node in reached and node not in needed:
            needed.add(node)
            waiting += node.inputs
    return tuple(node for node in graph.nodes if node in needed - {start})
