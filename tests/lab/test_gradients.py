"""The identity path: products of slopes by hand, and networks that are broken on purpose."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.lab import Verdict, gradients
from reskeras.lab.experiments.variance import measure
from reskeras.lab.identity_path import IdentityPath, identity_path
from reskeras.lab.networks import ACTIVATED_SUMS, SMALL_NETWORKS
from reskeras.nets.graph import record
from reskeras.spec import (
    BasicBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    DropoutShortcut,
    GatedShortcut,
    LinearStem,
    NoNorm,
    PlainBlock,
    ResNet,
    ScaledShortcut,
    Stage,
)


def small(name: str, **changes: Any) -> Any:
    spec: Any = (SMALL_NETWORKS | {ACTIVATED_SUMS.name: ACTIVATED_SUMS})[name]
    changes = {
        "stages": (Stage(blocks=6, width=48),),
        "stem": LinearStem(width=48),
        "input_shape": (48,),
    } | changes
    return dataclasses.replace(spec, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "left"),
    [
        ("plain", {}, 0),
        ("residual", {}, 1),
        ("residual_batch_norm", {}, 1),
        ("residual_sum_scaled", {}, 2**-5),
        ("residual", {"residual_scale": 0.1}, 1),
        ("residual", {"shortcut": ScaledShortcut(factor=0.5)}, 4**-5),
    ],
)
def test_theory_by_hand(name: str, changes: Any, left: float) -> None:
    check = gradients(small(name, **changes), seeds=2).checks[0]
    assert check.expected == pytest.approx(left, rel=1e-12)
    assert check.verdict is Verdict.PASS


def test_relus_on_the_path_are_open_or_not() -> None:
    """Sums that are activated: what is left is what is positive after each later block."""
    spec = small("residual_activated")
    check = gradients(spec, seeds=2).checks[0]
    assert check.verdict is Verdict.PASS
    # x' = relu(x + F) with F normal and of variance 1: a reflected random walk.
    random = np.random.default_rng(5)
    x = np.maximum(random.standard_normal(200_000) * 2**0.5, 0)
    is_open = np.ones(len(x), bool)
    for _ in range(5):
        x = x + random.standard_normal(x.shape)
        is_open &= x > 0
        x = np.maximum(x, 0)
    assert check.measured == pytest.approx(is_open.mean(), rel=0.1)


def test_correlated_slopes_of_activated_sums() -> None:
    """Whole gradients agree with theory; slopes that count as independent would not."""
    spec = small("residual_activated", stages=(Stage(blocks=12, width=96),))
    check = measure(spec, model=None, images=None, seeds=12, seed=1).checks("")[1]
    assert check.expected is not None
    assert check.verdict is Verdict.PASS
    # Slopes that count as independent would make it at least 6 % less.
    assert check.measured == pytest.approx(check.expected, rel=0.03)


def test_paths_of_other_networks() -> None:
    def path(**changes: Any) -> Any:
        options = {"block": BasicBlock(), "shortcut": "project_on_change"} | changes
        spec = ResNet(
            input_shape=(8, 8, 1),
            stem=CifarStem(width=8),
            stages=(Stage(blocks=2, width=8), Stage(blocks=3, width=16, stride=2)),
            head=Classifier(classes=10),
            **options,
        )
        return identity_path(record(spec))

    found = path()
    assert [block.name for block in found.blocks] == [f"stage2_block{n}" for n in (1, 2, 3)]
    assert found.activations == ["stage2_block2_out_relu", "stage2_block3_out_relu"]
    dense = path(block=DenseBlock(growth_rate=4), norm_order="full_preact")
    assert [node.kind for node in dense.nodes] == ["Concatenate"] * 2
    assert path(block=PlainBlock()).nodes == ()
    for shortcut in (GatedShortcut(), DropoutShortcut(rate=0.5)):
        assert "shortcut" in path(shortcut=shortcut).name
    assert "norm" in path(norm_order="norm_after_add").name
    assert isinstance(path(shortcut="project_always"), IdentityPath)


@pytest.mark.parametrize(
    "spec",
    [
        ResNet(
            name="strided",
            input_shape=(8, 8, 3),
            stem=CifarStem(width=8),
            block=BasicBlock(),
            stages=(Stage(blocks=1, width=8), Stage(blocks=3, width=16, stride=2)),
            head=Classifier(classes=10),
        ),
        ResNet(
            name="dense",
            input_shape=(8, 8, 3),
            stem=CifarStem(width=8),
            block=DenseBlock(growth_rate=4),
            norm_order="full_preact",
            stages=(Stage(blocks=3, width=8),),
            head=Classifier(classes=10),
        ),
    ],
    ids=lambda spec: spec.name,
)
def test_images(spec: Any) -> None:
    check = gradients(spec, seeds=2).checks[0]
    assert check.verdict is Verdict.PASS
    assert check.measured > 0.1


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (small("residual"), {"shortcut": ScaledShortcut(factor=0.9)}),
        (small("residual"), {"sum_scale": 0.99}),
        (small("residual"), {"shortcut": DropoutShortcut(rate=0.1)}),
        (small("residual_sum_scaled"), {"sum_scale": 0.99}),
        (small("residual_activated"), {"norm_order": "norm_after_add"}),
        (small("residual_activated"), {"block": PlainBlock()}),
        (small("plain"), {"block": BasicBlock()}),
    ],
    ids=["scaled", "sum scaled", "dropout", "another scale", "norm", "no shortcut", "shortcut"],
)
def test_a_broken_network_fails(spec: Any, changes: Any) -> None:
    """These fail always, and right networks pass always: the claim is exact for each network."""
    model = reskeras.build(dataclasses.replace(spec, **changes))
    assert gradients(spec, model=model, seeds=2).checks[0].verdict is Verdict.FAIL


def test_what_has_no_rule_has_no_verdict() -> None:
    path, _ = gradients(small("residual", shortcut=DropoutShortcut(rate=0.1)), seeds=2).checks
    assert path.verdict is Verdict.NO_THEORY
    assert "shortcut_dropout" in path.why_not
    _, whole = gradients(small("residual_activated", norm=NoNorm()), seeds=2).checks
    assert whole.verdict is Verdict.NO_THEORY
    assert "without a norm" in whole.why_not


def test_a_seed_repeats_the_numbers() -> None:
    spec = small("residual_activated")
    one, again = (gradients(spec, seeds=2, seed=3) for _ in range(2))
    assert one.table == again.table
