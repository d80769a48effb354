"""What a search may be told to do: its oracles and objectives by name."""

from typing import Literal

from reskeras.errors import RequestError

ORACLES = ("random", "bayesian", "hyperband", "grid")

OBJECTIVES: dict[str, Literal["max", "min"]] = {"val_accuracy": "max", "val_loss": "min", "val_mean_iou": "max"}
"""Keras Tuner guesses the direction from the name and takes F1, IoU and others for losses; here the name says it."""


def check_objective(objective: str, task: str) -> None:
    """Raises RequestError unless the objective exists for the task."""
    known = [name for name in OBJECTIVES if task == "segmentation" or name != "val_mean_iou"]
    if objective not in known:
        raise RequestError(f"unknown objective {objective!r} for {task}; known: {', '.join(known)}")
