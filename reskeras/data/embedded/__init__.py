"""Data sets that need no download, one module each.

A new set is a module with a TFDS builder and a line in `EMBEDDED` and in `ABOUT`. `embedded`
imports a module when it is asked for, because each imports tensorflow-datasets. `canvas` and
`real_digits` are what those made of digits share.

Imported by: reskeras.cli, reskeras.data.
"""

import importlib
from typing import Any

EMBEDDED = {
    "digits": "Digits",
    "digits_segmentation": "DigitsSegmentation",
    "digits_multilabel": "DigitsMultilabel",
    "digits_keypoints": "DigitsKeypoints",
    "digits_superres": "DigitsSuperres",
    "digits_angle": "DigitsAngle",
    "signals": "Signals",
}
"""The name of the builder class in the module named after the data set."""

ABOUT = {
    "digits": "handwritten digits, 8x8x1, 10 classes: 1,077 train, 360 val, 360 test images",
    "digits_segmentation": "2 to 4 digits, 32x32x1, 11 classes of pixels: "
    "2,000 train, 500 val, 500 test images",
    "digits_multilabel": "0 to 4 digits, 32x32x1, which of 10 classes are there: "
    "2,000 train, 500 val, 500 test images",
    "digits_keypoints": "a digit, 32x32x1, 5 points of its stroke: "
    "2,000 train, 500 val, 500 test images",
    "digits_superres": "up to 9 digits, 16x16x1, the same as 32x32x1: "
    "2,000 train, 500 val, 500 test images",
    "digits_angle": "a turned digit, 16x16x1, its angle in degrees: "
    "2,000 train, 500 val, 500 test images",
    "signals": "signals of ten shapes, 40x1, 10 classes: "
    "4,000 train, 1,000 val, 1,000 test signals",
}
"""For each, what it is: shape, labels and sizes, known without loading it."""


def embedded(name: str, data_dir: str | None = None) -> Any:
    """The TFDS builder of an embedded data set; None for another name.

    Args:
        name: of a data set.
        data_dir: the folder where it is prepared; None: TFDS' own.
    """
    if name not in EMBEDDED:
        return None
    return getattr(importlib.import_module(f"{__name__}.{name}"), EMBEDDED[name])(data_dir=data_dir)
