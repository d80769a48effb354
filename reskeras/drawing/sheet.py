"""A sheet of images with their labels, as they reach a network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import BODY, GRAY, HIGHLIGHT, INK, SMALL

_COLUMNS, _INCHES, _TITLE = 8, 1.1, 0.35


def sheet(blocks: Mapping[str, Sequence[tuple[Any, Any]]], names: Sequence[str]) -> Any:
    """Blocks of images in rows, each below its title, as a `matplotlib.figure.Figure`.

    Args:
        blocks: images with labels by title. An image is an array [H,W,C] of bytes, or of floats,
            which are shown from the smallest value of all to the largest. A label is a class, or a
            mask [H,W], of which the borders are drawn; pixels without a class (-1) are pale.
        names: the names of the classes; empty for numbers.
    """
    from matplotlib.figure import Figure

    images = [image for block in blocks.values() for image, _ in block]
    low, high = float(min(map(np.min, images))), float(max(map(np.max, images)))
    if images[0].dtype == np.uint8:
        low, high = 0.0, 255.0
    height, width = images[0].shape[:2]
    # Rows of wide images are low, and those of tall ones are not taller than wide.
    row = _INCHES * min(1.0, max(0.25, height / width)) + 0.2
    rows = [-(-len(block) // _COLUMNS) for block in blocks.values()]
    heights = [count * row + _TITLE for count in rows]
    figure = Figure(figsize=(_COLUMNS * _INCHES, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False).ravel()
    for part, count, (title, block) in zip(parts, rows, blocks.items(), strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=BODY, color=GRAY, parse_math=False)
        axes = part.subplots(count, _COLUMNS, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, (image, label) in zip(axes, block, strict=False):
            shown = ((image - low) / max(high - low, 1e-9)).clip(0, 1)
            shown = shown[..., :3] if shown.shape[-1] >= 3 else np.repeat(shown[..., :1], 3, -1)
            axis.imshow(shown, interpolation="nearest")
            if np.ndim(label):
                unknown = (np.asarray(label) < 0)[..., np.newaxis]
                axis.imshow(np.where(unknown, (1 + shown) / 2, shown), interpolation="nearest")
                levels = np.unique(label)[1:] - 0.5
                if len(levels) and min(np.shape(label)) > 1:
                    axis.contour(label, levels=levels, colors=HIGHLIGHT, linewidths=0.8)
            else:
                name = names[int(label)] if names else str(int(label))
                axis.set_title(name[:18], fontsize=SMALL, color=INK, pad=2, parse_math=False)
    return figure
