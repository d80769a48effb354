"""U-Nets: encoder levels on the left, bridge, decoder levels on the right, skips between them."""

from typing import NamedTuple

from reskeras.drawing.canvas import Canvas, Point
from reskeras.drawing.inset import Unit, inset, pick, units_of
from reskeras.drawing.levels import (
    FORK,
    MOST_OF_ENCODER,
    RADIUS,
    Row,
    bridge_words,
    draw_head,
    draw_input,
    draw_solids,
    middles_of,
    most_of,
    other_encoder,
    own_encoder,
    row_height,
    row_of,
    row_width,
    scale_of,
    tail,
)
from reskeras.drawing.nested import draw_nested
from reskeras.drawing.page import draw_beside, pill, symbol
from reskeras.drawing.palette import GRAY, GREEN, INK, SMALL
from reskeras.drawing.solids import shown, slabs_of
from reskeras.drawing.tracing import Trace
from reskeras.spec import DenseNet, DenseStage, Features, ResNet, Stage, UNet


class Fork(NamedTuple):
    """Where a level's maps go to the next level and across."""

    edge: float
    """The right edge of the level's solids."""
    x: float
    y: float


def draw_ushape(trace: Trace, spec: UNet, wide: float) -> tuple[Canvas, Canvas]:
    """The network, and one of its blocks layer by layer."""
    left = (
        other_encoder(trace, spec, spec.encoder)
        if isinstance(spec.encoder, ResNet | DenseNet)
        else own_encoder(trace, spec)
    )
    *rows, bridge = left
    names = [f"decoder{number}" for number in range(1, len(rows) + 1)]
    unit = pick(trace, _units(spec))
    canvas = Canvas()
    if spec.decoder == "nested":
        draw_nested(canvas, trace, spec, rows, bridge, unit.name, wide)
    else:
        right = [
            row_of(trace, name, spec.block, level.blocks, GREEN, most=most_of(spec))
            for name, level in zip(names, spec.stages, strict=False)
        ]
        _draw_plain(canvas, trace, spec, rows, bridge, right, unit.name, wide)
    return canvas, inset(trace, unit)


def _units(spec: UNet) -> list[Unit]:
    if isinstance(spec.encoder, ResNet | DenseNet):
        block, most = spec.encoder.block, MOST_OF_ENCODER
        parts: tuple[Stage | DenseStage, ...] = spec.encoder.stages
        stages = [
            (f"encoder_stage{number}", f"encoder, stage {number}", stage.blocks)
            for number, stage in enumerate(parts, start=1)
        ]
    else:
        block, most = spec.block, most_of(spec)
        *levels, bridge = spec.stages
        stages = [
            (f"encoder{number}", f"encoder, level {number}", level.blocks)
            for number, level in enumerate(levels, start=1)
        ]
        stages.append(("bridge", "bridge", bridge.blocks))
    return [
        unit
        for name, title, blocks in stages
        for unit in units_of(name, title, block, shown(blocks, most))
    ]


