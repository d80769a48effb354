"""Several digits on a canvas, and the same canvas at half the resolution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from reskeras.data.embedded import canvas
from reskeras.data.embedded.real_digits import Digit

_SIDE = 32
_FACTOR = 2


class DigitsSuperres(canvas.MadeOfDigits):
    """Gray images of up to 9 digits: `image` 16x16 and `target` 32x32.

    Each digit is enlarged 1 to 1.3 times and turned by up to 15 degrees, white on black; centers
    are at least 8 pixels apart. A pixel of `image` is the mean of 2x2 pixels of `target`, rounded
    half to even. There is no noise, which nothing could restore.
    """

    VERSION = tfds.core.Version("1.0.0")
    SEED = 4
    ABOUT = "Several real handwritten digits, at 16x16 and at 32x32 pixels."
    KEYS = ("image", "target")

    @classmethod
    def features(cls) -> dict[str, Any]:
        low = _SIDE // _FACTOR
        return {
            "image": tfds.features.Image(shape=(low, low, 1), dtype=np.uint8),
            "target": tfds.features.Image(shape=(_SIDE, _SIDE, 1), dtype=np.uint8),
        }

    @classmethod
    def example(cls, random: canvas.Random, digits: Sequence[Digit]) -> dict[str, Any]:
        places = canvas.scattered(random, 9, _SIDE, margin=3, apart=8)
        chosen = [digits[place] for place in random.randint(len(digits), size=len(places))]
        inks = [
            canvas.Placement(
                zoom=random.uniform(1, 1.3), angle=random.uniform(-15, 15), center=(x, y)
            ).ink(digit, _SIDE)
            for digit, (x, y) in zip(chosen, places, strict=True)
        ]
        target = canvas.as_bytes(np.max(inks, 0))
        low = _SIDE // _FACTOR
        image = target.reshape(low, _FACTOR, low, _FACTOR, 1).mean((1, 3))
        return {
            "image": np.round(image).astype(np.uint8),
            "target": target,
            "sources": [digit.source for digit in chosen],
        }
