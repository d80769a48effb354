"""Blocks as solids: height is resolution, thickness is width, both on a logarithmic scale."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

from reskeras.drawing.canvas import Arc, Box, Canvas, Point
from reskeras.drawing.palette import BLUE, GRAY, GREEN, HIGHLIGHT, STEEL, Paint
from reskeras.drawing.tracing import Trace
from reskeras.nets.graph import Node
from reskeras.spec import Block, DenseBlock, PlainBlock

DOTS_WIDTH = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slab:
    """One block, or a single layer."""

    name: str
    sides: tuple[int, ...]
    channels: int
    paint: Paint
    arc: Arc | None = None
    """Its shortcut, if it has one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Solids side by side: the blocks of a stage. None is where some are left out."""

    slabs: tuple[Slab | None, ...]
    dense: bool = False
    """Whether every slab's input goes to all later ones."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Where a group was drawn."""

    front: Box
    """The faces toward the reader."""
    lean: Point
    """From the edges of the last front to those of its back."""

    @property
    def right(self) -> float:
        """The right edge of the last solid."""
        return self.front.right + self.lean[0]


class SolidSizes:
    """Logarithmic sizes of the solids of a drawing, and the name of the block that is marked."""

    def __init__(
        self,
        slabs: Iterable[Slab],
        *,
        tall: tuple[float, float] = (46, 132),
        thick: tuple[float, float] = (15, 27),
        lean: float = 0.15,
        marked: str,
    ) -> None:
        self.marked = marked
        known = list(slabs)
        sides = [max(slab.sides) for slab in known if slab.sides]
        self._sides = (min(sides), max(sides)) if sides else (1, 1)
        self._widths = min(slab.channels for slab in known), max(slab.channels for slab in known)
        # Vectors have no resolution: their height is their length. Beside maps they stay small.
        self._vectors = (26, 0.55 * tall[1]) if sides else tall
        self._tall, self._thick, self._lean = tall, thick, lean

    def height(self, slab: Slab) -> float:
        """Height of the front."""
        if not slab.sides:
            return _between(self._vectors, slab.channels, self._widths)
        return _between(self._tall, max(slab.sides), self._sides)

    def thickness(self, slab: Slab) -> float:
        """Thickness of the front, from left to right."""
        return (
            _between(self._thick, slab.channels, self._widths)
            if slab.sides
            else 0.75 * self._thick[0]
        )

    def lean(self, slab: Slab) -> Point:
        """Offset from front to back; zero for sequences and vectors, which are flat."""
        height = self.height(slab)
        return (
            (self._lean * height, -self._lean * height * 2 / 3)
            if len(slab.sides) > 1
            else (0.0, 0.0)
        )

    def width(self, group: Group) -> float:
        """Width of a group's fronts."""
        gap = DOTS_WIDTH + self.lean(slabs_of([group])[0])[0]
        return sum(self.thickness(slab) if slab else gap for slab in group.slabs)


def _between(ends: tuple[float, float], number: int, numbers: tuple[int, int]) -> float:
    low, high = ends
    least, most = numbers
    return low + (high - low) * (
        math.log2(number / least) / math.log2(most / least) if most > least else 1.0
    )


def draw_group(
    canvas: Canvas,
    group: Group,
    scale: SolidSizes,
    left: float,
    middle: float,
    *,
    below: bool = False,
) -> Drawn:
    """Draws a group from this left edge, centered on `middle`, with arcs above or below."""
    x, fronts = left, []
    solids = slabs_of([group])
    for slab in group.slabs:
        if slab is None:
            # Between the side of the previous solid and the front of the next.
            lean = scale.lean(solids[0])[0]
            for place in (-5.5, 0.0, 5.5):
                canvas.dot((x + lean + DOTS_WIDTH / 2 + place, middle), 1.5, GRAY)
            x += DOTS_WIDTH + lean
            continue
        height, thickness = scale.height(slab), scale.thickness(slab)
        front = Box(x, middle - height / 2, x + thickness, middle + height / 2)
        solid(canvas, front, scale.lean(slab), slab.paint)
        fronts.append(front)
        x += thickness
    for slab, front in zip(solids, fronts, strict=True):
        if slab.name == scale.marked:
            canvas.area(_corners(front), None, HIGHLIGHT, thick=1.6)
    lean_right, lean_up = scale.lean(solids[-1])
    whole = Box(left, min(front.top for front in fronts), x, max(front.bottom for front in fronts))
    # Arcs start at the back edge of the top, or at the front edge of the bottom.
    right, level, way = (0.0, whole.bottom, -1) if below else (lean_right, whole.top + lean_up, 1)
    for slab, front in zip(solids, fronts, strict=True):
        if slab.arc:
            y = level if below else front.top + scale.lean(slab)[1]
            ends = (front.left + right, y), (front.right + right, y)
            canvas.bow(*ends, way * (0.5 * front.width + 3), arc=slab.arc)
    if group.dense:
        edges = [*(front.left for front in fronts), fronts[-1].right]
        for (start, x0), (end, x1) in itertools.combinations(enumerate(edges), 2):
            if end - start > 1:
                rise, ends = way * 0.27 * (x1 - x0), ((x0 + right, level), (x1 + right, level))
                canvas.bow(*ends, rise, head=False, thick=0.7, arc=Arc.DENSE)
    return Drawn(whole, (lean_right, lean_up))


