"""The U-Net paper's weights of pixels, which teach a network to keep touching cells apart."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from reskeras.tasks.class_labels import IGNORED

BORDER_WEIGHT = 10.0
"""w0 of the paper."""
BORDER_SIGMA = 5.0
"""Sigma of the paper, in pixels."""
_REACH = 6
"""Cells further away than this many sigmas do not count: they would add less than 2e-8 w0."""


def border_weights(
    mask: Any,
    class_weights: Sequence[float] | None = None,
    *,
    weight: float = BORDER_WEIGHT,
    sigma: float = BORDER_SIGMA,
    spacing: Sequence[float] | None = None,
    background: int = 0,
) -> Any:
    """The weight of each pixel of a mask in the loss (arXiv:1505.04597, eq. 2).

    w(x) = wc(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), where d1 and d2 are the distances from
    the pixel to the nearest pixels of the nearest and of the second nearest cell. A cell is what is
    connected along the axes and of one class. Only background lies between cells, so the second
    term is for its pixels alone, as in the paper's Fig. 3d; the formula does not say it.

    Args:
        mask: classes of pixels [*sides], whole numbers; `IGNORED` has no class and the weight 0.
        class_weights: wc, of each class; 1 for all if None.
        weight: w0.
        sigma: how far from cells weights fall, in pixels, or in units of `spacing`.
        spacing: the size of a pixel along each axis; 1 if None.
        background: the class that is no cell.

    Returns:
        float32 [*sides].

    Raises:
        ValueError: sigma is not positive, or a class has no weight.
    """
    from scipy import ndimage

    mask = np.asarray(mask)
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, not {sigma}")
    if class_weights is not None and mask.max() >= len(class_weights):
        raise ValueError(f"{len(class_weights)} class weights for class {mask.max()}")
    of_classes = np.ones(1 + max(0, int(mask.max()))) if class_weights is None else class_weights
    found = np.where(mask == IGNORED, 0, np.asarray(of_classes, np.float32)[mask])
    sizes = [1.0] * mask.ndim if spacing is None else list(spacing)
    first, second = (np.full(mask.shape, np.inf, np.float32) for _ in range(2))
    reach = [math.ceil(_REACH * sigma / size) for size in sizes]
    for value in np.unique(mask):
        if value in (background, IGNORED):
            continue
        cells, _ = ndimage.label(mask == value)
        # Distances around each cell alone: whole maps of all cells would take their number's time.
        for number, box in enumerate(ndimage.find_objects(cells), start=1):
            around = tuple(
                slice(max(0, part.start - more), part.stop + more)
                for part, more in zip(box, reach, strict=True)
            )
            distance = ndimage.distance_transform_edt(cells[around] != number, sizes)
            nearest, next_ = first[around], second[around]
            next_[...] = np.minimum(next_, np.maximum(nearest, distance))
            nearest[...] = np.minimum(nearest, distance)
    between = mask == background
    far = (first[between] + second[between]) / sigma
    found[between] += weight * np.exp(-(far**2) / 2)
    return found.astype(np.float32)
