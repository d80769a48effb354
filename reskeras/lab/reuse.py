"""Which layers a layer's weights come from, in networks that concatenate. Without Keras."""

import dataclasses

from reskeras.nets.graph import Graph, Node


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A layer whose output is part of another one's input."""

    node: Node
    channels: slice
    """Where its channels are in that input."""


def sources_of(node: Node) -> tuple[Source, ...]:
    """The layers whose outputs are concatenated to what a layer with a kernel takes, in order."""
    found: list[Source] = []
    begin = 0
    for part in _parts(node.inputs[0]):
        found.append(Source(node=part, channels=slice(begin, begin + part.channels)))
        begin += part.channels
    return tuple(found)


def targets_of(graph: Graph) -> dict[str, list[Node]]:
    """The layers with a kernel that take concatenated outputs, by their first source.

    Those of one dense stage have the same first source: what the stage takes.
    """
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.kernel is None or not node.inputs:
            continue
        sources = sources_of(node)
        if len(sources) > 1:
            found.setdefault(sources[0].node.name, []).append(node)
    return found


def _parts(node: Node) -> list[Node]:
    if node.kind == "Concatenate":
        return [part for each in node.inputs for part in _parts(each)]
    passes = node.kernel is None and len(node.inputs) == 1
    if passes and node.channels == node.inputs[0].channels:
        return _parts(node.inputs[0])
    return [node]
