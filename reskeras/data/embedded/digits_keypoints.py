"""A digit on a canvas, with five named points of its stroke."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from scipy import ndimage

from reskeras.data.embedded import canvas
from reskeras.data.embedded.real_digits import Digit

_CORNERS = {
    "upper_left": (-1, -1),
    "upper_right": (1, -1),
    "lower_right": (1, 1),
    "lower_left": (-1, 1),
}
"""How far each lies to the right and down. Straight to the right would often be a choice between
two equal bulges, as of a 3."""
POINTS = (*_CORNERS, "hole")
"""What the keypoints are called, in their order."""

_SIDE = 32
_FINE = 8
"""Points are found on the digit enlarged so many times, to a fraction of its pixels."""
_INKED = 0.4
"""A spot with less ink is paper."""
_TIP = 1.0
"""Pixels of the digit: how far behind its outermost spot the tip of a stroke reaches."""
_SMALLEST_HOLE = 0.5
"""Pixels of the digit; what is smaller may be a gap of the scan."""


@functools.cache
def points_of(digit: Digit) -> canvas.Array:
    """The keypoints of an upright digit, [5, 2]: x and y in its pixels.

    The upper left point is the middle of the tip of the stroke there: of the ink that is within one
    pixel of the outermost spot, along the diagonal, and in one piece with it. The other corners
    are like it. The hole is the middle of the highest piece of paper that the stroke encloses, NaN
    if it encloses none.
    """
    # one pixel of paper on each side, so that the enlarged stroke does not touch the border
    side = (8 + 2) * _FINE
    middle = (side - 1) / 2
    enlarged = canvas.Placement(zoom=_FINE, angle=0, center=(middle, middle)).ink(digit, side)
    inked = enlarged >= _INKED
    pieces = [_tip(inked, corner) for corner in _CORNERS.values()] + [_hole(inked)]
    fine = np.array([_middle(piece) for piece in pieces])
    return np.asarray((fine - middle) / _FINE + (8 - 1) / 2)


def _tip(inked: Any, corner: tuple[int, int]) -> Any:
    """The ink near the outermost spot, and in one piece with it."""
    y, x = np.indices(inked.shape)
    outward = np.where(inked, (corner[0] * x + corner[1] * y) / np.hypot(*corner), -np.inf)
    pieces, _ = ndimage.label(outward >= outward.max() - _TIP * _FINE)
    return pieces == pieces.flat[outward.argmax()]


def _hole(inked: Any) -> Any:
    """The highest piece of paper that is enclosed; nothing if there is none."""
    pieces, _ = ndimage.label(~inked)
    sizes = np.bincount(pieces.ravel())
    enclosed = np.isin(pieces, np.flatnonzero(sizes >= _SMALLEST_HOLE * _FINE**2))
    enclosed &= ~inked & (pieces != pieces[0, 0])  # the corner of the image is outside
    return enclosed & (pieces == pieces[enclosed][0]) if enclosed.any() else enclosed


def _middle(piece: Any) -> tuple[float, float]:
    """The center (x, y) of a piece; NaN if it is empty."""
    if not piece.any():
        return np.nan, np.nan
    y, x = ndimage.center_of_mass(piece)
    return x, y


class DigitsKeypoints(canvas.MadeOfDigits):
    """32x32 gray images of a digit, and five points of it, as the joints of a body in a pose.

    The digit is enlarged 1.8 to 2.8 times, turned by up to 30 degrees and painted in a light gray
    over a cloudy background; then noise is added. `keypoints` are `POINTS`, each x and y in pixels,
    where the center of the first pixel is (0, 0). They are points of the upright digit and turn
    with it: `points_of` says which. A digit without a hole has NaN there.
    """

    VERSION = tfds.core.Version("1.0.0")
    SEED = 3
    ABOUT = "A real handwritten digit on a cloudy canvas, with five named points of its stroke."
    KEYS = ("image", "keypoints")
    METADATA: ClassVar = {"keypoints": POINTS}

    @classmethod
    def features(cls) -> dict[str, Any]:
        return {
            "image": tfds.features.Image(shape=(_SIDE, _SIDE, 1), dtype=np.uint8),
            "keypoints": tfds.features.Tensor(shape=(len(POINTS), 2), dtype=np.float32),
        }

    @classmethod
    def example(cls, random: canvas.Random, digits: Sequence[Digit]) -> dict[str, Any]:
        digit = digits[random.randint(len(digits))]
        zoom = random.uniform(1.8, 2.8)
        margin = 4.5 * zoom  # keeps the points of turned digits on the canvas
        x, y = random.uniform(margin, _SIDE - 1 - margin, 2)
        placement = canvas.Placement(zoom=zoom, angle=random.uniform(-30, 30), center=(x, y))
        background = canvas.texture(random, _SIDE, strength=0.1)
        image = canvas.painted(random, background, [placement.ink(digit, _SIDE)], noise=0.05)
        return {
            "image": canvas.as_bytes(image),
            "keypoints": placement.on_canvas(points_of(digit), digit).astype(np.float32),
            "sources": [digit.source],
        }
