"""A confusion matrix as a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reskeras.drawing.palette import BODY, GRAY, INK, PAPER, SMALL
from reskeras.words import compact

_MOST_NUMBERS, _MOST_NAMES = 20, 60
"""Classes of which cells have numbers, and of which the axes have names."""


def confusion(matrix: Any, names: Sequence[str]) -> Any:
    """Rows are labels, columns answers; a color is the share of its row, a number the count.

    Args:
        matrix: how often each label got each answer [K,K].
        names: of the K classes.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    count = len(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(10.0, 2.2 + 0.42 * count)
    figure = Figure(figsize=(side + 0.7, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xlabel("answer", fontsize=BODY, color=INK)
    axis.set_ylabel("label", fontsize=BODY, color=INK)
    axis.tick_params(colors=GRAY, labelsize=SMALL, length=0)
    axis.spines[:].set_visible(False)
    if count <= _MOST_NAMES:
        told = [name[:18] for name in names]
        turned = 90 if max(map(len, told)) > 3 else 0
        axis.set_xticks(range(count), told, rotation=turned, parse_math=False)
        axis.set_yticks(range(count), told, parse_math=False)
    if count <= _MOST_NUMBERS:
        for row, column in np.argwhere(matrix):
            axis.text(
                column,
                row,
                compact(matrix[row, column]),
                ha="center",
                va="center",
                fontsize=SMALL if count <= 12 else 5,
                color=PAPER if shares[row, column] > 0.5 else INK,
            )
    bar = figure.colorbar(shown, ax=axis, shrink=0.6)
    bar.set_label("share of the label", fontsize=SMALL, color=GRAY)
    bar.ax.tick_params(labelsize=SMALL, colors=GRAY)
    bar.outline.set_visible(False)
    return figure
