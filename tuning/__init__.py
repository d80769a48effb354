"""The search over reskeras specs: oracles suggest, reskeras trains, MLflow records."""

import importlib
from typing import TYPE_CHECKING, Any

from tuning.space import Range, Space, sample

if TYPE_CHECKING:
    from tuning.search.tune import tune

__all__ = ["Range", "Space", "sample", "tune"]


def __getattr__(name: str) -> Any:
    # The search needs Keras; describing a space does not.
    if name == "tune":
        return importlib.import_module("tuning.search.tune").tune
    raise AttributeError(f"module 'tuning' has no attribute {name!r}")
