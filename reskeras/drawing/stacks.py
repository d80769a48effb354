"""Stacked hourglasses: each narrows to a waist and widens again; skips run above, heads between."""

from reskeras.drawing.canvas import Box, Canvas
from reskeras.drawing.inset import inset, units_of
from reskeras.drawing.page import Line, draw_lines, pill, symbol
from reskeras.drawing.palette import BLUE, GRAY, INK, ROSE, SAND, SMALL, STEEL, VIOLET, Paint
from reskeras.drawing.solids import Drawn, Group, Slab, SolidSizes, arc_of, draw_group
from reskeras.drawing.tracing import Trace, conv_words, times
from reskeras.drawing.wording import block_words, head_lines
from reskeras.spec import Features, Hourglass

RADIUS = 5.5
GAP = 14.0
"""Between two solids: space for a fork or a sum."""

SKIP_PITCH = 17.0


def draw_stacks(trace: Trace, spec: Hourglass) -> tuple[Canvas, Canvas]:
    """The network, and one of its blocks layer by layer."""
    unit, *_ = units_of("stack1_level1_in", "stack 1, level 1", spec.block, [1])
    return _Drawing(trace, spec, unit.name).canvas, inset(trace, unit)


class _Drawing:
    """The drawing from left to right, centered on y = 0; `x` is where the next part begins."""

    def __init__(self, trace: Trace, spec: Hourglass, marked: str) -> None:
        self.trace, self.spec = trace, spec
        self.canvas = Canvas()
        self.x = 0.0
        places = [
            "stack1_post",
            "stack1_bridge",
            *(f"stack1_level{n}_{way}" for n in self._levels for way in ("in", "out")),
        ]
        slabs = [self._slab(f"{place}_block1", BLUE) for place in places] + [
            self._slab("stem_conv", SAND)
        ]
        self.scale = SolidSizes(slabs, tall=(26, 96), thick=(8, 11), lean=0.08, marked=marked)
        self.low = self.scale.height(self._slab("stem_conv", SAND)) / 2 + 16
        end = self._stem()
        for stack in range(1, spec.stacks + 1):
            if spec.stacks > 2 and 1 < stack < spec.stacks:
                if stack == 2:
                    end = self._left_out(end)
                continue
            end = self._stack(stack, end)

    @property
    def _levels(self) -> range:
        return range(1, self.spec.depth + 1)

    def _slab(self, name: str, paint: Paint) -> Slab:
        block = name not in self.trace.nodes
        maps = self.trace.within(name)[-1] if block else self.trace[name]
        arc = arc_of(self.trace, name) if block else None
        return Slab(name=name, sides=maps.sides, channels=maps.channels, paint=paint, arc=arc)

    def _solid(self, name: str, paint: Paint) -> Drawn:
        drawn = draw_group(
            self.canvas,
            Group(slabs=(self._slab(name, paint),)),
            self.scale,
            self.x,
            0,
            below=True,
        )
        self.x = drawn.right + GAP
        return drawn

    def _reach(self, end: float, drawn: Drawn) -> float:
        """Draws the arrow from where the last part ended; returns where this one ends."""
        self.canvas.arrow([(end, 0), (drawn.front.left - 1, 0)])
        return drawn.right

    def _stem(self) -> float:
        left, end = 0.0, 0.0
        stem = (
            ("stem_conv", SAND),
            ("stem_block1", BLUE),
            ("stem_pool", ROSE),
            ("stem_block2", BLUE),
            ("stem_block3", BLUE),
        )
        for name, paint in stem:
            drawn = self._solid(name, paint)
            if name == "stem_conv":
                left = drawn.front.left
                x, top = (left + drawn.right) / 2, drawn.front.top + drawn.lean[1] / 2
                box = pill(
                    self.canvas,
                    ["input", times(self.spec.input_shape)],
                    at=x,
                    bottom=top - 26,
                    paint=STEEL,
                )
                self.canvas.arrow([(x, box.bottom), (x, top)])
                end = drawn.right
            else:
                end = self._reach(end, drawn)
            self.x -= 0.3 * GAP
        kind = block_words(self.spec.block)
        lines = [
            Line(f"{conv_words(7, len(self.spec.input_shape) - 1)} /2"),
            Line(f"{kind} ×1", bold=True),
            Line("max pool /2"),
            Line(f"{kind} ×2", bold=True),
            Line(f"{times(self.trace['stem_conv'].sides)} → {times(self.trace['stem'].sides)}"),
        ]
        draw_lines(self.canvas, "stem", lines, ((left + end) / 2, self.low))
        self.x += 0.8 * GAP
        return end

    def _left_out(self, end: float) -> float:
        left = self.x
        self.canvas.arrow([(end, 0), (left + 6, 0)])
        for place in (18.0, 26.0, 34.0):
            self.canvas.dot((left + place, 0), 1.8, GRAY)
        count = self.spec.stacks - 2
        words = "stack 2" if count == 1 else f"stacks 2 to {self.spec.stacks - 1}"
        self.canvas.text((left + 26, self.low), words, size=SMALL, color=GRAY)
        self.x = left + 52 + 1.5 * GAP
        return left + 46

    def _stack(self, stack: int, end: float) -> float:
        spec, name, canvas = self.spec, f"stack{stack}", self.canvas
        # An hourglass with few levels is narrower than the text below it.
        self.x += 34 * max(0, 3 - spec.depth)
        start = self.x - GAP / 2
        begin = self.x
        last = stack == spec.stacks
        forks = [start]
        heights = []
        for level in self._levels:
            drawn = self._solid(f"{name}_level{level}_in_block1", BLUE)
            end = self._reach(end, drawn)
            heights.append(-drawn.front.top - drawn.lean[1])
            forks.append(end + GAP / 2)
        drawn = self._solid(f"{name}_bridge_block1", VIOLET)
        end = self._reach(end, drawn)
        sums: dict[int, float] = {}
        for level in reversed(self._levels):
            drawn = self._solid(f"{name}_level{level}_out_block1", BLUE)
            end = self._reach(end, drawn)
            at = end + 4 + RADIUS
            canvas.line([(end, 0), (at - RADIUS, 0)])
            sums[level] = at
            end = at + RADIUS
            self.x = end + 6
        waist = (forks[1] + sums[1]) / 2
        tops = [self._post_height(), *heights]
        y = 0.0
        for level in reversed(self._levels):
            y = min(y - SKIP_PITCH, -tops[level - 1] - 14) if y else -tops[level - 1] - 14
            self._skip(
                forks[level - 1],
                sums[level],
                y,
                waist,
                self._slab(f"{name}_level{level}_skip_block1", BLUE),
            )
        for at in sums.values():
            symbol(canvas, (at, 0), "add", radius=RADIUS)
        post = self._solid(f"{name}_post_block1", BLUE)
        end = self._reach(end, post)
        self.x -= 0.3 * GAP
        lin = self._solid(name, SAND)
        end = self._reach(end, lin)
        sides = self.trace[name].sides
        inner = self.trace.within(f"{name}_bridge")[-1].sides
        lines = [
            Line(f"{block_words(spec.block)} ×{spec.blocks}", bold=True),
            Line(f"width {spec.width}"),
            Line(f"{times(sides)} → {times(inner)} → {times(sides)}"),
        ]
        draw_lines(canvas, f"stack {stack}", lines, ((begin + sums[1]) / 2, self.low))
        if last:
            if not isinstance(spec.head, Features):
                maps = self.trace["head"]
                box = pill(
                    canvas,
                    [*head_lines(spec.head, len(maps.sides)), times(maps.sides, maps.channels)],
                    left=end + 16,
                    at=0,
                )
                canvas.arrow([(end, 0), (box.left - 1, 0)])
            return end
        return self._between(stack, start, end, y - SKIP_PITCH)

    def _post_height(self) -> float:
        slab = self._slab("stack1_post_block1", BLUE)
        return self.scale.height(slab) / 2 - self.scale.lean(slab)[1]

    def _skip(self, fork: float, at: float, y: float, waist: float, slab: Slab) -> None:
        """Draws a skip: up from a fork, through blocks, down to the sum."""
        canvas = self.canvas
        canvas.dot((fork, 0), 1.7, INK)
        canvas.arrow([(fork, 0), (fork, y), (at, y), (at, -RADIUS)], thick=0.8)
        box = Box(waist - 9, y - 5.5, waist + 9, y + 5.5)
        canvas.pill(box, slab.paint.front, slab.paint.edge, radius=2)

    def _between(self, stack: int, start: float, end: float, y: float) -> float:
        """Draws the next hourglass's input: the sum of this one's input, features and heatmaps."""
        canvas = self.canvas
        fork = end + 7
        at = fork + 14
        if not isinstance(self.spec.head, Features):
            middle = self.low - 30
            box = pill(canvas, [f"head {stack}"], left=fork + 9, at=middle)
            at = box.right + 9
            canvas.dot((fork, 0), 1.7, INK)
            canvas.arrow([(fork, 0), (fork, middle), (box.left - 0.5, middle)])
            canvas.arrow([(box.right, middle), (at, middle), (at, RADIUS)])
        canvas.arrow([(end, 0), (at - RADIUS, 0)])
        canvas.arrow([(start, 0), (start, y), (at, y), (at, -RADIUS)], thick=0.8)
        symbol(canvas, (at, 0), "add", radius=RADIUS)
        self.x = at + RADIUS + 20
        return at + RADIUS
