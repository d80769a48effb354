"""What the lines and signs of a drawing mean."""

from collections.abc import Callable
from typing import Any

from reskeras.drawing.canvas import Arc, Canvas, Shape
from reskeras.drawing.page import symbol
from reskeras.drawing.palette import GRAY, SMALL
from reskeras.drawing.tracing import times
from reskeras.drawing.wording import arc_words, is_residual
from reskeras.spec import AnySpec, Hourglass, UNet

GAP = 24.0

Sample = Callable[[Canvas], None]


def legend(spec: AnySpec, network: Canvas, wide: float) -> Canvas | None:
    """The legend of a network's drawing in lines no wider than this; None if it is empty."""
    lines: list[Canvas] = []
    for sample, words in [*_arcs(spec, network), *_signs(spec)]:
        entry = Canvas()
        sample(entry)
        entry.text((entry.box.right + 7, 0), words, size=SMALL, color=GRAY, align="left")
        if not lines or lines[-1].box.width + GAP + entry.box.width > wide:
            lines.append(Canvas())
        line = lines[-1]
        line.put(entry, (line.box.right + GAP if line.items else 0) - entry.box.left, 0)
    page = Canvas()
    for number, line in enumerate(lines):
        page.put(line, -line.box.left - line.box.width / 2, 22 * number)
    return page if lines else None


def _arcs(spec: Any, network: Canvas) -> list[tuple[Sample, str]]:
    arcs = {item.arc for item in network.items if isinstance(item, Shape)}
    entries: list[tuple[Sample, str]] = []
    if Arc.IDENTITY in arcs:
        entries.append((lambda canvas: canvas.line([(0, 0), (24, 0)]), "identity shortcut"))
    if Arc.CHANGED in arcs:
        parts = (getattr(spec, "encoder", None), spec)
        words = dict.fromkeys(
            arc_words(part.shortcut) for part in parts if part and is_residual(part)
        )
        entries.append(
            (
                lambda canvas: canvas.line([(0, 0), (24, 0)], dashed=True),
                f"shortcut: {' or '.join(words)}",
            )
        )
    if Arc.DENSE in arcs:
        entries.append(
            (
                lambda canvas: canvas.bow((0, 4), (26, 4), 8, head=False, thick=0.7),
                "each layer receives all earlier ones",
            )
        )
    return entries


def _signs(spec: AnySpec) -> list[tuple[Sample, str]]:
    entries: list[tuple[Sample, str]] = []
    if isinstance(spec, Hourglass):
        side = _halved(spec)
        entries.append(
            (
                lambda canvas: canvas.arrow([(0, 0), (22, 0)]),
                f"{side}max pooling before the waist, upsampling after it",
            )
        )
        entries.append((lambda canvas: symbol(canvas, (0, 0), "add", radius=6.5), "sum"))
    if isinstance(spec, UNet):
        side = _halved(spec)
        down = f"{side}max pooling" if spec.down == "maxpool" else "stride 2"
        up = (
            f"{side}transposed convolution"
            if spec.up == "transpose"
            else "nearest-neighbor upsampling"
        )
        if spec.encoder is None:
            entries.append((lambda canvas: canvas.arrow([(0, -7), (0, 8)]), down))
        entries.append((lambda canvas: canvas.arrow([(0, 7), (0, -8)]), up))
        if spec.skip == "add":
            entries.append((lambda canvas: symbol(canvas, (0, 0), "add", radius=7), "sum"))
        else:
            entries.append(
                (lambda canvas: symbol(canvas, (0, 0), "concat", radius=7), "concatenation")
            )
        if spec.skip == "attention":
            words = (
                "attention gate"
                if spec.decoder == "plain"
                else "attention gate, also on each skip above"
            )
            entries.append((lambda canvas: symbol(canvas, (0, 0), "gate", radius=7), words))
    return entries


def _halved(spec: AnySpec) -> str:
    dims = len(spec.input_shape) - 1
    return f"{times([2] * dims)} " if dims > 1 else ""
