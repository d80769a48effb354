"""Frozen layers and rates by layer: steps worked by hand, and both trainers alike."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from nets import numpy, small

import reskeras.training.compiled
from reskeras.data import from_arrays
from reskeras.spec import (
    Heatmaps,
    Hourglass,
    Level,
    Recipe,
    Segmenter,
    Stage,
    TrainSpec,
    UNet,
)
from reskeras.training.layer_rates import LayerRates, block_of, layer_rates
from reskeras.training.optimizers import for_fit, make_optimizer, penalty_of
from reskeras.training.train import Training, build_seeded

HALF_AND_FROZEN = LayerRates(factors=(0.5, 1.0), frozen=(False, True), steps=1)


def steps(spec: TrainSpec, count: int) -> list[tuple[float, float]]:
    """Two weights that start at 1 and have the gradient 1; the second is frozen for one step."""
    weights = [keras.Variable(np.array(1.0, "float32"), name="kernel") for _ in range(2)]
    optimizer = for_fit(make_optimizer(spec, 0.1), penalty_of(spec), HALF_AND_FROZEN)
    optimizer.build(weights)
    optimizer.thaw = 1
    found = []
    for _ in range(count):
        optimizer.apply([keras.ops.ones(()), keras.ops.ones(())])
        found.append((float(weights[0]), float(weights[1])))
    return found


def test_sgd_by_hand() -> None:
    spec = TrainSpec(optimizer="sgd", momentum=0.5, nesterov=False)
    # v = 0.5 v - rate g; w += v. Rate 0.05: -0.05, -0.075. Rate 0, then 0.1: 0, -0.1.
    assert steps(spec, 2) == [pytest.approx(pair) for pair in [(0.95, 1.0), (0.875, 0.9)]]


def test_adam_by_hand() -> None:
    # With equal gradients, each step of Adam is as long as its rate.
    found = steps(TrainSpec(optimizer="adam"), 3)
    expected = [(0.95, 1.0), (0.9, 0.9), (0.85, 0.8)]
    assert found == [pytest.approx(pair, abs=1e-4) for pair in expected]


def test_decoupled_decay_follows_the_rate_and_an_l2_penalty_the_gradient() -> None:
    sgd: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False}
    # w -= rate * decay * w, then w -= rate. First weight: 1 - 0.05 * 0.5 - 0.05.
    assert steps(TrainSpec(weight_decay=0.5, **sgd), 1) == [pytest.approx((0.925, 1.0))]
    # w -= rate * (g + decay * w), the same in one step.
    assert steps(TrainSpec(weight_decay=0.5, weight_decay_kind="l2", **sgd), 1) == [
        pytest.approx((0.925, 1.0))
    ]


def test_rates_fall_block_by_block_from_the_head_down() -> None:
    model = build_seeded(Recipe(spec=small()))
    spec = TrainSpec(init="x.keras", layer_decay=0.5, freeze=2)
    found = layer_rates(model, spec, {"stem_conv", "head"}, 10)
    assert found is not None
    by_layer = dict(
        zip([v.path.split("/")[0] for v in model.trainable_variables], found.factors, strict=True)
    )
    assert by_layer["head"] == 1
    assert by_layer["stage2_block1_conv1"] == by_layer["stage2_block1_shortcut_conv"] == 0.5
    assert by_layer["stage1_block2_norm1"] == 0.25
    assert by_layer["stage1_block1_conv2"] == 0.125
    assert by_layer["stem_conv"] == by_layer["stem_norm"] == 0.0625
    frozen = [v.path for v, is_ in zip(model.trainable_variables, found.frozen, strict=True) if is_]
    assert frozen == ["stem_conv/kernel"]  # never the head
    assert found.steps == 20
    assert layer_rates(model, TrainSpec(layer_decay=0.5), {"head"}, 10) is None  # from scratch


@pytest.mark.parametrize("skip", ["concat", "attention"])
def test_rates_fall_once_for_each_level_of_a_decoder(skip: str) -> None:
    head = Segmenter(classes=2)
    net = UNet(input_shape=(16, 16, 1), stages=[Level(width=4)] * 4, skip=skip, head=head)
    model = build_seeded(Recipe(spec=net))
    found = layer_rates(model, TrainSpec(init="x.keras", layer_decay=0.5), (), 10)
    assert found is not None
    by_level: dict[str, set[float]] = {}
    for variable, factor in zip(model.trainable_variables, found.factors, strict=True):
        by_level.setdefault(variable.path.partition("_")[0].split("/")[0], set()).add(factor)
    # From the head down: the levels of the decoder, the bridge, the levels of the encoder.
    levels = ["head", "decoder1", "decoder2", "decoder3", "bridge"]
    levels += ["encoder3", "encoder2", "encoder1"]
    assert by_level == {level: {0.5**depth} for depth, level in enumerate(levels)}


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("encoder_stem_conv", "encoder_stem"),
        ("encoder_stage1_block2_conv1", "encoder_stage1_block2"),
        ("stage1_transition_norm1", "stage1_transition"),
        ("decoder2_up", "decoder2_block1"),
        ("a_decoder1_gate1_map", "a_decoder1_block1"),
        ("nest1_2_up", "nest1_2_block1"),
        ("final_norm", "head"),
        ("head2", "head"),
    ],
)
def test_a_layer_belongs_to_a_block(layer: str, block: str) -> None:
    assert block_of(layer, {"head", "head2"}) == block


@pytest.mark.parametrize("prefix", ["", "a_"])
def test_intermediate_heads_are_heads(prefix: str) -> None:
    spec = Hourglass(
        input_shape=(16, 16, 1),
        stacks=2,
        depth=1,
        width=4,
        layer_prefix=prefix,
        head=Heatmaps(keypoints=2),
    )
    model = build_seeded(Recipe(spec=spec))
    names = [variable.path.split("/")[0] for variable in model.trainable_variables]
    found = layer_rates(model, TrainSpec(init="x.keras", layer_decay=0.5, freeze=1), names, 10)
    assert found is not None
    learning = {name for name, frozen in zip(names, found.frozen, strict=True) if not frozen}
    assert learning == {f"{prefix}stack1_head", f"{prefix}head"}
    full = {name for name, rate in zip(names, found.factors, strict=True) if rate == 1}
    assert full >= learning
    # What brings the guess of the first head to the next stack is no head.
    assert f"{prefix}stack1_remap_head" in set(names) - full


NET = small(stages=(Stage(blocks=1, width=8),))


def started(data: Any, **train: Any) -> Training:
    spec = TrainSpec(epochs=3, batch_size=40, init="x.keras", **train)
    model = build_seeded(Recipe(spec=NET, train=spec))
    return Training(model, data, spec, taken=("stem_conv", "stage1_block1_conv1"))


def test_both_trainers_freeze_and_scale_alike(
    blobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = from_arrays(blobs)
    how: dict[str, Any] = {
        "freeze": 1, "layer_decay": 0.5, "weight_decay": 0.01,
        "learning_rate": 0.01,
    }  # fmt: skip
    one = started(data, **how)
    before = {name: numpy(one.model.get_layer(name).kernel).copy() for name in _KERNELS}
    one.run_epoch()
    one.save(tmp_path / "state")
    after = {name: numpy(one.model.get_layer(name).kernel).copy() for name in _KERNELS}
    changed = [name for name in _KERNELS if not np.array_equal(before[name], after[name])]
    assert changed == ["stage1_block1_conv2", "head"]
    one.run_epoch()
    assert not np.array_equal(after["stem_conv"], numpy(one.model.get_layer("stem_conv").kernel))
    monkeypatch.setattr(reskeras.training.compiled, "compilable", lambda *_: False)
    other = started(data, **how)
    for _ in range(2):
        other.run_epoch()
    for ours, theirs in zip(other.model.variables, one.model.variables, strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=2e-3, atol=2e-4)
    monkeypatch.undo()
    resumed = started(data, **how)
    assert resumed.restore(tmp_path / "state")
    resumed.run_epoch()
    for ours, theirs in zip(resumed.model.variables, one.model.variables, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


_KERNELS = ("stem_conv", "stage1_block1_conv1", "stage1_block1_conv2", "head")
