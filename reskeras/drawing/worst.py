"""Images with their labels and a network's answers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reskeras.drawing.palette import BODY, GRAY, GREEN, HIGHLIGHT, INK, SMALL
from reskeras.tasks import Labels

_COLUMNS, _INCHES, _MOST_COLORS = 4, 1.7, 20
_RIGHT, _WRONG = GREEN.edge, HIGHLIGHT


class Example(NamedTuple):
    """An image [*sides,C] in 0..1, what it is and what a network answers."""

    image: Any
    label: Any
    """As data have it (see `Labels`)."""
    answer: Any
    """In the form of a label: a mask, an image or points; not drawn for other kinds."""
    title: str


def worst(examples: Sequence[Example], labels: Labels, names: Sequence[str] = ()) -> Any:
    """Examples in rows: masks beside each other, points on the image, images side by side.

    Args:
        examples: the first one comes first.
        labels: the kind of label.
        names: of the classes of masks, for a legend.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    parts = _panels(labels)
    columns = max(1, _COLUMNS if len(parts) == 1 else 2)
    rows = -(-len(examples) // columns)
    height, width = _plane(examples[0].image).shape[:2]
    tall = _INCHES * min(1.6, max(0.4, height / width)) + 0.2 * (1 + len(_lines(examples)))
    figure = Figure(
        figsize=(columns * len(parts) * _INCHES, rows * tall + 0.3), layout="constrained"
    )
    figure.suptitle(_KEY[labels], x=0.01, ha="left", fontsize=BODY, color=GRAY)
    if labels is Labels.MASK and len(names) <= _MOST_COLORS + 1:
        _name_colors(figure, examples, names)
    cells = figure.subfigures(rows, columns, squeeze=False).ravel()
    for cell, example in zip(cells, examples, strict=False):
        axes = cell.subplots(1, len(parts), squeeze=False).ravel()
        title = {"fontsize": SMALL, "color": INK, "pad": 3, "parse_math": False}
        axes[len(axes) // 2].set_title(example.title, **title)
        for axis, part in zip(axes, parts, strict=True):
            axis.set_axis_off()
            _draw(axis, example, labels, part)
    return figure


_KEY = {
    Labels.CLASS: "the answers that are furthest from the label",
    Labels.CLASSES: "the answers that are furthest from the labels",
    Labels.NUMBERS: "the answers that are furthest from the label",
    Labels.POINTS: "green circles: labels; red crosses: answers",
    Labels.MASK: "image, label, answer",
    Labels.IMAGE: "input, label, answer",
}


def _lines(examples: Sequence[Example]) -> list[str]:
    return max((example.title.splitlines() for example in examples), key=len)


def _name_colors(figure: Any, examples: Sequence[Example], names: Sequence[str]) -> None:
    """A legend of the classes that masks and answers have."""
    from matplotlib.patches import Patch

    parts = [part for each in examples for part in (each.label, each.answer)]
    there = sorted({int(value) for part in parts for value in np.unique(part)} - {-1, 0})
    patches = [Patch(color=_color(number), label=names[number][:18]) for number in there]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower left", ncols=8, fontsize=SMALL, frameon=False
        )


def _color(number: int) -> Any:
    """The color of a class of masks but the first; of more than 20, some are the same."""
    from matplotlib import colormaps

    return colormaps["tab20"]((number - 1) * 2 % 20 + (number - 1) // 10 % 2)[:3]


def _panels(labels: Labels) -> tuple[str, ...]:
    """What is drawn side by side for each example."""
    return ("image", "label", "answer") if labels.has_sides else ("image",)


def _draw(axis: Any, example: Example, labels: Labels, part: str) -> None:
    image = example.image
    if image.ndim == 2:  # a signal
        axis.plot(image, linewidth=0.8, color=INK)
        return
    shown = getattr(example, part)
    if labels is Labels.MASK and part != "image":
        from matplotlib.colors import to_rgb

        plane = _middle(shown, example.image.ndim - 1)
        # A class has the same color in each panel; class 0 and no class are dark.
        colors = [_color(number) for number in range(1, 1 + int(max(1, plane.max())))]
        paint = np.array([to_rgb(INK), *colors])
        axis.imshow(paint[np.maximum(plane, 0)], interpolation="nearest")
        return
    axis.imshow(_plane(shown), interpolation="nearest")
    if labels is Labels.POINTS:
        label, answer = np.asarray(example.label), np.asarray(example.answer)[:, :2]
        for (x, y), (u, v) in zip(label, answer, strict=True):
            axis.plot([x, u], [y, v], color=_WRONG, linewidth=0.8)
        there = ~np.isnan(label[:, 0])
        circle = {"marker": "o", "markersize": 6, "markerfacecolor": "none"}
        axis.plot(*label[there].T, linestyle="none", color=_RIGHT, **circle)
        axis.plot(*answer[there].T, linestyle="none", color=_WRONG, marker="x", markersize=4)


def _middle(image: Any, rank: int) -> Any:
    """The middle slice of a volume; other images as they are."""
    return image[len(image) // 2] if rank == 3 else image


def _plane(image: Any) -> Any:
    """An image [*sides,C] as colors [H,W,3] in 0..1."""
    image = np.asarray(image, "float32")
    if image.ndim == 2:
        return np.zeros((2, 5, 3))  # the proportions of a signal's plot
    plane = _middle(image, image.ndim - 1)
    low, high = min(0.0, float(plane.min())), max(1.0, float(plane.max()))
    plane = (plane - low) / (high - low)
    return plane[..., :3] if plane.shape[-1] >= 3 else np.repeat(plane[..., :1], 3, axis=-1)
