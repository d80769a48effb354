"""Images that are nearly equal: the same photo, saved again, a little brighter or of another size.

Two images are nearly equal if small versions of them are, after both are brought to the same means
of channels and the same contrast. Candidates come from a k-d tree over the coarsest waves of the
small versions. Leaving waves out makes no distance larger, so no pair is missed.
"""

from typing import Any

import numpy as np

_SIDE = 16
"""The sides of small versions, at most."""
_NEAR = 0.08
"""The root mean square of the differences of small versions, in standard deviations, up to which
images are nearly equal. The nearest two of scikit-learn's digits, which different people wrote, are
0.108 apart; a JPEG of quality 50 is about 0.05 from its photo."""
_MEANS, _CONTRASTS = 0.1, 1.25
"""The means of each channel of nearly equal images differ by this share of the range of values at
most, their standard deviations by this factor."""
_FLAT = 0.04
"""Images with a smaller standard deviation, as a share of the range, show too little to compare."""
_WAVES = 3
"""Waves along each side by which candidates are found."""
_CHUNK = 64
"""Images whose candidates are in memory at once."""


def small_versions(images: Any) -> Any:
    """Averages of images [N,H,W,C] over a coarse grid: float16 [N,<=16,<=16,C]."""
    count, height, width, channels = images.shape
    rows, columns = _averaging(height), _averaging(width)
    small = np.matmul(rows, images.reshape(count, height, width * channels))
    small = np.matmul(columns, small.reshape(count, len(rows), width, channels))
    return small.astype(np.float16)


def near_groups(small: Any, span: float) -> list[list[int]]:
    """Groups of images that are nearly equal to the first one of their group.

    Args:
        small: small versions of the images [N,h,w,C].
        span: the range of values, from the smallest to the largest of all images.

    Returns:
        The numbers of the images of each group, in order; no image is in two groups.
    """
    from sklearn.neighbors import KDTree

    count, height, width, channels = small.shape
    values = small.reshape(count, height * width, channels).astype(np.float32)
    means = values.mean(1)
    flat = (values - means[:, None]).reshape(count, -1)
    deviations = flat.std(1)
    known = np.flatnonzero(deviations > _FLAT * span)
    if len(known) < 2:
        return []
    means, deviations = means[known], deviations[known]
    alike = flat[known] / deviations[:, None]
    waves = alike @ _waves(height, width, channels)
    tree, radius = KDTree(waves), _NEAR * np.sqrt(alike.shape[1]) + 1e-3
    free, groups = np.ones(len(known), bool), []
    start = 0
    while len(chunk := start + np.flatnonzero(free[start:])[:_CHUNK]):
        for one, found in zip(chunk, tree.query_radius(waves[chunk], radius), strict=True):
            others = np.sort(found[(found > one) & free[found]])
            if not free[one] or not len(others):
                continue
            apart = np.sqrt(((alike[others] - alike[one]) ** 2).mean(1))
            contrast = deviations[others] / deviations[one]
            near = others[
                (apart <= _NEAR)
                & (np.abs(means[others] - means[one]).max(1) <= _MEANS * span)
                & (np.maximum(contrast, 1 / contrast) <= _CONTRASTS)
            ]
            if len(near):
                free[near] = False
                groups.append([int(known[number]) for number in (one, *near)])
        start = chunk[-1] + 1
    return groups


def _averaging(side: int) -> Any:
    """A matrix [<=16,side] that averages neighbors, each by the share of it that lies in a cell."""
    cells = min(side, _SIDE)
    edges = np.arange(cells + 1) * (side / cells)
    pixels = np.arange(side)
    share = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (share.clip(0) * (cells / side)).astype(np.float32)


def _waves(height: int, width: int, channels: int) -> Any:
    """The coarsest waves over gray, orthonormal, in columns [h*w*C,waves]."""
    gray = np.full((1, channels), 1 / np.sqrt(channels), np.float32)
    return np.kron(np.kron(_cosines(height), _cosines(width)), gray).T


def _cosines(side: int) -> Any:
    """The first rows of the orthonormal discrete cosine transform (DCT-II)."""
    numbers = np.arange(min(_WAVES, side))[:, None]
    found = np.cos(np.pi / side * (np.arange(side) + 0.5) * numbers) * np.sqrt(2 / side)
    found[0] = np.sqrt(1 / side)
    return found.astype(np.float32)
