"""Plain and residual networks over depth: losses that were measured, and short trainings."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, degradation
from reskeras.lab.experiments.degradation import claims, why_not
from reskeras.lab.networks import image_network
from reskeras.lab.twins import last_losses, residual_network, train_each, with_blocks
from reskeras.spec import (
    BottleneckBlock,
    Classifier,
    DenseBlock,
    NoNorm,
    PlainBlock,
    ScaledShortcut,
)

# `degradation()` with seeds 0 to 4: training is too dear to repeat it here.
MEASURED = {
    "plain": {
        2: [1.732, 1.641, 1.717, 1.79, 1.674],
        10: [1.634, 1.834, 1.714, 1.747, 1.682],
        20: [2.128, 2.264, 2.285, 2.051, 2.069],
    },
    "residual": {
        2: [1.674, 1.594, 1.666, 1.838, 1.573],
        10: [0.322, 0.516, 0.707, 0.866, 0.617],
        20: [0.244, 0.469, 0.243, 0.222, 0.398],
    },
}


def verdicts(losses: Any) -> list[Verdict]:
    return [check.verdict for check in claims(losses)]


def drawn(random: np.random.Generator, losses: Any) -> Any:
    """Five other seeds: normal losses with the means and covariances of those measured."""
    rows = [values for kind in losses.values() for values in kind.values()]
    new = random.multivariate_normal(np.mean(rows, axis=1), np.cov(rows), 5).T
    made = iter(new)
    return {kind: {blocks: next(made) for blocks in each} for kind, each in losses.items()}


def test_what_was_measured_passes_and_twins_that_are_swapped_fail() -> None:
    """At least 95 of 100 times, if losses of other seeds scatter as those that were measured."""
    random = np.random.default_rng(3)
    swapped = {"plain": MEASURED["residual"], "residual": MEASURED["plain"]}
    right = [verdicts(drawn(random, MEASURED)) for _ in range(500)]
    wrong = [verdicts(drawn(random, swapped)) for _ in range(500)]
    assert np.mean([[each is Verdict.PASS for each in one] for one in right], axis=0).min() >= 0.95
    assert np.mean([[each is Verdict.FAIL for each in one] for one in wrong], axis=0).min() >= 0.95


def test_chance_alone_proves_no_difference() -> None:
    random = np.random.default_rng(4)
    found = []
    for _ in range(2000):
        losses = random.normal(1, 0.1, (2, 2, 5))
        plain, residual = ({2: one[0], 20: one[1]} for one in losses)
        found.append(verdicts({"plain": plain, "residual": residual}))
    passed = np.mean([[each is Verdict.PASS for each in one] for one in found], axis=0)
    assert passed == pytest.approx([0.01, 0.99, 0.01], abs=0.007)


def test_a_residual_network_without_its_shortcuts_fails() -> None:
    """The real thing, on a network whose shortcuts let nearly nothing through."""
    spec = image_network((8, 8, 1), Classifier(classes=10), blocks=20, width=4)
    broken = dataclasses.replace(spec, shortcut=ScaledShortcut(factor=0.01))
    from reskeras.lab.trained import default_data

    networks = {2: with_blocks(broken, 0.1), 20: broken}
    losses = last_losses(train_each(networks, default_data(), epochs=3, seeds=3, seed=0))
    found = claims({"plain": losses, "residual": losses})
    # Three short trainings show that its loss rises; it takes five longer ones to prove it.
    assert found[1].measured > 0
    assert found[2].verdict is Verdict.FAIL


def test_twins_differ_in_nothing_but_their_shortcuts() -> None:
    basic = image_network((8, 8, 1), Classifier(classes=10), blocks=2, width=8)
    plain = dataclasses.replace(basic, block=PlainBlock())
    assert residual_network(plain) == basic
    without = dataclasses.replace(basic, shortcut="none")
    assert residual_network(without) == basic
    assert (
        reskeras.cost(without).params
        == reskeras.cost(plain).params
        == (reskeras.cost(basic).params)
    )


def test_networks_that_theory_is_silent_about() -> None:
    deep = image_network((8, 8, 1), Classifier(classes=10), blocks=15, width=8)
    assert not why_not(deep)
    assert "22 layers" in why_not(with_blocks(deep, 2 / 3))
    assert not why_not(dataclasses.replace(with_blocks(deep, 2 / 3), block=BottleneckBlock()))
    assert "norm 'none'" in why_not(dataclasses.replace(deep, norm=NoNorm()))
    (first, *_) = claims(MEASURED, "so it is")
    assert (first.verdict, first.why_not) == (Verdict.NO_THEORY, "so it is")


def test_losses_that_are_no_longer_finite() -> None:
    endless = {2: [1.0, 1.0], 20: [np.inf, 2.0]}
    assert verdicts({"plain": endless, "residual": endless})[:2] == [Verdict.PASS, Verdict.FAIL]


def test_a_small_network_of_ones_own() -> None:
    spec = image_network((8, 8, 1), Classifier(classes=10), blocks=2, width=4, name="own")
    one, again = (degradation(spec, seeds=2) for _ in range(2))
    assert one.table == again.table
    assert [row[1:3] for row in one.table.rows] == [(1, 0), (1, 1), (2, 0), (2, 1)] * 2
    assert one.verdict is Verdict.NO_THEORY


def test_requests_that_cannot_work() -> None:
    spec = image_network((8, 8, 1), Classifier(classes=10), blocks=1, width=8)
    with pytest.raises(RequestError, match="one block in each stage"):
        degradation(spec)
    for wrong in (reskeras.preset("densenet121"), dataclasses.replace(spec, block=DenseBlock())):
        with pytest.raises(RequestError, match="needs family 'resnet' with blocks 'plain'"):
            degradation(wrong)
