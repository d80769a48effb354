"""Several digits on a canvas, with the classes that are there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from reskeras.data.embedded import canvas
from reskeras.data.embedded.real_digits import Digit

_SIDE = 32
_COUNTS = (0.04, 0.24, 0.24, 0.24, 0.24)
"""How often an image is to have 0, 1, ... digits."""


class DigitsMultilabel(canvas.MadeOfDigits):
    """32x32 gray images of 0 to 4 digits, and which of the 10 classes are there.

    Each digit is enlarged 1.2 to 1.8 times, turned by up to 15 degrees, and painted in a light gray
    of its own over a cloudy background; then noise is added. Centers are at least 11 pixels apart.
    `labels` are the classes in ascending order, each once, as in TFDS' `voc`: a digit that is there
    twice counts once, and an image without digits has none.
    """

    VERSION = tfds.core.Version("1.0.0")
    SEED = 2
    ABOUT = "Up to four real handwritten digits on a cloudy canvas, with their classes."
    KEYS = ("image", "labels")

    @classmethod
    def features(cls) -> dict[str, Any]:
        return {
            "image": tfds.features.Image(shape=(_SIDE, _SIDE, 1), dtype=np.uint8),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=10)),
        }

    @classmethod
    def example(cls, random: canvas.Random, digits: Sequence[Digit]) -> dict[str, Any]:
        count = random.choice(len(_COUNTS), p=_COUNTS)
        places = canvas.scattered(random, count, _SIDE, margin=6, apart=11)
        chosen = [digits[place] for place in random.randint(len(digits), size=len(places))]
        inks = [
            canvas.Placement(
                zoom=random.uniform(1.2, 1.8), angle=random.uniform(-15, 15), center=(x, y)
            ).ink(digit, _SIDE)
            for digit, (x, y) in zip(chosen, places, strict=True)
        ]
        background = canvas.texture(random, _SIDE, strength=0.1)
        return {
            "image": canvas.as_bytes(canvas.painted(random, background, inks, noise=0.05)),
            "labels": sorted({digit.label for digit in chosen}),
            "sources": [digit.source for digit in chosen],
        }
