"""Residual networks in Keras: declarative block specs, exact builders, and the search over them."""

import importlib
from typing import TYPE_CHECKING, Any

from reskeras._version import __version__
from reskeras.errors import RequestError
from reskeras.nets.cost import Cost, cost
from reskeras.spec.presets import preset, presets
from reskeras.spec.text import dump_spec, load_spec

if TYPE_CHECKING:
    from reskeras.drawing.plot import plot
    from reskeras.models.build import build
    from reskeras.models.folding import fold_batch_norm
    from reskeras.models.growth import grow
    from reskeras.models.onnx import export_onnx
    from reskeras.models.predictor import predictor
    from reskeras.models.recalibration import freeze, recalibrate
    from reskeras.models.transfer import transfer_weights


__all__ = [
    "Cost",
    "RequestError",
    "__version__",
    "build",
    "cost",
    "dump_spec",
    "export_onnx",
    "fold_batch_norm",
    "freeze",
    "grow",
    "load_spec",
    "plot",
    "predictor",
    "preset",
    "presets",
    "recalibrate",
    "transfer_weights",
]

# Anything that needs Keras or matplotlib is imported on first use, so reading and writing specs
# stays fast.
_LAZY = {
    "build": "reskeras.models.build",
    "export_onnx": "reskeras.models.onnx",
    "fold_batch_norm": "reskeras.models.folding",
    "freeze": "reskeras.models.recalibration",
    "grow": "reskeras.models.growth",
    "plot": "reskeras.drawing.plot",
    "predictor": "reskeras.models.predictor",
    "recalibrate": "reskeras.models.recalibration",
    "transfer_weights": "reskeras.models.transfer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'reskeras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
