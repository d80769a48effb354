"""A turned digit, with its angle."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from reskeras.data.embedded import canvas
from reskeras.data.embedded.real_digits import Digit

_SIDE = 16
_MIDDLE = (_SIDE - 1) / 2
_LARGEST = 45.0


class DigitsAngle(canvas.MadeOfDigits):
    """16x16 gray images of a digit, enlarged 1.4 times and turned by -45 to 45 degrees.

    `angle` is in degrees, counterclockwise as seen, against the digit as it was written. Its slant
    differs from hand to hand, so no network finds the angle exactly.
    """

    VERSION = tfds.core.Version("1.0.0")
    SEED = 5
    ABOUT = "A real handwritten digit, turned by -45 to 45 degrees, with its angle."
    KEYS = ("image", "angle")

    @classmethod
    def features(cls) -> dict[str, Any]:
        return {
            "image": tfds.features.Image(shape=(_SIDE, _SIDE, 1), dtype=np.uint8),
            "angle": tfds.features.Scalar(np.float32),
        }

    @classmethod
    def example(cls, random: canvas.Random, digits: Sequence[Digit]) -> dict[str, Any]:
        digit = digits[random.randint(len(digits))]
        angle = random.uniform(-_LARGEST, _LARGEST)
        placement = canvas.Placement(zoom=1.4, angle=angle, center=(_MIDDLE, _MIDDLE))
        return {
            "image": canvas.as_bytes(placement.ink(digit, _SIDE)),
            "angle": np.float32(angle),
            "sources": [digit.source],
        }
