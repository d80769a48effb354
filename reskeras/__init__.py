"""Residual networks in Keras: declarative block specs, exact builders, and the search over them."""

import importlib
from typing import TYPE_CHECKING, Any

from reskeras._version import __version__
from reskeras.costs import Cost, cost
from reskeras.errors import RequestError
from reskeras.presets import preset, presets
from reskeras.textio import dump_spec, load_spec

if TYPE_CHECKING:
    from reskeras.builder import build
    from reskeras.folding import fold_batch_norm
    from reskeras.growth import grow
    from reskeras.inference import predictor
    from reskeras.onnx_export import export_onnx
    from reskeras.plotting import plot
    from reskeras.recalibration import freeze, recalibrate
    from reskeras.transfer import transfer_weights


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

# What needs Keras or matplotlib is imported on first use, so that reading and writing specs stays instant.
_LAZY = {
    "build": "reskeras.builder",
    "export_onnx": "reskeras.onnx_export",
    "fold_batch_norm": "reskeras.folding",
    "freeze": "reskeras.recalibration",
    "grow": "reskeras.growth",
    "plot": "reskeras.plotting",
    "predictor": "reskeras.inference",
    "recalibrate": "reskeras.recalibration",
    "transfer_weights": "reskeras.transfer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'reskeras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
