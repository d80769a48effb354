"""Residual and dense networks: stem, stages with arcs, transitions, head, from left to right."""

from reskeras.drawing.canvas import Canvas
from reskeras.drawing.inset import inset, pick, units_of
from reskeras.drawing.page import Column, Line, draw_row
from reskeras.drawing.palette import ROSE, SAND, STEEL
from reskeras.drawing.solids import one, shown, stage_group
from reskeras.drawing.tracing import Trace, times
from reskeras.drawing.wording import (
    block_words,
    final_lines,
    head_lines,
    size_lines,
    stem_lines,
)
from reskeras.spec import DenseNet, DenseStage, Features, ResNet, Stage


def draw_chain(trace: Trace, spec: ResNet | DenseNet, wide: float) -> tuple[Canvas, Canvas]:
    """The network, and one of its blocks layer by layer."""
    dims = len(spec.input_shape) - 1
    stages: tuple[Stage | DenseStage, ...] = spec.stages
    units = [
        unit
        for number, stage in enumerate(stages, start=1)
        for unit in units_of(
            f"stage{number}", f"stage {number}", spec.block, shown(stage.blocks, _most(spec))
        )
    ]
    unit = pick(trace, units)
    stem = tuple(
        one(name, trace, paint)
        for name, paint in (("stem", SAND), ("stem_pool", ROSE))
        if name in trace.nodes
    )
    columns = [
        Column(
            title="input",
            groups=(one("image", trace, STEEL),),
            lines=(Line(times(spec.input_shape)),),
        ),
        Column(
            title="stem",
            groups=stem,
            lines=_plain([*stem_lines(spec.stem, dims), *size_lines(trace, "stem", "stem_pool")]),
        ),
    ]
    for number, stage in enumerate(stages, start=1):
        columns += _stage(trace, spec, number, stage.blocks)
    if not isinstance(spec.head, Features):
        head = tuple(
            one(name, trace, paint)
            for name, paint in (("head_pool", ROSE), ("head", SAND))
            if name in trace.nodes
        )
        columns.append(
            Column(
                title="head",
                groups=head,
                lines=_plain([*final_lines(trace), *head_lines(spec.head, dims)]),
            )
        )
    canvas = Canvas()
    draw_row(canvas, columns, wide=wide, marked=unit.name)
    return canvas, inset(trace, unit)


def _stage(trace: Trace, spec: ResNet | DenseNet, number: int, blocks: int) -> list[Column]:
    name = f"stage{number}"
    groups = [stage_group(trace, name, spec.block, blocks, most=_most(spec))]
    lines = (
        Line(f"{block_words(spec.block)} ×{blocks}", bold=True),
        *_plain(size_lines(trace, name)),
    )
    conv, pool = f"{name}_transition_conv1", f"{name}_transition_pool"
    if isinstance(spec, ResNet) and conv in trace.nodes:
        # In a stage with a given width, dense layers and the 1x1 convolution belong together.
        groups.append(one(conv, trace, SAND))
    columns = [Column(title=f"stage {number}", groups=tuple(groups), lines=lines)]
    if isinstance(spec, DenseNet) and conv in trace.nodes:
        words = [
            trace.notes[conv].lines[0],
            " ".join(trace.notes[pool].lines),
            *size_lines(trace, pool),
        ]
        columns.append(
            Column(
                title="transition",
                groups=(one(conv, trace, SAND), one(pool, trace, ROSE)),
                lines=_plain(words),
                joined=True,
            )
        )
    return columns


def _most(spec: ResNet | DenseNet) -> int:
    """How many blocks of a stage are drawn; four stages with transitions leave less space."""
    return 4 if isinstance(spec, DenseNet) and len(spec.stages) > 3 else 5


def _plain(lines: list[str]) -> tuple[Line, ...]:
    return tuple(map(Line, lines))
