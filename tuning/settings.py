"""What a search may be told to do: its oracles and objectives by name."""

import enum
from typing import Literal

from reskeras.errors import RequestError

ORACLES = ("asha", "tpe", "random", "bayesian", "hyperband", "grid", "nested")

OBJECTIVES: dict[str, Literal["max", "min"]] = {
    "val_accuracy": "max",
    "val_loss": "min",
    "val_mean_iou": "max",
}
"""Keras Tuner guesses the direction from the name and takes F1, IoU and others for losses; here the name says it."""


def sign(objective: str) -> float:
    """What a score is multiplied by so that more is better: 1 or -1."""
    return 1.0 if OBJECTIVES[objective] == "max" else -1.0


def check_objective(objective: str, task: str) -> None:
    """Raises RequestError unless the objective exists for the task."""
    known = [name for name in OBJECTIVES if task == "segmentation" or name != "val_mean_iou"]
    if objective not in known:
        raise RequestError(f"unknown objective {objective!r} for {task}; known: {', '.join(known)}")


DEFAULT_ORACLE = "tpe"
"""The one that won benchmarks/search.py."""


class Strategy(enum.Enum):
    """How one trial uses several devices."""

    AUTO = "auto"
    """`tpu` where there is one, `mirrored` where there are several GPUs, else `none`."""
    NONE = "none"
    MIRRORED = "mirrored"
    """Each device takes a share of every batch, and gradients are averaged."""
    TPU = "tpu"
