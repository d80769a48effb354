"""Optimizers and learning rates are those that a training spec promises, by hand-worked steps."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import reskeras
from reskeras.spec import TrainSpec
from reskeras.spec.recipes import training_recipe
from reskeras.training.optimizers import averages_of, for_fit, make_optimizer, penalty_of
from reskeras.training.schedules import make_schedule
from tuning import Space


def steps(spec: TrainSpec, gradients: list[float], name: str = "kernel") -> list[float]:
    """A weight that starts at 1, after each of these gradients."""
    weight = keras.Variable(np.array(1.0, "float32"), name=name)
    rate = make_schedule(spec, len(gradients))
    optimizer = for_fit(make_optimizer(spec, rate), penalty_of(spec))
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


def test_plain_momentum_of_another_size() -> None:
    spec = TrainSpec(
        optimizer="sgd", momentum=0.5, nesterov=False, learning_rate=0.1, schedule="constant"
    )
    # v = 0.5 v - 0.1 g; w += v.
    assert steps(spec, [1.0, 1.0, 0.0]) == pytest.approx([0.9, 0.75, 0.675])


def test_lion_moves_by_the_rate_along_the_sign_of_its_momentum() -> None:
    spec = TrainSpec(optimizer="lion", learning_rate=0.1, schedule="constant")
    # c = 0.9 m + 0.1 g; w -= 0.1 sign(c); m = 0.99 m + 0.01 g. The second gradient is ten times
    # smaller than what m holds of the first: 0.9 * 0.03 > 0.1 * 0.2.
    assert steps(spec, [3.0, -0.2, -0.5]) == pytest.approx([0.9, 0.8, 0.9])


def test_an_l2_penalty_enters_the_momentum_and_decoupled_decay_does_not() -> None:
    options = {"learning_rate": 0.1, "schedule": "constant", "weight_decay": 0.5}
    sgd = TrainSpec(optimizer="sgd", nesterov=False, weight_decay_kind="l2", **options)
    # v = 0.9 v - 0.1 (g + 0.5 w); w += v. v = -0.05; then -0.045 - 0.0475 = -0.0925.
    assert steps(sgd, [0.0, 0.0]) == pytest.approx([0.95, 0.8575])
    # Adam divides it by its own size: the first step is the learning rate, whatever the decay.
    adam = TrainSpec(optimizer="adam", weight_decay_kind="l2", **options)
    assert steps(adam, [0.0]) == pytest.approx([0.9], abs=1e-4)
    for kind in ("l2", "decoupled"):
        adamw = TrainSpec(optimizer="adamw", weight_decay_kind=kind, **options)
        assert steps(adamw, [0.0, 0.0]) == pytest.approx([0.95, 0.9025])
    for name in ("bias", "gamma", "beta"):
        assert steps(sgd, [0.0, 0.0], name) == [1.0, 1.0]


def test_clipping_accumulation_and_averages_by_hand() -> None:
    options = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1, "schedule": "constant"}
    assert steps(TrainSpec(clip_norm=2.0, **options), [1.0, -8.0]) == pytest.approx([0.9, 1.1])
    # The mean gradient of two batches, each other step.
    assert steps(TrainSpec(accumulate=2, **options), [1.0, 3.0, 5.0]) == pytest.approx(
        [1, 0.8, 0.8]
    )
    weight = keras.Variable(np.array(1.0, "float32"), name="kernel")
    optimizer = make_optimizer(TrainSpec(ema=0.75, **options), 0.1)
    optimizer.build([weight])
    ((_, average),) = averages_of(optimizer)
    found = []
    for gradient in (1.0, 4.0):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        found.append(float(average))
    # Starts as the weight after the first step, 0.9; then 0.75 * 0.9 + 0.25 * 0.5.
    assert found == pytest.approx([0.9, 0.8])


def rates(spec: TrainSpec, last: int, start: int = 0) -> Any:
    schedule, number = make_schedule(spec, last, start=start), np.arange(last - start)
    rate = schedule(number) if callable(schedule) else schedule
    return np.broadcast_to(np.asarray(rate, "float32"), number.shape)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [1.0] * 10),
        ("linear", [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("step", [1.0] * 5 + [0.1] * 3 + [0.01] * 2),  # 7.5 rounds to 8
        # Rises by 0.9 over 4.5 steps, falls as fast, then by 0.099 in the last step.
        ("one_cycle", [0.1, 0.3, 0.5, 0.7, 0.9, 0.9, 0.7, 0.5, 0.3, 0.1]),
    ],
)
def test_schedules_by_hand(schedule: Any, wanted: list[float]) -> None:
    spec = TrainSpec(epochs=5, schedule=schedule, learning_rate=1.0)
    np.testing.assert_allclose(rates(spec, 10), wanted, rtol=1e-5)
    # Two epochs of two steps each, before the same schedule.
    warm = TrainSpec(epochs=7, schedule=schedule, learning_rate=1.0, warmup=2.0)
    if schedule != "step":  # whose milestones are shares of all epochs
        rise = [wanted[0] * share for share in (0.25, 0.5, 0.75, 1.0)]
        np.testing.assert_allclose(rates(warm, 14), rise + wanted, rtol=1e-5)


def test_milestones_are_shares_of_all_epochs_warm_up_included() -> None:
    spec = TrainSpec(
        epochs=10, schedule="step", milestones=(0.3, 0.6), step_factor=0.2, learning_rate=1.0,
        warmup=0.5,
    )  # fmt: skip
    wanted = [0.2, 0.4, 0.6, 0.8, 1] + [1] * 25 + [0.2] * 30 + [0.04] * 40
    np.testing.assert_allclose(rates(spec, 100), wanted, rtol=1e-5)
    for milestones in ((0.6, 0.3), (0.5, 0.5), (0.0,), ()):
        with pytest.raises(ValidationError, match="milestones"):
            TrainSpec(milestones=milestones)


@pytest.mark.parametrize(
    ("name", "batch", "images", "drops", "factor"),
    [
        # Steps, from the papers: 64k in all, with drops at 32k and 48k
        ("he2015_cifar", 128, 45_000, [32_000, 48_000], 0.1),
        ("he2016_cifar", 128, 50_000, [32_000, 48_000], 0.1),
        ("densenet_cifar", 64, 50_000, [150 * 782, 225 * 782], 0.1),
        ("wrn_cifar", 128, 50_000, [60 * 391, 120 * 391, 160 * 391], 0.2),
        ("he2015_imagenet", 256, 1_281_167, [150_000, 300_000, 450_000], 0.1),
    ],
)
def test_recipes_have_their_papers_rates(
    name: str, batch: int, images: int, drops: list[int], factor: float
) -> None:
    spec = training_recipe(name)
    assert (spec.batch_size, spec.learning_rate, spec.momentum) == (batch, 0.1, 0.9)
    schedule = make_schedule(spec, spec.epochs * -(-images // batch))
    for number, step in enumerate(drops):
        around = np.array([0.99 * step, 1.01 * step]).astype(int)
        wanted = [0.1 * factor**number, 0.1 * factor ** (number + 1)]
        np.testing.assert_allclose(schedule(around), wanted, rtol=1e-5)


@given(
    schedule=st.sampled_from(["constant", "cosine", "linear", "step", "one_cycle"]),
    warmup=st.floats(0, 12),
    steps=st.integers(1, 9),
    first=st.integers(0, 10),
)
def test_a_training_in_parts_has_the_rates_of_one_in_one_go(
    schedule: Any, warmup: float, steps: int, first: int
) -> None:
    spec = TrainSpec(epochs=10, schedule=schedule, warmup=warmup, learning_rate=0.5)
    whole, start = rates(spec, 10 * steps), first * steps
    np.testing.assert_allclose(rates(spec, 10 * steps, start), whole[start:], rtol=1e-5, atol=1e-7)
    assert ((whole >= 0) & (whole <= 0.5 + 1e-6)).all()


def test_the_cosine_starts_at_the_rate_is_half_in_the_middle_and_ends_at_zero() -> None:
    schedule = make_schedule(TrainSpec(learning_rate=0.4), 10)
    assert [float(schedule(step)) for step in (0, 5, 10)] == pytest.approx([0.4, 0.2, 0.0])


def test_recomputing_in_float16_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ValidationError, match=r"recompute needs precision 'float32' or"):
        TrainSpec(recompute=True, precision="mixed_float16")
    space = Space(reskeras.preset("digits_basic"), {"train.batch_size": [32, 64]})
    assert space.with_train(recompute=True).base.train.recompute
    with pytest.raises(reskeras.RequestError, match=r"^train: .*recompute needs precision"):
        space.with_train(recompute=True, precision="mixed_float16")
