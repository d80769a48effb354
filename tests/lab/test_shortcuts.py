"""Kinds of shortcut: factors by hand, networks that are broken on purpose, measured losses."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, shortcuts
from reskeras.lab.experiments.shortcuts import KINDS, claims, measure, why_not
from reskeras.lab.networks import image_network
from reskeras.spec import (
    BottleneckBlock,
    Classifier,
    DropoutShortcut,
    NoNorm,
    ScaledShortcut,
    Stage,
)

SMALL = image_network((8, 8, 1), Classifier(classes=10), blocks=5, width=4)

# `shortcuts(seeds=8)`: training is too dear to repeat it here.
MEASURED = {
    "identity": [0.231, 0.389, 0.371, 0.728, 1.104, 0.337, 1.03, 0.925],
    "scaled": [1.569, 1.808, 1.436, 1.775, 1.426, 1.514, 1.763, 1.808],
    "gated": [2.228, 2.169, 2.153, 2.141, 2.175, 2.218, 2.164, 2.162],
    "conv1x1": [1.694, 1.45, 1.142, 1.053, 1.68, 1.66, 1.412, 1.32],
    "dropout": [4.011, 4.661, 4.534, 5.581, 4.134, 4.395, 4.809, 4.572],
}


def verdict(spec: Any, model: Any = None, seed: int = 0) -> Verdict:
    (check,) = measure(spec, seed=seed, model=model).checks("")
    return check.verdict


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_order": "relu_before_add"},
        {"norm_order": "full_preact", "layer_prefix": "a_"},
        {"norm": NoNorm()},
        {"squeeze_excite": 2, "block": BottleneckBlock()},
        {"stages": (Stage(blocks=1, width=4), Stage(blocks=5, width=8, stride=2))},
    ],
    ids=str,
)
def test_products_of_factors(changes: Any) -> None:
    """In every norm order without a norm on the shortcut, whatever the branch is."""
    spec = dataclasses.replace(SMALL, **changes)
    found = measure(spec, seed=0)
    assert found.sizes == pytest.approx([1] * 5)
    halved = dataclasses.replace(spec, shortcut=ScaledShortcut())
    assert measure(halved, seed=0).sizes == pytest.approx([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
    assert verdict(spec) is verdict(halved) is Verdict.PASS
    half_sums = dataclasses.replace(halved, sum_scale="1/sqrt(2)")
    assert measure(half_sums, seed=0).sizes[0] == pytest.approx(2**-6)


def test_dropout_thins_gradients_out_at_random() -> None:
    """Right ones pass at least 95 of 100 times, those with another rate fail as often."""
    spec = dataclasses.replace(SMALL, shortcut=DropoutShortcut(rate=0.5))
    other = dataclasses.replace(SMALL, shortcut=DropoutShortcut(rate=0.45))
    model, wrong = reskeras.build(spec), reskeras.build(other)
    passed = [verdict(spec, model, seed) is Verdict.PASS for seed in range(20)]
    failed = [verdict(spec, wrong, seed) is Verdict.FAIL for seed in range(20)]
    assert np.mean(passed) >= 0.95
    assert np.mean(failed) >= 0.95
    found = measure(spec, seed=0)
    assert found.sizes[0] == pytest.approx(2**4 * found.share**0.5, rel=0.01)


@pytest.mark.parametrize("other", ["none", ScaledShortcut(factor=0.99), "conv1x1"])
def test_a_broken_network_fails(other: Any) -> None:
    model = reskeras.build(dataclasses.replace(SMALL, shortcut=other))
    assert verdict(SMALL, model) is Verdict.FAIL


def drawn(random: np.random.Generator, losses: Any) -> Any:
    """Nine other seeds: normal losses with the means and covariances of those measured."""
    rows = list(losses.values())
    new = random.multivariate_normal(np.mean(rows, axis=1), np.cov(rows), 9).T
    return dict(zip(losses, new, strict=True))


def test_what_was_measured_passes_and_kinds_that_are_swapped_fail() -> None:
    """At least 95 of 100 times, if losses of other seeds scatter as those that were measured."""
    random = np.random.default_rng(3)
    right = [claims(drawn(random, MEASURED)) for _ in range(500)]
    passed = [[check.verdict is Verdict.PASS for check in one] for one in right]
    assert np.mean(passed, axis=0).min() >= 0.95
    for kind in MEASURED.keys() - {"identity"}:
        # This kind called the identity, and the identity called this kind.
        swapped = MEASURED | {kind: MEASURED["identity"], "identity": MEASURED[kind]}
        place = list(MEASURED).index(kind) - 1
        wrong = [claims(drawn(random, swapped))[place] for _ in range(500)]
        assert np.mean([check.verdict is Verdict.FAIL for check in wrong]) >= 0.95


def test_a_small_network_of_ones_own() -> None:
    spec = image_network((8, 8, 1), Classifier(classes=10), blocks=2, width=4, name="own")
    found = shortcuts(spec, seeds=2)
    assert [check.verdict for check in found.checks[:3]] == [Verdict.PASS] * 3
    assert {check.why_not for check in found.checks[3:]} == {
        "it has 2 blocks; kinds differ when deep"
    }
    rows = [row for row in found.table.rows if row[1] == "training loss"]
    assert [row[0] for row in rows] == [kind for kind in KINDS for _ in range(2)]


def test_networks_that_theory_is_silent_about() -> None:
    spec = dataclasses.replace(SMALL, norm_order="norm_after_add")
    assert verdict(spec) is Verdict.NO_THEORY
    deep = image_network((8, 8, 1), Classifier(classes=10), blocks=12, width=4)
    assert not why_not(deep)
    assert "norm 'none'" in why_not(dataclasses.replace(deep, norm=NoNorm()))
    (first, *_) = claims(MEASURED, "so it is")
    assert (first.verdict, first.why_not) == (Verdict.NO_THEORY, "so it is")


def test_requests_that_cannot_work() -> None:
    with pytest.raises(RequestError, match="one block in each stage"):
        shortcuts(dataclasses.replace(SMALL, stages=(Stage(blocks=1, width=4),)))
    with pytest.raises(RequestError, match="needs family 'resnet'"):
        shortcuts(reskeras.preset("densenet121"))
