"""Dice and Tversky losses: numbers worked by hand, and the formula of nnU-Net."""

from typing import Any

import numpy as np
import pytest

from reskeras.spec import TrainSpec
from reskeras.tasks import IGNORED, Facts, Labels, Output, task_of

TASK = task_of(Labels.MASK)


def loss_of(loss: str, masks: Any, outputs: Any) -> float:
    """Of masks [N,H,W] and probabilities [N,H,W,K]."""
    form = Output((None, *outputs.shape[1:]), "softmax")
    facts = Facts((*masks.shape[1:], 1), outputs.shape[-1], ignores=True)
    return float(TASK.trained_loss(form, facts, TrainSpec(loss=loss), ())(masks, outputs))


def one_hot(answers: Any, classes: int) -> Any:
    return np.eye(classes, dtype="float32")[answers]


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        # Class 0: 2 right, 1 wrongly answered. Class 1: 1 right, 1 missed.
        ("dice", (1 / 5 + 1 / 3) / 2),
        ("tversky", (0.3 / 2.3 + 0.7 / 1.7) / 2),
    ],
)
def test_pixels_answered_wrongly_and_missed_by_hand(loss: str, wanted: float) -> None:
    """Equation 3 of arXiv 1706.05721: alpha weighs false positives, beta false negatives."""
    masks, answers = np.array([[[0, 0, 1, 1, IGNORED]]]), np.array([[[0, 0, 0, 1, 1]]])
    assert loss_of(loss, masks, one_hot(answers, 2)) == pytest.approx(wanted, rel=1e-4)