def solid(canvas: Canvas, front: Box, lean: Point, paint: Paint) -> None:
    """Draws a box: front, top and right side."""
    left, top, right, bottom = front
    dx, dy = lean
    if dx:
        canvas.area(
            [(left, top), (left + dx, top + dy), (right + dx, top + dy), (right, top)],
            paint.top,
            paint.edge,
        )
        canvas.area(
            [(right, top), (right + dx, top + dy), (right + dx, bottom + dy), (right, bottom)],
            paint.side,
            paint.edge,
        )
    canvas.area(_corners(front), paint.front, paint.edge)


def shown(blocks: int, most: int) -> list[int | None]:
    """The numbers of the blocks that are drawn: all, or the first ones and the last."""
    if blocks <= most:
        return list(range(1, blocks + 1))
    return [*range(1, most - 1), None, blocks]


def stage_group(
    trace: Trace, name: str, block: Block, blocks: int, *, most: int = 5, paint: Paint | None = None
) -> Group:
    """The blocks of the stage of this name."""
    slabs: list[Slab | None] = []
    for number in shown(blocks, most):
        if number is None:
            slabs.append(None)
            continue
        unit = f"{name}_block{number}"
        last = trace.within(unit)[-1]
        slabs.append(
            Slab(
                name=unit,
                sides=last.sides,
                channels=last.channels,
                paint=paint or paint_of(block),
                arc=arc_of(trace, unit),
            )
        )
    return Group(slabs=tuple(slabs), dense=isinstance(block, DenseBlock))


def one(name: str, trace: Trace, paint: Paint) -> Group:
    """A single layer's output."""
    maps = trace[name]
    return Group(slabs=(Slab(name=name, sides=maps.sides, channels=maps.channels, paint=paint),))


def arc_of(trace: Trace, unit: str) -> Arc | None:
    """The shortcut of a block; None if the block adds nothing.

    Of the two summands, the shortcut is the one with fewer drawn layers before it. It is the
    identity if the branch has all of these too: a first block with pre-activation shares its first
    layers.
    """
    layers = trace.within(unit)
    sums = [maps for maps in layers if (note := trace.notes.get(maps.name)) and note.role == "add"]
    if not sums:
        return None
    names = {maps.name for maps in layers} & trace.notes.keys()
    shortcut, branch = sorted((before(one) & names for one in sums[-1].inputs), key=len)
    return Arc.IDENTITY if shortcut <= branch else Arc.CHANGED


def before(maps: Node) -> set[str]:
    """The names of a layer and of all layers that it depends on."""
    found, waiting = set(), [maps]
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            found.add(one.name)
            waiting += one.inputs
    return found


def paint_of(block: Block) -> Paint:
    """Dense blocks are green, plain ones gray and residual ones blue."""
    match block:
        case DenseBlock():
            return GREEN
        case PlainBlock():
            return STEEL
        case _:
            return BLUE


def slabs_of(groups: Sequence[Group]) -> list[Slab]:
    """All slabs of the groups."""
    return [slab for group in groups for slab in group.slabs if slab]


def _corners(box: Box) -> list[Point]:
    return [
        (box.left, box.top),
        (box.right, box.top),
        (box.right, box.bottom),
        (box.left, box.bottom),
    ]
