"""The residual blocks of a network, without Keras."""

from reskeras.lab.moments import Block, blocks_of
from reskeras.nets.graph import record
from reskeras.spec import AnySpec

ADD = "_add"
"""Ends the name of the layer that adds a block's branch to its shortcut."""


def residual_blocks(spec: AnySpec) -> list[Block]:
    """The blocks that add a branch to a shortcut, in execution order."""
    return [
        block
        for block in blocks_of(record(spec))
        if any(node.name == block.name + ADD for node in block.nodes)
    ]


def changes_shape(block: Block) -> bool:
    """Whether the shape of a block's output is another than that of its input."""
    return block.nodes[0].inputs[0].shape != block.output.shape