def _draw_plain(
    canvas: Canvas,
    trace: Trace,
    spec: UNet,
    rows: list[Row],
    bridge: Row,
    right: list[Row],
    unit: str,
    wide: float,
) -> None:
    beside = sum(
        max((line.width for row in side for line in row.lines), default=0.0)
        for side in (rows, right)
    )
    scale = scale_of([*rows, bridge, *right], unit, wide - beside - 60)
    levels = list(zip([*rows, bridge], [*right, bridge], strict=True))
    # Text beside a row may be taller than the row.
    heights = [
        max(max(row_height(scale, row), 15.0 * len(row.lines)) for row in level) for level in levels
    ]
    between = [max(tail(scale, row) for row in level) + 30 for level in levels[:-1]]
    middles = middles_of(heights, between)
    # How far the two sides move apart, so that the U is about as wide as the page.
    solids = sum(row_width(scale, row) + 2 * FORK for row in [*rows, *right])
    spread = min(max(wide - solids - row_width(scale, bridge) - beside - 60, 0), 260)

    x, forks = 0.0, []
    for row, middle in zip(rows, middles, strict=False):
        edge = draw_solids(canvas, row, scale, x, middle)[-1].right
        draw_beside(canvas, row.lines, (x - 9, middle), "right")
        forks.append(Fork(edge, edge + FORK, middle))
        x = edge + FORK - 8
    start = forks[-1].x + 30 + spread / 2
    parts = draw_solids(canvas, bridge, scale, start, middles[-1])
    bridge_words(canvas, scale, bridge, parts)
    for fork, row, below in zip(forks[:-1], rows[1:], middles[1:], strict=False):
        first = slabs_of(row.groups)[0]
        top = below - scale.height(first) / 2 + scale.lean(first)[1] / 2
        canvas.arrow([(fork.x, fork.y), (fork.x, top)])
    x, y = forks[-1].x, middles[-1]
    canvas.arrow([(x, forks[-1].y), (x, y), (start - 2, y)])

    end = parts[-1].right
    x = end + 30 + spread / 2
    way: list[Point] = [(end, y), (x, y)]
    for number in range(len(rows), 0, -1):
        row, fork = right[number - 1], forks[number - 1]
        left = x + RADIUS + FORK
        canvas.line([(fork.edge, fork.y), (fork.x, fork.y)])
        if _has_skip(trace, number):
            canvas.arrow([*way, (x, fork.y + RADIUS)])
            _draw_skip(canvas, spec, fork, x, crop=f"decoder{number}_crop" in trace.nodes)
            canvas.arrow([(x + RADIUS, fork.y), (left - 2, fork.y)])
        else:
            canvas.arrow([*way, (x, fork.y), (left - 2, fork.y)])
        drawn = draw_solids(canvas, row, scale, left, fork.y)[-1]
        words_x = drawn.right + 9
        if spec.deep_supervision and number > 1:
            box = pill(canvas, [f"head {number}"], left=drawn.right + 18, at=fork.y)
            canvas.arrow([(drawn.right, fork.y), (box.left - 1, fork.y)])
            words_x = box.right + 9
        draw_beside(canvas, row.lines, (words_x, fork.y), "left")
        last = slabs_of(row.groups)[-1]
        lean = scale.lean(last)
        x = drawn.front.right - scale.thickness(last) / 2 + lean[0] / 2
        way = [(x, fork.y - scale.height(last) / 2 + lean[1] / 2)]
    draw_input(canvas, trace, spec, rows[0], scale, middles[0])
    if not isinstance(spec.head, Features):
        draw_head(canvas, trace, spec, way[-1])


def _has_skip(trace: Trace, number: int) -> bool:
    return any(f"decoder{number}_{how}" in trace.nodes for how in ("concat", "add"))


def _draw_skip(canvas: Canvas, spec: UNet, fork: Fork, end: float, *, crop: bool) -> None:
    """Draws a skip from its fork to where it meets the decoder, at x = `end`."""
    x, y = fork.x, fork.y
    canvas.dot((x, y), 1.8, INK)
    if spec.skip == "attention":
        gate, lower = end - RADIUS - 26, y + 0.5 * (RADIUS + 22)
        canvas.arrow([(x, y), (gate - RADIUS, y)])
        symbol(canvas, (gate, y), "gate", radius=RADIUS)
        canvas.arrow([(end, lower), (gate, lower), (gate, y + RADIUS)], thick=0.7)
        x = gate + RADIUS
    canvas.arrow([(x, y), (end - RADIUS, y)])
    if crop:
        canvas.text(((x + end - RADIUS) / 2, y - 9), "crop", size=SMALL, color=GRAY)
    symbol(canvas, (end, y), "add" if spec.skip == "add" else "concat", radius=RADIUS)
