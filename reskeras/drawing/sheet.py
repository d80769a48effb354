"""A sheet of images with their labels, as they reach a network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import HIGHLIGHT, INK, SMALL

_COLUMNS, _INCHES = 8, 1.1


def sheet(images: Sequence[Any], labels: Sequence[Any], names: Sequence[str]) -> Any:
    """Images in rows as a `matplotlib.figure.Figure`.

    Args:
        images: arrays [H,W,C] of bytes, or of floats; floats are shown from the smallest value of
            all to the largest.
        labels: a class each, or a mask [H,W] each, of which the borders are drawn.
        names: the names of the classes; empty for numbers.
    """
    from matplotlib.figure import Figure

    rows = -(-len(images) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _INCHES, rows * (_INCHES + 0.2)), layout="constrained")
    low, high = min(map(np.min, images)), max(map(np.max, images))
    if images[0].dtype == np.uint8:
        low, high = 0, 255
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, label in zip(axes, images, labels, strict=False):
        shown = ((image - float(low)) / max(float(high) - float(low), 1e-9)).clip(0, 1)
        shown = shown[..., :3] if shown.shape[-1] >= 3 else np.repeat(shown[..., :1], 3, -1)
        axis.imshow(shown, interpolation="nearest")
        if np.ndim(label):
            levels = np.unique(label)[1:] - 0.5
            if len(levels) and min(np.shape(label)) > 1:
                axis.contour(label, levels=levels, colors=HIGHLIGHT, linewidths=0.8)
        else:
            name = names[int(label)] if names else str(int(label))
            axis.set_title(name[:18], fontsize=SMALL, color=INK, pad=2, parse_math=False)
    return figure
