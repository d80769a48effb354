"""What the lines and signs of a drawing mean."""

from collections.abc import Iterator
from typing import Any

from reskeras.drawing.canvas import Arc, Canvas, Point, Shape
from reskeras.drawing.page import Sign, symbol
from reskeras.drawing.palette import GRAY, SMALL
from reskeras.drawing.tracing import times
from reskeras.drawing.wording import arc_words, has_shortcuts
from reskeras.spec import AnySpec, Hourglass, UNet

GAP = 24.0

Entry = tuple[Canvas, str]
"""A sample, and what it means."""


def legend(spec: AnySpec, network: Canvas, wide: float) -> Canvas | None:
    """The legend of a network's drawing in lines no wider than this; None if it is empty."""
    lines: list[Canvas] = []
    for entry, words in [*_arcs(spec, network), *_signs(spec)]:
        entry.text((entry.box.right + 7, 0), words, size=SMALL, color=GRAY, align="left")
        if not lines or lines[-1].box.width + GAP + entry.box.width > wide:
            lines.append(Canvas())
        line = lines[-1]
        line.put(entry, (line.box.right + GAP if line.items else 0) - entry.box.left, 0)
    page = Canvas()
    for number, line in enumerate(lines):
        page.put(line, -line.box.left - line.box.width / 2, 22 * number)
    return page if lines else None


def _arcs(spec: Any, network: Canvas) -> Iterator[Entry]:
    arcs = {item.arc for item in network.items if isinstance(item, Shape)}
    if Arc.IDENTITY in arcs:
        (sample := Canvas()).line([(0, 0), (24, 0)])
        yield sample, "identity shortcut"
    if Arc.CHANGED in arcs:
        parts = [part for part in (getattr(spec, "encoder", None), spec) if part]
        words = dict.fromkeys(arc_words(part.shortcut) for part in parts if has_shortcuts(part))
        (sample := Canvas()).line([(0, 0), (24, 0)], dashed=True)
        yield sample, f"shortcut: {' or '.join(words)}"
    if Arc.DENSE in arcs:
        (sample := Canvas()).bow((0, 4), (26, 4), 8, head=False, thick=0.7)
        yield sample, "each layer receives all earlier ones"


def _signs(spec: AnySpec) -> Iterator[Entry]:
    dims = len(spec.input_shape) - 1
    halved = f"{times([2] * dims)} " if dims > 1 else ""
    if isinstance(spec, Hourglass):
        yield _arrow((0, 0), (22, 0)), f"{halved}max pooling before the waist, upsampling after it"
        yield _sign("add", 6.5), "sum"
    if isinstance(spec, UNet):
        if spec.encoder is None:
            down = f"{halved}max pooling" if spec.down == "maxpool" else "stride 2"
            yield _arrow((0, -7), (0, 8)), down
        transposed = f"{halved}transposed convolution"
        up = transposed if spec.up == "transpose" else "nearest-neighbor upsampling"
        yield _arrow((0, 7), (0, -8)), up
        yield (_sign("add"), "sum") if spec.skip == "add" else (_sign("concat"), "concatenation")
        if spec.skip == "attention":
            more = "" if spec.decoder == "plain" else ", also on each skip above"
            yield _sign("gate"), f"attention gate{more}"


def _arrow(start: Point, end: Point) -> Canvas:
    sample = Canvas()
    sample.arrow([start, end])
    return sample


def _sign(kind: Sign, radius: float = 7) -> Canvas:
    sample = Canvas()
    symbol(sample, (0, 0), kind, radius=radius)
    return sample
