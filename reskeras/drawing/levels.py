"""Levels of a U-Net: the solids at each resolution, their size, and the text beside them."""

import dataclasses
import math
from collections.abc import Sequence

from reskeras.drawing.canvas import Canvas, Point, line_height
from reskeras.drawing.page import Line, draw_beside, pill
from reskeras.drawing.palette import BLUE, BODY, ROSE, SAND, STEEL, VIOLET, Paint
from reskeras.drawing.solids import Drawn, Group, SolidSizes, draw_group, one, slabs_of, stage_group
from reskeras.drawing.tracing import Trace, times
from reskeras.drawing.wording import (
    block_words,
    final_lines,
    head_lines,
    sides_words,
    size_lines,
    stem_lines,
)
from reskeras.spec import Block, DenseNet, DenseStage, ResNet, Stage, UNet

RADIUS = 8.0
FORK = 13.0
"""From a solid to the fork behind it, and from where maps meet to the next solid."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The solids at one resolution on one side, and the text beside them."""

    groups: tuple[Group, ...]
    lines: tuple[Line, ...]


MOST_OF_ENCODER = 4


def most_of(spec: UNet) -> int:
    """How many blocks of a level are drawn."""
    return 4 if len(spec.stages) <= 3 else 3


def row_of(trace: Trace, name: str, block: Block, blocks: int, paint: Paint, *, most: int) -> Row:
    """The blocks of a level, and the 1x1 convolution after dense layers."""
    groups = [stage_group(trace, name, block, blocks, most=most, paint=paint)]
    if f"{name}_transition_conv1" in trace.nodes:
        groups.append(one(f"{name}_transition_conv1", trace, SAND))
    return Row(
        groups=tuple(groups),
        lines=(
            Line(f"{block_words(block)} ×{blocks}", bold=True),
            *map(Line, size_lines(trace, name)),
        ),
    )


def own_encoder(trace: Trace, spec: UNet) -> list[Row]:
    """The levels of an encoder with the decoder's blocks, the bridge last."""
    most = most_of(spec)
    rows = [
        row_of(trace, f"encoder{number}", spec.block, level.blocks, BLUE, most=most)
        for number, level in enumerate(spec.stages[:-1], start=1)
    ]
    return [*rows, row_of(trace, "bridge", spec.block, spec.stages[-1].blocks, VIOLET, most=most)]


def other_encoder(trace: Trace, spec: UNet, encoder: ResNet | DenseNet) -> list[Row]:
    """The levels of an encoder that is a network of its own, the bridge last."""
    full = max(trace["image_pad" if "image_pad" in trace.nodes else "image"].sides)
    rows: list[tuple[list[Group], list[Line]]] = [([], []) for _ in range(len(spec.stages) + 1)]

    def place(group: Group, *lines: Line) -> None:
        groups, words = rows[round(math.log2(full / max(slabs_of([group])[0].sides)))]
        groups.append(group)
        words.extend(lines)

    conv, *pool = stem_lines(encoder.stem, len(spec.input_shape) - 1)
    place(one("encoder_stem", trace, SAND), Line(conv), Line(f"width {encoder.stem.width}"))
    if pool:
        place(one("encoder_stem_pool", trace, ROSE), *map(Line, pool))
    stages: tuple[Stage | DenseStage, ...] = encoder.stages
    for number, stage in enumerate(stages, start=1):
        name = f"encoder_stage{number}"
        paint = VIOLET if number == len(stages) else BLUE
        words = (
            Line(f"{block_words(encoder.block)} ×{stage.blocks}", bold=True),
            Line(f"width {trace[name].channels}"),
        )
        place(
            stage_group(
                trace, name, encoder.block, stage.blocks, most=MOST_OF_ENCODER, paint=paint
            ),
            *words,
        )
    if not rows[0][0]:
        # If the stem halves at once, only the image itself has the full resolution.
        rows[0][0].append(one("image", trace, STEEL))
        rows[0][1].append(Line("input"))
    return [
        Row(groups=tuple(groups), lines=(*lines, Line(sides_words(slabs_of(groups)[0].sides))))
        for groups, lines in rows
        if groups
    ]


