"""Several digits on a canvas, with the class of each pixel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from reskeras.data.embedded import canvas
from reskeras.data.embedded.real_digits import Digit

_SIDE = 32
_INKED = 0.4
"""A pixel with less ink is background."""


class DigitsSegmentation(canvas.MadeOfDigits):
    """32x32 gray images of 2 to 4 digits, and masks of 11 classes.

    Each digit is enlarged 1.5 to 2.2 times, turned by up to 15 degrees, and painted in a light gray
    of its own over a cloudy background; then noise is added. Centers are at least 10 pixels apart,
    so digits overlap at their edges. A pixel's class is that of the digit with the most ink there,
    plus one; it is 0, the background, where no digit has at least 0.4 of full ink.
    """

    VERSION = tfds.core.Version("1.0.0")
    SEED = 1
    ABOUT = "Several real handwritten digits on a cloudy canvas, with the class of each pixel."
    KEYS = ("image", "mask")

    @classmethod
    def features(cls) -> dict[str, Any]:
        names = ["background", *map(str, range(10))]
        shape = (_SIDE, _SIDE, 1)
        return {
            "image": tfds.features.Image(shape=shape, dtype=np.uint8),
            "mask": tfds.features.LabeledImage(shape=shape, labels=names, dtype=np.uint8),
        }

    @classmethod
    def example(cls, random: canvas.Random, digits: Sequence[Digit]) -> dict[str, Any]:
        places = canvas.scattered(random, random.randint(2, 5), _SIDE, margin=6, apart=10)
        chosen = [digits[place] for place in random.randint(len(digits), size=len(places))]
        inks = [
            canvas.Placement(
                zoom=random.uniform(1.5, 2.2), angle=random.uniform(-15, 15), center=(x, y)
            ).ink(digit, _SIDE)
            for digit, (x, y) in zip(chosen, places, strict=True)
        ]
        labels = np.array([digit.label + 1 for digit in chosen], np.uint8)
        mask = np.where(np.max(inks, 0) < _INKED, 0, labels[np.argmax(inks, 0)])
        background = canvas.texture(random, _SIDE, strength=0.1)
        return {
            "image": canvas.as_bytes(canvas.painted(random, background, inks, noise=0.05)),
            "mask": mask.astype(np.uint8)[..., np.newaxis],
            "sources": [digit.source for digit in chosen],
        }
