"""One block layer by layer: the branch in a row, the shortcut above, squeeze-and-excitation below.

Layers and lines come from the network itself (`Trace`), so the picture cannot differ from what is
built. Only the lane of a layer depends on its name within the block.
"""

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reskeras.drawing.canvas import Arc, Box, Canvas, line_height, text_width
from reskeras.drawing.page import symbol
from reskeras.drawing.palette import (
    BLUE,
    GRAY,
    HIGHLIGHT,
    INK,
    ROSE,
    SAND,
    SMALL,
    STEEL,
    VIOLET,
    Paint,
)
from reskeras.drawing.solids import arc_of
from reskeras.drawing.tracing import Note, Role, Trace, times
from reskeras.nets.graph import Node
from reskeras.spec import Block, DenseBlock

_PAINTS: dict[Role, Paint] = {
    "conv": BLUE,
    "norm": SAND,
    "activation": ROSE,
    "pool": VIOLET,
    "other": STEEL,
}
_CIRCLES: tuple[Role, ...] = ("add", "concat", "multiply")

GAP, RADIUS, PITCH = 16.0, 9.0, 46.0


class Lane(enum.IntEnum):
    """Rows of layers; larger is higher."""

    SQUEEZE = -1
    """Squeeze-and-excitation."""
    BRANCH = 0
    ABOVE = 1
    """The shortcut; the gate of a gated one."""
    COMPLEMENT = 2
    """One minus the gate."""
    GATED = 3
    """A gated shortcut."""


class Unit(NamedTuple):
    """A block that can be shown layer by layer."""

    name: str
    title: str
    first: bool
    """Whether it is the first of its stage."""


def units_of(stage: str, title: str, block: Block, numbers: Iterable[int | None]) -> list[Unit]:
    """The blocks of these numbers in the stage of this name."""
    kind = "layer" if isinstance(block, DenseBlock) else "block"
    return [
        Unit(f"{stage}_block{number}", f"{title}, {kind} {number}", number == 1)
        for number in numbers
        if number
    ]


def pick(trace: Trace, units: Sequence[Unit]) -> Unit:
    """The block to show: the first with an identity shortcut, preferably not first in its stage.

    The first block of a stage with pre-activation forks later than the others.
    """
    alike = [unit for unit in units if arc_of(trace, unit.name) is Arc.IDENTITY]
    return min(alike, key=lambda unit: unit.first, default=units[0])


def inset(trace: Trace, shown: Unit) -> Canvas:
    """The layers of this block."""
    unit, title = shown.name, shown.title
    nodes = {
        maps.name: trace.notes[maps.name] for maps in trace.within(unit) if maps.name in trace.notes
    }
    gated = any(name.startswith(f"{unit}_shortcut_gate") for name in nodes)
    lanes = {name: _lane(name.removeprefix(f"{unit}_"), gated) for name in nodes}
    sources = {name: [_visible(one, nodes) for one in trace[name].inputs] for name in nodes}
    places = _places(nodes, lanes, sources)

    canvas = Canvas()
    start = -30.0
    for name, needed in sources.items():
        for source in dict.fromkeys(needed):
            _connect(
                canvas, source, name, lanes, places, start, _detour(source, name, nodes, lanes)
            )
    end = max(place.right for place in places.values())
    canvas.arrow([(end, 0), (end + 30, 0)])
    for name, note in nodes.items():
        _node(canvas, places[name], note)
    shape_in = _outside(trace, unit)
    last = trace.within(unit)[-1]
    sizes = f"{times(shape_in.sides, shape_in.channels)} → {times(last.sides, last.channels)}"

    panel = Canvas()
    room = canvas.box
    words = text_width(title, SMALL, True) + 10 + text_width(sizes, SMALL)
    wide = max(room.width + 28, words + 28)
    frame = Box(room.left - 14 - (wide - 28 - room.width) / 2, room.top - 32, 0, room.bottom + 14)
    frame = frame._replace(right=frame.left + wide)
    panel.pill(frame, "#f6f7f9", "#e1e5e9", radius=7)
    y = frame.top + 14
    box = panel.text(
        (frame.left + 12, y), title, size=SMALL, bold=True, color=HIGHLIGHT, align="left"
    )
    panel.text((box.right + 10, y), sizes, size=SMALL, color=GRAY, align="left")
    panel.put(canvas, 0, 0)
    return panel


def _lane(suffix: str, gated: bool) -> Lane:
    """The lane of a layer by its name within the block."""
    if suffix.startswith("shortcut_gate"):
        return Lane.COMPLEMENT if suffix.startswith("shortcut_gate_rest") else Lane.ABOVE
    if suffix.startswith(("shortcut", "gated_shortcut")):
        return Lane.GATED if gated else Lane.ABOVE
    return Lane.SQUEEZE if suffix.startswith("se_") else Lane.BRANCH


def _visible(maps: Node, nodes: dict[str, Note]) -> str | None:
    """The nearest earlier layer that is drawn; None is the block's input."""
    while maps.name not in nodes:
        if not maps.inputs:
            return None
        maps = maps.inputs[0]
    return maps.name


