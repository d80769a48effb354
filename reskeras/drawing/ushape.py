"""U-Nets: encoder levels on the left, bridge, decoder levels on the right, skips between them."""

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
    everything = list(zip([*rows, bridge], [*right, bridge], strict=True))
    heights = [max(row_height(scale, one_row) for one_row in pair) for pair in everything]
    # Text beside a row may be taller than the row.
    heights = [
        max(height, 15.0 * max(len(one_row.lines) for one_row in pair))
        for height, pair in zip(heights, everything, strict=True)
    ]
    between = [max(tail(scale, one_row) for one_row in pair) + 30 for pair in everything[:-1]]
    middles = middles_of(heights, between)
    # How far the two sides move apart, so that the U is about as wide as the page.
    solids = sum(row_width(scale, row) + 2 * FORK for row in [*rows, *right]) + row_width(
        scale, bridge
    )
    spread = min(max(wide - solids - beside - 60, 0), 260)

    x, forks = 0.0, []
    for row, middle in zip(rows, middles, strict=False):
        drawn = draw_solids(canvas, row, scale, x, middle)
        draw_beside(canvas, row.lines, (x - 9, middle), "right")
        fork = drawn[-1].right + FORK
        forks.append((drawn[-1].right, fork, middle))
        x = fork - 8
    start = forks[-1][1] + 30 + spread / 2
    parts = draw_solids(canvas, bridge, scale, start, middles[-1])
    bridge_words(canvas, scale, bridge, parts)
    for (_, fork, middle), row, below, next_x in zip(
        forks,
        [*rows[1:], bridge],
        middles[1:],
        [*(one_fork[1] for one_fork in forks[:-1]), None],
        strict=True,
    ):
        if next_x is None:
            canvas.arrow([(fork, middle), (fork, below), (start - 2, below)])
        else:
            first = slabs_of(row.groups)[0]
            canvas.arrow(
                [(fork, middle), (fork, below - scale.height(first) / 2 + scale.lean(first)[1] / 2)]
            )
    came: Point = (parts[-1].right, middles[-1])
    meet_x = parts[-1].right + 30 + spread / 2
    for number in range(len(rows), 0, -1):
        row, middle = right[number - 1], middles[number - 1]
        edge, fork, _ = forks[number - 1]
        skips = _has_skip(trace, number)
        gated = spec.skip == "attention" and skips
        way = [came, (meet_x, came[1])] if number == len(rows) else [came]
        left = meet_x + RADIUS + FORK
        if skips:
            canvas.arrow([*way, (meet_x, middle + RADIUS)])
            canvas.line([(edge, middle), (fork, middle)])
            canvas.dot((fork, middle), 1.8, INK)
            stop = meet_x - RADIUS
            if gated:
                at = stop - 26
                canvas.arrow([(fork, middle), (at - RADIUS, middle)])
                symbol(canvas, (at, middle), "gate", radius=RADIUS)
                fork = at + RADIUS
                lower = middle + 0.5 * (RADIUS + 22)
                canvas.arrow([(meet_x, lower), (at, lower), (at, middle + RADIUS)], thick=0.7)
            canvas.arrow([(fork, middle), (stop, middle)])
            if f"decoder{number}_crop" in trace.maps:
                canvas.text(((fork + stop) / 2, middle - 9), "crop", size=SMALL, color=GRAY)
            symbol(
                canvas, (meet_x, middle), "add" if spec.skip == "add" else "concat", radius=RADIUS
            )
            canvas.arrow([(meet_x + RADIUS, middle), (left - 2, middle)])
        else:
            canvas.line([(edge, middle), (fork, middle)])
            canvas.arrow([*way, (meet_x, middle), (left - 2, middle)])
        drawn = draw_solids(canvas, row, scale, left, middle)
        words_x = drawn[-1].right + 9
        if spec.deep_supervision and number > 1:
            box = pill(canvas, [f"head {number}"], left=drawn[-1].right + 18, at=middle)
            canvas.arrow([(drawn[-1].right, middle), (box.left - 1, middle)])
            words_x = box.right + 9
        draw_beside(canvas, row.lines, (words_x, middle), "left")
        last = slabs_of(row.groups)[-1]
        meet_x = drawn[-1].front.right - scale.thickness(last) / 2 + scale.lean(last)[0] / 2
        came = (meet_x, middle - scale.height(last) / 2 + scale.lean(last)[1] / 2)
    draw_input(canvas, trace, spec, rows[0], scale, middles[0])
    if not isinstance(spec.head, Features):
        draw_head(canvas, trace, spec, came)


def _has_skip(trace: Trace, number: int) -> bool:
    return any(f"decoder{number}_{how}" in trace.maps for how in ("concat", "add"))
