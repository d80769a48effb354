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


@pytest.mark.parametrize("loss", ["dice", "tversky"])
def test_perfect_answers_without_one_of_the_classes_lose_nothing(loss: str) -> None:
    masks = np.array([[[0, 0, 1, 1]]])
    assert loss_of(loss, masks, one_hot(masks, 3)) == pytest.approx(0, abs=1e-6)
    answers = np.array([[[0, 0, 1, 2]]])  # class 2 is answered in a pixel of class 1
    wanted = {"dice": (1 / 3 + 1) / 3, "tversky": (0.7 / 1.7 + 1) / 3}
    assert loss_of(loss, masks, one_hot(answers, 3)) == pytest.approx(wanted[loss], rel=1e-4)


def test_dice_is_that_of_nnu_net() -> None:
    """`MemoryEfficientSoftDiceLoss` with `batch_dice` and `smooth` of 1e-5."""
    random = np.random.default_rng(0)
    masks = random.integers(0, 2, (3, 4, 4))  # never class 2
    outputs = random.dirichlet([1, 1, 0.01], masks.shape).astype("float32")
    target = one_hot(masks, 3)
    overlap, labeled, answered = (
        part.sum((0, 1, 2), dtype="float64") for part in (target * outputs, target, outputs)
    )
    wanted = 1 - ((2 * overlap + 1e-5) / (labeled + answered + 1e-5)).mean()
    assert loss_of("dice", masks, outputs) == pytest.approx(wanted, rel=1e-5)