def _outside(trace: Trace, unit: str) -> Node:
    within = {maps.name for maps in trace.within(unit)}
    maps = trace.within(unit)[0]
    while maps.name in within:
        maps = maps.inputs[0]
    return maps


def _size(note: Note) -> tuple[float, float]:
    if note.role in _CIRCLES:
        return 2 * RADIUS, 2 * RADIUS
    wide = max(text_width(line, SMALL) for line in note.lines) + 11
    return max(wide, 27.0), max(len(note.lines) * line_height(SMALL) * 0.93 + 7, 28.0)


def _places(
    nodes: dict[str, Note], lanes: dict[str, Lane], sources: dict[str, list[str | None]]
) -> dict[str, Box]:
    places: dict[str, Box] = {}

    def put(name: str, left: float) -> float:
        wide, tall = _size(nodes[name])
        y = -PITCH * lanes[name]
        places[name] = Box(left, y - tall / 2, left + wide, y + tall / 2)
        return left + wide

    x = 0.0
    for name in (name for name in nodes if lanes[name] is Lane.BRANCH):
        if any(source and lanes[source] is Lane.SQUEEZE for source in sources[name]):
            at = x + GAP
            for other in (other for other in nodes if lanes[other] is Lane.SQUEEZE):
                at = put(other, at) + GAP
            x = at + RADIUS
            places[name] = Box(x, -RADIUS, x + 2 * RADIUS, RADIUS)
            x += 2 * RADIUS + GAP
            continue
        x = put(name, x) + GAP
    total, gated = x - GAP, Lane.GATED in lanes.values()
    for lane in (Lane.ABOVE, Lane.COMPLEMENT, Lane.GATED):
        row = [name for name in nodes if lanes[name] is lane]
        if not row:
            continue
        wide = sum(_size(nodes[name])[0] for name in row) + GAP * (len(row) - 1)
        # The gate is computed early and its complement is used late, so that no lines cross.
        first = sources[row[0]][0]
        fork = places[first].right if first and lanes[first] is Lane.BRANCH else 0.0
        at = total - wide - 70
        if lane is Lane.ABOVE:
            at = fork + (0.25 if gated else 0.5) * (total - fork - wide)
        for name in row:
            at = put(name, at) + GAP
    if gated:
        # Center the shortcut's product above the complement of the gate.
        rest = next(name for name in nodes if lanes[name] is Lane.COMPLEMENT)
        meet = next(name for name in reversed(nodes) if lanes[name] is Lane.GATED)
        move = (places[rest].left + places[rest].right - places[meet].left - places[meet].right) / 2
        places[meet] = places[meet]._replace(
            left=places[meet].left + move, right=places[meet].right + move
        )
    return places


def _detour(source: str | None, name: str, nodes: dict[str, Note], lanes: dict[str, Lane]) -> bool:
    """Whether a line within the branch, or from the input, has to go around other layers."""
    if any(one and lanes[one] is not Lane.BRANCH for one in (name, source)):
        return False
    row = [other for other in nodes if lanes[other] is Lane.BRANCH]
    return row.index(name) != (row.index(source) + 1 if source else 0)


def _connect(
    canvas: Canvas,
    source: str | None,
    name: str,
    lanes: dict[str, Lane],
    places: dict[str, Box],
    start: float,
    detour: bool,
) -> None:
    end = places[name]
    begin = places[source] if source else Box(start, 0, start, 0)
    x, y = begin.right, -PITCH * (lanes[source] if source else 0)
    middle_x, middle_y = (end.left + end.right) / 2, -PITCH * lanes[name]
    fork = x + 0.45 * GAP
    if detour:
        above = -PITCH * (0.85 + (2 if Lane.GATED in lanes.values() else 0)) - 2
        canvas.dot((fork, y), 1.7, INK)
        canvas.arrow([(x, y), (fork, y), (fork, above), (middle_x, above), (middle_x, end.top)])
    elif y == middle_y:
        canvas.arrow([(x, y), (end.left, y)])
    elif source and lanes[source] is Lane.ABOVE and lanes[name] is Lane.COMPLEMENT:
        up = (begin.left + begin.right) / 2
        canvas.arrow([(up, begin.top), (up, middle_y), (end.left, middle_y)])
    elif source and lanes[source] is Lane.COMPLEMENT:
        canvas.arrow([(middle_x, begin.top), (middle_x, end.bottom)])
    elif lanes[name] is Lane.BRANCH:
        canvas.arrow([(x, y), (middle_x, y), (middle_x, end.top if y < 0 else end.bottom)])
    else:
        canvas.dot((fork, y), 1.7, INK)
        canvas.arrow([(x, y), (fork, y), (fork, middle_y), (end.left, middle_y)])


def _node(canvas: Canvas, place: Box, note: Note) -> None:
    x, y = (place.left + place.right) / 2, (place.top + place.bottom) / 2
    match note.role:
        case "add" | "concat" | "multiply" as sign:
            symbol(canvas, (x, y), sign, radius=RADIUS)
            return
        case role:
            paint = _PAINTS[role]
    canvas.pill(place, paint.front, paint.edge)
    pitch = line_height(SMALL) * 0.93
    for number, line in enumerate(note.lines):
        canvas.text((x, y + (number - (len(note.lines) - 1) / 2) * pitch), line, size=SMALL)
