"""Optimizers and learning rates are those that a training spec promises, by hand-worked steps."""

import keras
import numpy as np
import pytest
from pydantic import ValidationError

import reskeras
from reskeras.spec import TrainSpec
from reskeras.training.optimizers import make_optimizer, make_schedule
from tuning import Space


def steps(spec: TrainSpec, gradients: list[float]) -> list[float]:
    """A weight that starts at 1, after each of these gradients."""
    weight = keras.Variable(np.array(1.0, "float32"), name="kernel")
    optimizer = make_optimizer(spec, make_schedule(spec, 0, len(gradients)))
    optimizer.build([weight])
    found = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        found.append(float(weight))
    return found


def test_sgd_has_nesterov_momentum_of_nine_tenths() -> None:
    spec = TrainSpec(optimizer="sgd", learning_rate=0.1, schedule="constant")
    # v = 0.9 v - 0.1 g; w += 0.9 v - 0.1 g. First step: v = -0.1, w = 1 - 0.09 - 0.1.
    # Second step: v = -0.19, w = 0.81 - 0.171 - 0.1.
    assert steps(spec, [1.0, 1.0]) == pytest.approx([0.81, 0.539])


def test_adam_moves_by_the_learning_rate_at_first_whatever_the_gradient() -> None:
    spec = TrainSpec(optimizer="adam", learning_rate=0.1, schedule="constant")
    for gradient in (0.01, 3.0):
        assert steps(spec, [gradient]) == pytest.approx([0.9], abs=1e-4)


def test_weight_decay_shrinks_kernels_by_rate_times_decay_before_the_step() -> None:
    spec = TrainSpec(optimizer="sgd", learning_rate=0.1, schedule="constant", weight_decay=0.5)
    assert steps(spec, [0.0, 0.0]) == pytest.approx([0.95, 0.9025])


def test_the_cosine_starts_at_the_rate_is_half_in_the_middle_and_ends_at_zero() -> None:
    schedule = make_schedule(TrainSpec(learning_rate=0.4), 0, 10)
    assert [float(schedule(step)) for step in (0, 5, 10)] == pytest.approx([0.4, 0.2, 0.0])


def test_recomputing_in_float16_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ValidationError, match=r"recompute needs precision 'float32' or"):
        TrainSpec(recompute=True, precision="mixed_float16")
    space = Space(reskeras.preset("digits_basic"), {"train.batch_size": [32, 64]})
    assert space.with_train(recompute=True).base.train.recompute
    with pytest.raises(reskeras.RequestError, match=r"^train: .*recompute needs precision"):
        space.with_train(recompute=True, precision="mixed_float16")
