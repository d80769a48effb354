"""Data sets that need no download, one module each.

A new set is a module with a TFDS builder and a line in `EMBEDDED`. `embedded` imports a module when
it is asked for, because each imports tensorflow-datasets.

Imported by: reskeras.cli, reskeras.data.
"""

import importlib
from typing import Any

EMBEDDED = {"digits": "Digits"}
"""The name of the builder class in the module named after the data set."""

ABOUT = {
    "digits": "handwritten digits, 8x8x1, 10 classes: 1,077 train, 360 val, 360 test images",
}
"""For each, what it is: shape, classes and sizes, known without loading it."""


def embedded(name: str, data_dir: str | None = None) -> Any:
    """The TFDS builder of an embedded data set; None for another name.

    Args:
        name: of a data set.
        data_dir: the folder where it is prepared; None: TFDS' own.
    """
    if name not in EMBEDDED:
        return None
    return getattr(importlib.import_module(f"{__name__}.{name}"), EMBEDDED[name])(data_dir=data_dir)
