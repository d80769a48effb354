"""`train.border_weight`: the formula in the loss, which both trainers train alike."""

from typing import Any

import keras
import numpy as np
import pytest

import reskeras
from reskeras.data import from_arrays
from reskeras.spec import Augmentation, Level, PlainBlock, Recipe, Segmenter, TrainSpec, UNet
from reskeras.tasks import IGNORED, Facts, Labels, Output, task_of
from reskeras.training.train import Training, build_seeded

TASK = task_of(Labels.MASK)
MASK = np.array([[1, 1, 0, 0, 0, 1, IGNORED]])
"""Between the cells, weights are 1 + 10 exp(-16 / 50) = 8.2615, as
`test_border_weights.py` works out by hand."""


def loss_of(mask: Any, outputs: Any, train: TrainSpec, weights: tuple[float, ...] = ()) -> float:
    """Of one mask [H,W] and probabilities [H,W,2]."""
    form = Output((None, *outputs.shape), "softmax")
    facts = Facts((*mask.shape, 1), 2, ignores=True)
    return float(TASK.trained_loss(form, facts, train, weights)(mask[None], outputs[None]))


def answers(*sides: int) -> Any:
    found = np.random.default_rng(0).uniform(0.1, 1, (*sides, 2)).astype("float32")
    return found / found.sum(-1, keepdims=True)


@pytest.mark.parametrize("classes", [(), (0.5, 3.0)])
def test_pixels_between_cells_weigh_more(classes: tuple[float, ...]) -> None:
    outputs = answers(1, 7)
    found = loss_of(MASK, outputs, TrainSpec(border_weight=10), classes)
    right = -np.log(outputs[0, np.arange(6), MASK[0, :6]])
    of_classes = np.array(classes or (1, 1))[MASK[0, :6]]
    weights = of_classes + np.array([0, 0, 7.2615, 7.2615, 7.2615, 0])
    assert found == pytest.approx((weights * right).sum() / 6, rel=1e-4)
    dice = loss_of(MASK, outputs, TrainSpec(loss="dice"))
    both = TrainSpec(loss="cross_entropy_dice", border_weight=10)
    assert loss_of(MASK, outputs, both, classes) == pytest.approx(found + dice, rel=1e-4)


def test_a_mirror_image_has_mirrored_weights() -> None:
    random = np.random.default_rng(1)
    mask = (random.random((12, 10)) < 0.2).astype(int)
    outputs, train = answers(12, 10), TrainSpec(border_weight=10)
    expected = loss_of(mask, outputs, train)
    assert expected > 2 * loss_of(mask, outputs, TrainSpec())
    flipped = loss_of(mask[::-1, ::-1].copy(), outputs[::-1, ::-1].copy(), train)
    assert flipped == pytest.approx(expected, rel=1e-5)


def test_a_coarser_head_has_larger_pixels() -> None:
    """The gap of 3 pixels is one of 6 for the image: d1 + d2 is 8."""
    form = Output((None, 1, 7, 2), "softmax")
    loss = TASK.trained_loss(form, Facts((2, 14, 1), 2), TrainSpec(border_weight=10))
    outputs = answers(1, 7)
    right = -np.log(outputs[0, np.arange(6), MASK[0, :6]])
    between = 10 * np.exp(-64 / 50)
    weights = 1 + np.array([0, 0, between, between, between, 0])
    found = float(loss(MASK[None], outputs[None]))
    assert found == pytest.approx((weights * right).sum() / 6, rel=1e-4)


def test_both_trainers_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    x, y = (random.integers(0, high, (12, 8, 8)).astype("uint8") for high in (256, 2))
    data = from_arrays({"x_train": x[:8], "y_train": y[:8], "x_val": x[8:], "y_val": y[8:]})
    spec = UNet(
        input_shape=(8, 8, 1),
        block=PlainBlock(),
        stages=(Level(width=4), Level(width=8)),
        head=Segmenter(classes=2),
    )
    train = TrainSpec(epochs=1, batch_size=4, border_weight=10, augment="shift_flip")

    def trained(train: TrainSpec) -> tuple[Any, dict[str, float]]:
        recipe = Recipe(spec=spec, train=train)
        run = Training(build_seeded(recipe), data, train)
        metrics = run.run_epoch().metrics
        return run.model.get_weights(), metrics

    compiled, metrics = trained(train)
    plain, _ = trained(TrainSpec(epochs=1, batch_size=4, augment="shift_flip"))
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(compiled, plain, strict=True))
    monkeypatch.setattr("reskeras.training.compiled.compilable", lambda *_: False)
    fitted, expected = trained(train)
    assert metrics == pytest.approx(expected, rel=1e-3)
    for one, two in zip(compiled, fitted, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3)


def test_other_losses_tasks_and_backends_refuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for task, train, message in (
        (TASK, TrainSpec(border_weight=1, loss="dice"), "dice does not weigh pixels"),
        (TASK, TrainSpec(border_weight=1, augment=Augmentation(mixup=0.2)), "no mixup"),
        (task_of(Labels.CLASS), TrainSpec(border_weight=1), "there are no pixels of classes"),
    ):
        with pytest.raises(reskeras.RequestError, match=rf"train\.border_weight: .*{message}"):
            task.check(train)
    TASK.check(TrainSpec(border_weight=1, loss="focal"))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(reskeras.RequestError, match="needs Keras on TensorFlow"):
        loss_of(MASK, answers(1, 7), TrainSpec(border_weight=1))
