"""Shapes and words on a page as data. Only `figure` knows matplotlib.

One unit is a hundredth of an inch, about a pixel of a README. x grows to the right and y down.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from reskeras.drawing.palette import BODY, FONT, INK, PAPER

Point = tuple[float, float]

UNITS_PER_INCH = 100
POINT = UNITS_PER_INCH / 72
"""Units in a point of type."""


class Box(NamedTuple):
    """A rectangle on the page."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top


class Arc(enum.Enum):
    """What a bow over a block stands for."""

    IDENTITY = "identity"
    """A shortcut without layers."""
    CHANGED = "changed"
    """A shortcut with layers on it; drawn dashed."""
    DENSE = "dense"
    """From a dense layer to a later one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A line or an area.

    With `smooth`, the points after the first are those of cubic Bezier curves, three for each.
    """

    points: tuple[Point, ...]
    fill: str | None = None
    edge: str | None = INK
    thick: float = 0.8
    dashed: bool = False
    closed: bool = False
    smooth: bool = False
    arc: Arc | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """One line of text."""

    point: Point
    text: str
    size: float = BODY
    bold: bool = False
    color: str = INK
    align: Literal["left", "center", "right"] = "center"

    @property
    def box(self) -> Box:
        """The space that the line takes; its point is in the middle of its height."""
        wide, tall = text_width(self.text, self.size, self.bold), line_height(self.size)
        left = self.point[0] - {"left": 0.0, "center": wide / 2, "right": wide}[self.align]
        return Box(left, self.point[1] - tall / 2, left + wide, self.point[1] + tall / 2)


class Canvas:
    """Shapes and words in drawing order; `style` is any other field of `Shape` or `Words`."""

    def __init__(self) -> None:
        self.items: list[Shape | Words] = []

    def area(
        self,
        points: Iterable[Point],
        fill: str | None,
        edge: str | None = INK,
        *,
        thick: float = 0.7,
        **style: Any,
    ) -> None:
        """A polygon."""
        self._shape(points, fill=fill, edge=edge, thick=thick, closed=True, **style)

    def line(
        self, points: Iterable[Point], color: str = INK, *, thick: float = 0.9, **style: Any
    ) -> None:
        """A line through the points."""
        self._shape(points, edge=color, thick=thick, **style)

    def arrow(self, points: Sequence[Point], color: str = INK, **style: Any) -> None:
        """A line through the points with an arrowhead at the last."""
        (x0, y0), (x1, y1) = points[-2:]
        angle, size = math.atan2(y1 - y0, x1 - x0), 5.5
        back = (x1 - size * math.cos(angle), y1 - size * math.sin(angle))
        self.line([*points[:-1], back], color, **style)
        self._head((x1, y1), angle, size, color)

    def bow(
        self,
        start: Point,
        end: Point,
        rise: float,
        *,
        color: str = INK,
        thick: float = 0.9,
        head: bool = True,
        arc: Arc | None = None,
    ) -> None:
        """A curve from one point to another.

        Its crown is `rise` above the higher point; with a negative rise, below the lower one.
        """
        crown = (min if rise > 0 else max)(start[1], end[1]) - 4 / 3 * rise
        lean = 0.12 * (end[0] - start[0])
        handles = (start[0] + lean, crown), (end[0] - lean, crown)
        size = 3.6 if head else 0.0
        angle = math.atan2(end[1] - handles[1][1], end[0] - handles[1][0])
        stop = (end[0] - size * math.cos(angle), end[1] - size * math.sin(angle))
        points, dashed = (start, *handles, stop), arc is Arc.CHANGED
        self._shape(points, edge=color, thick=thick, dashed=dashed, smooth=True, arc=arc)
        if head:
            self._head(end, angle, size, color)

    def pill(
        self, box: Box, fill: str, edge: str | None, *, radius: float = 4, thick: float = 0.7
    ) -> None:
        """A rectangle with round corners; a circle if the radius is large enough."""
        left, top, right, bottom = box
        r = min(radius, box.width / 2, box.height / 2)
        k = 0.4477 * r  # distance from a corner to the Bezier handle of a quarter circle
        points: list[Point] = [(left + r, top)]
        for (x0, y0), (hx0, hy0), (hx1, hy1), (x1, y1) in (
            ((right - r, top), (right - k, top), (right, top + k), (right, top + r)),
            ((right, bottom - r), (right, bottom - k), (right - k, bottom), (right - r, bottom)),
            ((left + r, bottom), (left + k, bottom), (left, bottom - k), (left, bottom - r)),
            ((left, top + r), (left, top + k), (left + k, top), (left + r, top)),
        ):
            points += [points[-1], (x0, y0), (x0, y0), (hx0, hy0), (hx1, hy1), (x1, y1)]
        self._shape(points, fill=fill, edge=edge, thick=thick, closed=True, smooth=True)

    def dot(
        self, center: Point, radius: float, fill: str, edge: str | None = None, thick: float = 0.9
    ) -> None:
        """A disk."""
        x, y = center
        box = Box(x - radius, y - radius, x + radius, y + radius)
        self.pill(box, fill, edge, radius=radius, thick=thick)

    def text(self, point: Point, text: str, **style: Any) -> Box:
        """A line of text; returns the space that it takes."""
        words = Words(point=point, text=text, **style)
        self.items.append(words)
        return words.box

    def put(self, other: "Canvas", right: float, down: float) -> None:
        """Everything on another canvas, moved."""
        for item in other.items:
            if isinstance(item, Words):
                x, y = item.point
                self.items.append(dataclasses.replace(item, point=(x + right, y + down)))
            else:
                points = tuple((x + right, y + down) for x, y in item.points)
                self.items.append(dataclasses.replace(item, points=points))

    @property
    def box(self) -> Box:
        """The bounding box."""
        boxes = [
            item.box if isinstance(item, Words) else _around(item.points) for item in self.items
        ]
        lefts, tops, rights, bottoms = zip(*boxes, strict=True) if boxes else ((0.0,),) * 4
        return Box(min(lefts), min(tops), max(rights), max(bottoms))

    def _shape(self, points: Iterable[Point], **style: Any) -> None:
        self.items.append(Shape(points=tuple(points), **style))

    def _head(self, tip: Point, angle: float, size: float, color: str) -> None:
        size *= 1.15
        back = [
            (tip[0] - size * math.cos(angle + turn), tip[1] - size * math.sin(angle + turn))
            for turn in (0.42, -0.42)
        ]
        self.area([tip, *back], color, None)