def row_width(scale: SolidSizes, row: Row) -> float:
    """Width of its solids."""
    leans = [scale.lean(slabs_of([group])[-1])[0] for group in row.groups]
    return sum(scale.width(group) for group in row.groups) + sum(leans) + 5 * (len(row.groups) - 1)


def draw_solids(
    canvas: Canvas, row: Row, scale: SolidSizes, left: float, middle: float
) -> list[Drawn]:
    """Draws the row's solids from this left edge."""
    drawn = []
    for group in row.groups:
        drawn.append(draw_group(canvas, group, scale, left, middle, below=True))
        left = drawn[-1].right + 5
    return drawn


def middles_of(heights: Sequence[float], between: Sequence[float]) -> list[float]:
    """The middle of each row, from the heights of rows and the gaps between them."""
    middles, y = [], 0.0
    for height, gap in zip(heights, [*between, 0.0], strict=True):
        middles.append(y + height / 2)
        y += height + gap
    return middles


def scale_of(rows: Sequence[Row], marked: str, wide: float = math.inf) -> SolidSizes:
    """Sizes of these rows' solids; thinner if all of them in a row would be wider than this."""
    slabs = slabs_of([group for row in rows for group in row.groups])
    scale = SolidSizes(slabs, tall=(32, 84), thick=(15, 30), marked=marked)
    if sum(row_width(scale, row) + 2 * FORK for row in rows) > wide:
        return SolidSizes(slabs, tall=(32, 84), thick=(11, 17), marked=marked)
    return scale


def row_height(scale: SolidSizes, row: Row) -> float:
    """Height of its tallest solid."""
    return max(scale.height(slab) for slab in slabs_of(row.groups))


def tail(scale: SolidSizes, row: Row) -> float:
    """Space for the arcs below a row."""
    bows = [
        0.27 * scale.width(group) + 6
        for group in row.groups
        if group.dense and len(group.slabs) > 1
    ]
    bows += [0.5 * scale.thickness(slab) + 5 for slab in slabs_of(row.groups) if slab.arc]
    return max(bows, default=0.0)


def bridge_words(canvas: Canvas, scale: SolidSizes, bridge: Row, parts: list[Drawn]) -> None:
    """Draws the text below the bridge."""
    middle = (parts[0].front.left + parts[-1].front.right) / 2
    y = (
        max(part.front.bottom for part in parts)
        + tail(scale, bridge)
        + 12
        + line_height(BODY) * (len(bridge.lines) - 1) / 2
    )
    draw_beside(canvas, bridge.lines, (middle, y), "center")


def draw_input(
    canvas: Canvas, trace: Trace, spec: UNet, row: Row, scale: SolidSizes, middle: float
) -> None:
    """Draws the input above the first level."""
    first = slabs_of(row.groups)[0]
    if first.name == "image":
        return
    lean = scale.lean(first)
    x = scale.thickness(first) / 2 + lean[0] / 2
    top = middle - scale.height(first) / 2 + lean[1]
    end, y = top - lean[1] / 2, top - 26
    if (stem := trace.notes.get("stem_conv")) is not None:
        box = pill(canvas, stem.lines, bottom=y, at=x)
        canvas.arrow([(x, y), (x, end)])
        end, y = box.top, box.top - 18
    box = pill(canvas, ["input", times(spec.input_shape)], bottom=y, at=x, paint=STEEL)
    canvas.arrow([(x, box.bottom), (x, end)])


def draw_head(canvas: Canvas, trace: Trace, spec: UNet, start: Point) -> None:
    """Draws the head above the first level, with its output shape."""
    maps = trace["head"]
    lines = [
        *final_lines(trace),
        *head_lines(spec.head, len(maps.sides)),
        times(maps.sides, maps.channels),
    ]
    box = pill(canvas, lines, bottom=start[1] - 28, at=start[0])
    canvas.arrow([start, (start[0], box.bottom + 1)])
