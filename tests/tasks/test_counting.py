"""Pixels without a class are as if they were not there, for every form of loss and metric."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from reskeras.spec import TrainSpec
from reskeras.tasks import IGNORED, Facts, Output, balanced, task_called
from reskeras.tasks.losses import Counted
from reskeras.tasks.tally import MeanLoss, Tally, counted

SEGMENTATION = task_called("segmentation")
SIDES = (4, 3)
FORMS = {
    "softmax": Output((None, *SIDES, 3), "softmax"),
    "logits": Output((None, *SIDES, 3), "linear"),
    "sigmoids": Output((None, *SIDES, 3), "sigmoid"),
    "one map": Output((None, *SIDES, 1), "sigmoid"),
    "one map of logits": Output((None, *SIDES, 1), "linear"),
}
WEIGHTS = (0.5, 2.0, 3.0)
FACTS = Facts((*SIDES, 1), 3, ignores=True)


def answered(output: Output, random: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """What a network answers, as it does and as probabilities."""
    logits = random.normal(size=(count, *SIDES, output.shape[-1]))
    if output.binary:
        shares = 1 / (1 + np.exp(-logits))
    else:
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    answers = logits if output.activation == "linear" else shares
    return answers.astype("float32"), shares


def targets(output: Output, masks: np.ndarray) -> np.ndarray:
    found = [SEGMENTATION.targets(tf.constant(m), {"head": output}, FACTS)["head"] for m in masks]
    return np.stack(found)


def pixel_losses(output: Output, y: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Scikit-learn's cross-entropy of each pixel [N]; `shares` are [N,K]."""
    if not output.binary:
        labels = np.arange(3)
        return np.array(
            [log_loss([one], [p], labels=labels) for one, p in zip(y, shares, strict=True)]
        )
    hits = y[:, None] if shares.shape[-1] == 1 else np.eye(3, dtype=int)[y]
    return np.array(
        [
            np.mean([log_loss([h], [p], labels=[0, 1]) for h, p in zip(hit, share, strict=True)])
            for hit, share in zip(hits, shares, strict=True)
        ]
    )


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), lost=st.sampled_from([0.0, 0.4, 0.9]))
def test_scores_are_scikit_learns_of_the_pixels_that_have_a_class(
    form: str, seed: int, lost: float
) -> None:
    output, random = FORMS[form], np.random.default_rng(seed)
    classes = max(2, output.shape[-1])
    masks = random.integers(0, classes, (5, *SIDES)).astype("int32")
    masks[random.random(masks.shape) < lost] = IGNORED
    masks[0, 0, 0] = 1
    masks[4] = IGNORED  # the second batch counts less than the first one, or has nothing
    answers, shares = answered(output, random, 5)
    facts = Facts((*SIDES, 1), classes, ignores=True)
    loss_of = SEGMENTATION.trained_loss(output, facts, TrainSpec())
    assert isinstance(loss_of, Counted)
    tally, mean = Tally(SEGMENTATION, output, facts), MeanLoss(SEGMENTATION, output, facts)
    metrics = [tally, mean]
    y, there = targets(output, masks), masks != IGNORED
    for start in (0, 2, 4):
        for metric in metrics:
            metric.update_state(y[start : start + 2], answers[start : start + 2])
    scores, loss = tally.result(), float(mean.result())
    accuracy, iou = (float(scores[name]) for name in ("accuracy", "mean_iou"))
    known, of = masks[there], shares[there]
    chosen = (of[:, 0] > 0.5).astype(int) if of.shape[-1] == 1 else of.argmax(-1)
    assert accuracy == pytest.approx(accuracy_score(known, chosen), abs=1e-5)
    seen = np.union1d(known, chosen)
    wanted = jaccard_score(known, chosen, labels=seen, average="macro")
    assert iou == pytest.approx(wanted, abs=1e-5)
    dice = f1_score(known, chosen, labels=seen, average="macro")
    assert float(scores["mean_dice"]) == pytest.approx(dice, abs=1e-5)
    if foreground := [label for label in seen if label]:
        wanted = jaccard_score(known, chosen, labels=foreground, average="macro")
        assert float(scores["foreground_iou"]) == pytest.approx(wanted, abs=1e-5)
    each = pixel_losses(output, known, of)
    assert loss == pytest.approx(each.mean(), abs=1e-4)
    assert float(counted(SEGMENTATION, y, output)) == len(known)
    assert float(loss_of(y, answers)) == pytest.approx(each.mean(), abs=1e-4)
    weighted = (each * np.array(WEIGHTS)[known]).mean()
    found = SEGMENTATION.trained_loss(output, facts, TrainSpec(), WEIGHTS[:classes])(y, answers)
    assert float(found) == pytest.approx(weighted, abs=1e-4)
    assert float(loss_of(y[4:], answers[4:])) == 0
    # What a network answers where nothing has a class changes nothing.
    others = np.where(there[..., None], answers, answered(output, random, 5)[0])
    same = loss_of(y, others)
    assert float(same) == float(loss_of(y, answers))


@given(st.lists(st.integers(0, 3), min_size=1))
def test_balanced_weights_are_scikit_learns(labels: list[int]) -> None:
    counts = np.bincount(labels, minlength=4).tolist()
    there = np.unique(labels)
    wanted = compute_class_weight("balanced", classes=there, y=np.array(labels))
    found = balanced(counts)
    np.testing.assert_allclose(np.array(found)[there], wanted)
    assert max(found) == pytest.approx(max(wanted))


def test_scores_of_what_is_nowhere_are_not_numbers() -> None:
    """Perfect answers for masks of class 0 alone: 0 would be the score of answers all wrong."""
    scores = SEGMENTATION.scores({"confusion": np.diag([24.0, 0, 0]).astype("float32")}, FACTS)
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(
        {
            "mean_dice": 1.0,
            "mean_iou": 1.0,
            "foreground_dice": np.nan,
            "foreground_iou": np.nan,
            "accuracy": 1.0,
        },
        nan_ok=True,
    )


def test_coarser_masks_have_the_pixels_nearest_to_the_middles() -> None:
    """Also where sides do not divide: the middles of 5 parts of 9 are at 0.9, 2.7, ..., 8.1."""
    mask = np.arange(9)[:, None] * 10 + np.arange(6)
    outputs = {"head": Output((None, 5, 2, 9), "softmax")}
    found = SEGMENTATION.targets(mask, outputs, Facts((9, 6, 1), 9))["head"]
    np.testing.assert_array_equal(found, [[10 * y + x for x in (1, 4)] for y in (0, 2, 4, 6, 8)])