def figure(canvas: Canvas, margin: float = 18) -> Any:
    """The canvas as a matplotlib figure with a margin."""
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    left, top, right, bottom = canvas.box
    left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
    page = Figure(
        figsize=((right - left) / UNITS_PER_INCH, (bottom - top) / UNITS_PER_INCH),
        dpi=UNITS_PER_INCH,
        facecolor=PAPER,
    )
    axes = page.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    for order, item in enumerate(canvas.items):
        if isinstance(item, Words):
            axes.text(
                *item.point,
                item.text,
                fontsize=item.size,
                fontfamily=list(FONT),
                fontweight="bold" if item.bold else "normal",
                color=item.color,
                ha=item.align,
                va="center",
                zorder=order,
                parse_math=False,
            )
            continue
        codes = [Outline.MOVETO] + [Outline.CURVE4 if item.smooth else Outline.LINETO] * (
            len(item.points) - 1
        )
        points = list(item.points)
        if item.closed:
            codes.append(Outline.CLOSEPOLY)
            points.append(item.points[0])
        patch = PathPatch(
            Outline(points, codes),
            facecolor=item.fill or "none",
            edgecolor=item.edge or "none",
            linewidth=item.thick,
            linestyle=(0, (2.6, 1.9)) if item.dashed else "solid",
            joinstyle="round",
            capstyle="butt",
            zorder=order,
            clip_on=False,
        )
        axes.add_artist(patch)  # not add_patch, which would measure it
    return page


@cache
def text_width(text: str, size: float = BODY, bold: bool = False) -> float:
    """Width of a line of text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family=list(FONT), weight="bold" if bold else "normal", size=size)
    width: float = TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]
    return width * POINT


def line_height(size: float = BODY) -> float:
    """Distance between lines of text."""
    return 1.32 * size * POINT


def _around(points: Sequence[Point]) -> Box:
    # Includes the handles of curves, which are outside the curve: an upper bound.
    xs, ys = zip(*points, strict=True)
    return Box(min(xs), min(ys), max(xs), max(ys))
