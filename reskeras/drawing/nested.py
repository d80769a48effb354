"""The triangle of nodes of a nested U-Net (arXiv 1807.10165, Fig. 1a)."""

from reskeras.drawing.canvas import Canvas
from reskeras.drawing.levels import (
    FORK,
    RADIUS,
    Row,
    bridge_words,
    draw_head,
    draw_input,
    draw_solids,
    middles_of,
    row_height,
    row_of,
    row_width,
    scale_of,
    tail,
)
from reskeras.drawing.page import draw_beside, pill, symbol
from reskeras.drawing.palette import GRAY, GREEN
from reskeras.drawing.solids import Drawn
from reskeras.drawing.tracing import Trace
from reskeras.spec import Features, UNet


def draw_nested(
    canvas: Canvas, trace: Trace, spec: UNet, rows: list[Row], bridge: Row, unit: str, wide: float
) -> None:
    """Draws rows of nodes; each leads to all later ones in its row and to one in the row above."""
    nodes = [
        [row, *(_node(trace, spec, i, j, len(rows)) for j in range(1, len(rows) + 1 - i))]
        for i, row in enumerate(rows)
    ]
    nodes.append([bridge])
    scale = scale_of([row for rows in nodes for row in rows], unit)
    depth = len(nodes) - 1
    heights = [max(row_height(scale, rows[0]), 45.0) for rows in nodes]
    middles = middles_of(
        heights, [30 + tail(scale, rows[0]) + 5 * max(len(rows) - 2, 0) for rows in nodes[1:]]
    )
    widest = max(row_width(scale, row) for rows in nodes for row in rows)
    words = max(line.width for line in nodes[0][0].lines)
    step = max(
        (widest + 2 * RADIUS + 2 * FORK + 18) / 2,
        min((wide - words - widest - 40) / (2 * depth), 78),
    )
    drawn: dict[tuple[int, int], list[Drawn]] = {}
    for i, line in enumerate(nodes):
        for j, row in enumerate(line):
            left = (i + 2 * j) * step
            drawn[i, j] = draw_solids(canvas, row, scale, left, middles[i])
            if j == 0 and i < depth:
                draw_beside(canvas, row.lines, (left - 9, middles[i]), "right")
            elif j == 0:
                bridge_words(canvas, scale, row, drawn[i, j])
    for (i, j), parts in drawn.items():
        y, first = middles[i], parts[0]
        if j == 0:
            if i < depth:
                below = drawn[i + 1, 0][0]
                end = (below.front.left + 4, below.front.top + below.lean[1] / 2)
                canvas.arrow(
                    [(parts[-1].right - 2, parts[-1].front.bottom + parts[-1].lean[1] / 2), end]
                )
            continue
        center = (first.front.left - FORK - RADIUS, y)
        canvas.arrow([(drawn[i, j - 1][-1].right, y), (center[0] - RADIUS, y)])
        for k in range(j - 1):
            source = drawn[i, k][-1]
            start = (source.right - source.lean[0] / 2, source.front.top + source.lean[1] / 2)
            rise = 9 + 7 * (j - k - 2)
            # The farther the source, the higher the bow and the farther left its end.
            canvas.bow(
                (start[0], start[1]),
                (center[0] - 4 + 3 * min(k, 2), y - RADIUS + 0.5),
                rise + 4,
                color=GRAY,
                thick=0.7,
            )
        lower = drawn[i + 1, j - 1][-1]
        canvas.arrow(
            [
                (lower.right - lower.lean[0] / 2, lower.front.top + lower.lean[1] / 2),
                (center[0] + 3, y + RADIUS),
            ]
        )
        symbol(canvas, center, "concat", radius=RADIUS)
        if spec.skip == "attention":
            symbol(canvas, (center[0] - 2 * RADIUS - 10, y), "gate", radius=RADIUS)
        canvas.arrow([(center[0] + RADIUS, y), (first.front.left - 2, y)])
    draw_input(canvas, trace, spec, nodes[0][0], scale, middles[0])
    for j in range(depth, 0, -1):
        last = drawn[0, j][-1]
        start = ((last.front.left + last.right) / 2, last.front.top + last.lean[1] / 2)
        if j == depth and not isinstance(spec.head, Features):
            draw_head(canvas, trace, spec, start)
        elif j < depth and spec.deep_supervision:
            box = pill(
                canvas, [f"head {depth - j + 1}"], bottom=start[1] - 28 - 7 * depth, at=start[0]
            )
            canvas.arrow([start, (start[0], box.bottom + 1)])


def _node(trace: Trace, spec: UNet, row: int, column: int, depth: int) -> Row:
    name = f"decoder{row + 1}" if row + column == depth else f"nest{row + 1}_{column}"
    return row_of(trace, name, spec.block, spec.stages[row].blocks, GREEN, most=3)
