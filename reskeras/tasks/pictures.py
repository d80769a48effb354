"""Answers drawn on their images, and how files hold them. Needs Pillow alone."""

import colorsys
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reskeras.tasks.class_labels import IGNORED

Color = tuple[int, int, int]
_FIRST: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""The colors of Okabe and Ito without black, which colorblind people tell apart."""
_TURN = 0.618034
"""Hues this far apart (the golden ratio) stay apart, however many there are."""
VOID: Color = (128, 128, 128)
"""Of pixels without a class."""
PAPER: Color = (255, 255, 255)
_INK: Color = (31, 41, 51)
_LEAST, _MOST = 256, 16
"""Images whose longer side is shorter are enlarged, at most so many times, to be seen."""
_ROW, _EDGE = 20, 6
"""Of a line of text, in pixels."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """How files hold labels: as those that the network was trained on."""

    values: tuple[int, ...]
    """The value of each class in masks."""
    void: int
    """The value of pixels without a class."""
    white: int = 255
    """The value of white in images."""

    def mask(self, numbers: Any) -> Any:
        """Numbers of classes [...] as values: the smallest type of bytes that holds all."""
        # `IGNORED` is -1: the last one.
        values = np.array([*self.values, self.void])
        assert IGNORED == -1
        most = int(values.max())
        kind = np.uint8 if most <= 255 else np.uint16 if most <= 65535 else np.int32
        return values.astype(kind)[numbers]

    def image(self, shares: Any) -> Any:
        """Shares of white [...] as bytes, or as 16-bit numbers."""
        kind = np.uint8 if self.white <= 255 else np.uint16
        return np.rint(shares * self.white).astype(kind)

    def palette(self) -> list[int]:
        """Red, green and blue of each of 256 values of a mask."""
        colors = [(0, 0, 0)] * 256
        for number, value in enumerate(self.values):
            if 0 <= value <= 255:
                colors[value] = color_of(number)
        if self.void <= 255:
            colors[self.void] = VOID
        return [part for color in colors for part in color]


class Line(NamedTuple):
    """A line below a picture."""

    text: str
    color: Color | None = None
    """Of a square before the text."""


def color_of(number: int) -> Color:
    """The color of a class: black for class 0, which often is the background."""
    if number <= len(_FIRST):
        return _FIRST[number - 1] if number else (0, 0, 0)
    # Rounds of hues differ in brightness, too.
    red, green, blue = colorsys.hsv_to_rgb(number * _TURN % 1, 0.65, (1.0, 0.75)[number % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def point_color(number: int) -> Color:
    """The color of a point, a number or whatever has no background."""
    return color_of(number + 1)


def seen_well(image: Image.Image) -> tuple[Image.Image, int]:
    """An image that is large enough to be seen, in colors, and how many times it is enlarged."""
    longer = max(image.size)
    times = min(_MOST, max(1, -(-_LEAST // longer)))
    size = image.width * times, image.height * times
    # Pixels stay squares: smoothing would show what is not there.
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST), times


def blended(image: Image.Image, numbers: Any, strength: float = 0.5) -> Image.Image:
    """An image with the colors of a mask [H,W] over it; class 0 stays as it is."""
    most = max(1, int(numbers.max()))
    colors = np.array([*map(color_of, range(most + 1)), VOID], np.float32)
    shares = np.array([0.0, *[strength] * most, strength], np.float32)[numbers][..., np.newaxis]
    pixels = np.asarray(image.convert("RGB"), np.float32)
    return Image.fromarray(np.rint(pixels + shares * (colors[numbers] - pixels)).astype(np.uint8))


def with_lines(image: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """An image with lines of text below it, in as many columns as fit."""
    font = ImageFont.load_default(14)
    widths = [font.getlength(line.text) + (_ROW if line.color else 0) + 2 * _EDGE for line in lines]
    if not lines:
        return image
    wide = max(image.width, *(int(width) + 1 for width in widths))
    columns = max(1, wide // (int(max(widths)) + 1))
    rows = -(-len(lines) // columns)
    whole = Image.new("RGB", (wide, image.height + rows * _ROW + 2 * _EDGE), PAPER)
    whole.paste(image, ((wide - image.width) // 2, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        x = _EDGE + number // rows * (wide // columns)
        y = image.height + _EDGE + number % rows * _ROW
        if line.color is not None:
            draw.rectangle((x, y + 3, x + 12, y + 15), fill=line.color, outline=_INK)
            x += _ROW
        draw.text((x, y + _ROW / 2), line.text, fill=_INK, font=font, anchor="lm")
    return whole


def with_points(image: Image.Image, points: Any, times: int) -> Image.Image:
    """An image with points [K,2] (x and y), in pixels of the image before it was enlarged.

    Args:
        image: as `seen_well` returns it; it is changed.
        points: one that is NaN is left out.
        times: how many times the image was enlarged.
    """
    draw = ImageDraw.Draw(image)
    radius = max(4.0, max(image.size) / 80)
    for number, (x, y) in enumerate(points):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        at = (x + 0.5) * times - 0.5, (y + 0.5) * times - 0.5
        draw.circle(
            at, radius, fill=point_color(number), outline=PAPER, width=max(1, round(radius / 4))
        )
    return image


def beside(images: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    """Images of one height beside each other, each above its name."""
    parts = [with_lines(image, [Line(name)]) for image, name in images]
    wide = sum(part.width for part in parts) + _EDGE * (len(parts) - 1)
    whole = Image.new("RGB", (wide, max(part.height for part in parts)), PAPER)
    x = 0
    for part in parts:
        whole.paste(part, (x, 0))
        x += part.width + _EDGE
    return whole
