"""Data sets that need no download, one module each.

Only `reskeras.data.tfds` imports this room, because its modules import tensorflow-datasets. A new
set is a module with a TFDS builder and a line in `EMBEDDED`.
"""

import importlib
from typing import Any

EMBEDDED = {"digits": "Digits"}
"""The name of the builder class in the module named after the data set."""


def embedded(name: str) -> Any:
    """The TFDS builder of an embedded data set; None for another name."""
    if name not in EMBEDDED:
        return None
    return getattr(importlib.import_module(f"{__name__}.{name}"), EMBEDDED[name])()
