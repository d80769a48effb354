"""A sheet of images with their labels, as they reach a network."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import BODY, FAINT, GRAY, GREEN, HIGHLIGHT, INK, SKY, SMALL, VIOLET

_COLUMNS, _INCHES, _TITLE, _LEGEND = 8, 1.1, 0.35, 0.25
_LONGEST = 18
"""Letters of a title."""
_NAMED = 10
"""Points that have colors of their own; more have one."""
_GAP = 0.06
"""Between an image and what is beside it, as a share of its width."""
_SIGNAL, _VOLUME = 2, 4
"""Dimensions of their arrays."""
_CHANNELS = (INK, SKY, GREEN.edge, VIOLET.edge, GRAY)
_CLASSES = [f"C{number}" for number in range(10) if number != 7]
"""Colors of classes in masks: matplotlib's, without its gray."""
"""Colors of the channels of signals; more channels begin again."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """An image with what is drawn of its label."""

    image: Any
    """Bytes or floats: an image [H,W,C], a signal [L,C], or a volume [D,H,W,C]."""
    title: str = ""
    mask: Any = None
    """The class of each pixel [*sides]; negative ones have none."""
    points: Any = None
    """x and y in pixels [K,2]; NaN for those that are not there."""
    beside: Any = None
    """Another image of the same sides."""


def sheet(blocks: Mapping[str, Sequence[Cell]], points: Sequence[str] = ()) -> Any:
    """Blocks of images in rows, each below its title, as a `matplotlib.figure.Figure`.

    Floats are shown from the smallest value of all to the largest. Of masks, the borders are drawn,
    and pixels without a class are pale. Signals are lines, and so are what is beside them and
    their masks. Volumes are cut through the middle.

    Args:
        blocks: images by title; all have the same sides.
        points: the names of the points.
    """
    from matplotlib.figure import Figure

    flat = {title: [_sliced(cell) for cell in block] for title, block in blocks.items()}
    cells = [cell for block in flat.values() for cell in block]
    first = cells[0]
    signals = first.image.ndim == _SIGNAL
    low, high = _range(
        part for cell in cells for part in (cell.image, cell.beside) if part is not None
    )
    if signals:
        columns, tall = _COLUMNS // 2, 0.6
    else:
        columns = _COLUMNS if first.beside is None else _COLUMNS // 2
        height, width = first.image.shape[:2]
        tall = height / (width if first.beside is None else (2 + _GAP) * width)
    inches = _COLUMNS * _INCHES / columns
    # Rows of wide images are low, and those of tall ones are not taller than wide.
    row = inches * min(1.0, max(0.25, tall)) + 0.2
    named = first.points is not None and len(points) <= _NAMED and bool(points)
    rows = [-(-len(block) // columns) for block in flat.values()]
    heights = [count * row + _TITLE + named * _LEGEND for count in rows]
    figure = Figure(figsize=(_COLUMNS * _INCHES, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(flat), 1, height_ratios=heights, squeeze=False).ravel()
    for part, count, (title, block) in zip(parts, rows, flat.items(), strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=BODY, color=GRAY, parse_math=False)
        axes = part.subplots(count, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, cell in zip(axes, block, strict=False):
            if signals:
                _draw_signal(axis, cell, low, high)
            else:
                _draw_image(axis, cell, low, high)
            axis.set_title(_short(cell.title), fontsize=SMALL, color=INK, pad=2, parse_math=False)
        if named:
            handles = axes[0].collections[: len(points)]
            part.legend(
                handles, points, loc="outside lower left", ncols=5, fontsize=SMALL, frameon=False
            )
    return figure


def _sliced(cell: Cell) -> Cell:
    """A volume's middle slice; what is flat stays."""
    if cell.image.ndim != _VOLUME:
        return cell
    middle = len(cell.image) // 2
    return Cell(
        image=cell.image[middle],
        title=cell.title,
        mask=None if cell.mask is None else cell.mask[middle],
        beside=None if cell.beside is None else cell.beside[middle],
    )


def _range(images: Iterable[Any]) -> tuple[float, float]:
    """What is black and what is white; floats in 0..1 beside bytes are of another scale."""
    every = list(images)
    if all(image.dtype == np.uint8 for image in every):
        return 0.0, 255.0
    return float(min(map(np.min, every))), float(max(map(np.max, every)))


def _shown(image: Any, low: float, high: float) -> Any:
    """An image in 0..1, in colors; of other numbers of channels, the first ones."""
    found = ((image - low) / max(high - low, 1e-9)).clip(0, 1)
    return found[..., :3] if found.shape[-1] >= 3 else np.repeat(found[..., :1], 3, -1)


def _draw_image(axis: Any, cell: Cell, low: float, high: float) -> None:
    shown = _shown(cell.image, low, high)
    if cell.beside is not None:
        height, width, channels = shown.shape
        gap = np.ones((height, max(1, round(_GAP * width)), channels))
        shown = np.concatenate([shown, gap, _shown(cell.beside, low, high)], axis=1)
    axis.imshow(shown, interpolation="nearest")
    if cell.mask is not None:
        unknown = (np.asarray(cell.mask) < 0)[..., np.newaxis]
        axis.imshow(np.where(unknown, (1 + shown) / 2, shown), interpolation="nearest")
        if min(np.shape(cell.mask)) > 1:
            for number in np.unique(cell.mask)[1:]:
                # Each alone: contours of several levels would lie around the higher classes.
                color = HIGHLIGHT if number == 1 else _CLASSES[number % len(_CLASSES)]
                within = np.asarray(cell.mask) == number
                axis.contour(within, levels=[0.5], colors=[color], linewidths=0.8)
    if cell.points is not None:
        for number, (x, y) in enumerate(cell.points):
            color = f"C{number}" if len(cell.points) <= _NAMED else HIGHLIGHT
            axis.scatter([x], [y], s=16, color=color, edgecolors="white", linewidths=0.5)


def _draw_signal(axis: Any, cell: Cell, low: float, high: float) -> None:
    margin = 0.05 * max(high - low, 1e-9)
    axis.set_ylim(low - margin, high + margin)
    axis.axhline(low - margin, color=FAINT, linewidth=0.5)
    for number, channel in enumerate(np.asarray(cell.image, np.float32).T):
        axis.plot(channel, color=_CHANNELS[number % len(_CHANNELS)], linewidth=0.8)
    if cell.beside is not None:
        axis.plot(np.asarray(cell.beside), color=HIGHLIGHT, linewidth=0.8)
    if cell.mask is not None:
        classes = np.where(np.asarray(cell.mask) < 0, np.nan, cell.mask)
        steps = low + (high - low) * classes / max(1.0, float(np.max(cell.mask)))
        axis.step(np.arange(len(steps)), steps, where="mid", color=HIGHLIGHT, linewidth=0.8)


def _short(title: str) -> str:
    return title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
