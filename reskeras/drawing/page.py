"""Parts that several drawings share: lines of text, text in boxes, signs, a row of columns."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

from reskeras.drawing.canvas import Box, Canvas, Point, line_height, text_width
from reskeras.drawing.palette import BODY, GRAY, INK, PAPER, ROSE, SAND, SMALL, Paint
from reskeras.drawing.solids import Drawn, Group, SolidSizes, draw_group, slabs_of

Align = Literal["left", "center", "right"]
Sign = Literal["add", "concat", "multiply", "gate"]


class Line(NamedTuple):
    """A line of text below or beside a solid."""

    text: str
    bold: bool = False

    @property
    def width(self) -> float:
        """Its width."""
        return text_width(self.text, BODY, self.bold)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One part of a network, between two arrows."""

    title: str
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]
    joined: bool = False
    """Whether its groups touch each other."""

    @property
    def text_width(self) -> float:
        """Width of its text."""
        return max([text_width(self.title, SMALL), *(line.width for line in self.lines)])


def draw_row(canvas: Canvas, columns: Sequence[Column], *, wide: float, marked: str) -> None:
    """Draws columns from left to right with arrows between them, centered on y = 0.

    The row is at most `wide` unless its text needs more.
    """
    slabs = slabs_of([group for column in columns for group in column.groups])
    scale, between = SolidSizes(slabs, marked=marked), 26.0
    if sum(_rooms(columns, scale, between)) > wide:
        scale, between = SolidSizes(slabs, thick=(10, 17), marked=marked), 21.0
    rooms = _rooms(columns, scale, between)
    spare = min(max(wide - sum(rooms), 0) / len(columns), 44)
    down = max(map(scale.height, slabs)) / 2 + 16
    x, arrow_from = 0.0, None
    for column, room in zip(columns, rooms, strict=True):
        left = x + (room + spare - _solid_width(column, scale)) / 2
        drawn: list[Drawn] = []
        for group in column.groups:
            drawn.append(draw_group(canvas, group, scale, left, 0))
            left = drawn[-1].front.right + (0 if column.joined else drawn[-1].lean[0] + 5)
        if arrow_from is not None:
            canvas.arrow([(arrow_from, 0), (drawn[0].front.left - 2, 0)], GRAY)
        arrow_from = drawn[-1].right + 2
        draw_lines(
            canvas, column.title, column.lines, ((drawn[0].front.left + drawn[-1].right) / 2, down)
        )
        x += room + spare


def draw_lines(canvas: Canvas, title: str, lines: Sequence[Line], point: Point) -> None:
    """Draws a gray title at this point, and lines below it."""
    x, y = point
    canvas.text((x, y), title, size=SMALL, color=GRAY)
    for line in lines:
        y += line_height(BODY)
        canvas.text((x, y), line.text, bold=line.bold)


def draw_beside(canvas: Canvas, lines: Sequence[Line], point: Point, align: Align) -> None:
    """Draws lines of text centered on this height."""
    x, pitch = point[0], line_height(BODY)
    y = point[1] - (len(lines) - 1) / 2 * pitch
    for number, line in enumerate(lines):
        canvas.text((x, y + number * pitch), line.text, bold=line.bold, align=align)


def pill(
    canvas: Canvas,
    lines: Sequence[str],
    *,
    at: float,
    bottom: float | None = None,
    left: float | None = None,
    paint: Paint = SAND,
) -> Box:
    """Draws small text in a box: above `bottom` around x = `at`, or from `left` around y = `at`."""
    pitch = line_height(SMALL) * 0.95
    wide, tall = max(text_width(line, SMALL) for line in lines) + 14, pitch * len(lines) + 8
    if left is None:
        low = bottom or 0.0
        box = Box(at - wide / 2, low - tall, at + wide / 2, low)
    else:
        box = Box(left, at - tall / 2, left + wide, at + tall / 2)
    canvas.pill(box, paint.front, paint.edge)
    for number, line in enumerate(lines):
        canvas.text(
            ((box.left + box.right) / 2, box.top + 4 + (number + 0.5) * pitch), line, size=SMALL
        )
    return box


def symbol(
    canvas: Canvas,
    center: Point,
    kind: Sign,
    *,
    radius: float = 9,
) -> None:
    """Draws a circle where maps meet; a gate is a colored multiplication."""
    x, y = center
    canvas.dot(
        center,
        radius,
        ROSE.front if kind == "gate" else PAPER,
        ROSE.edge if kind == "gate" else INK,
    )
    if kind == "concat":
        canvas.text(center, "C", size=SMALL, bold=True)
        return
    arm = 0.52 * radius if kind == "add" else 0.4 * radius
    for dx, dy in ((arm, 0.0), (0.0, arm)) if kind == "add" else ((arm, arm), (arm, -arm)):
        canvas.line([(x - dx, y - dy), (x + dx, y + dy)], thick=1.2)


def _solid_width(column: Column, scale: SolidSizes) -> float:
    leans = [scale.lean(slabs_of([group])[-1])[0] for group in column.groups]
    gaps = 0.0 if column.joined else sum(leans[:-1]) + 5 * (len(leans) - 1)
    return sum(scale.width(group) for group in column.groups) + gaps + leans[-1]


def _rooms(columns: Sequence[Column], scale: SolidSizes, between: float) -> list[float]:
    return [
        max(_solid_width(column, scale) + between, column.text_width + 0.55 * between)
        for column in columns
    ]
