"""Correlations of gradients: rules by hand, simulation, and networks that are broken on purpose."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, shattered
from reskeras.lab.experiments.shattered import Correlations, measure_correlations
from reskeras.lab.networks import SMALL_NETWORKS, resized
from reskeras.spec import BatchNorm, NoNorm


def small(name: str, **changes: Any) -> Any:
    return dataclasses.replace(resized(SMALL_NETWORKS[name], blocks=5, width=96), **changes)


def measure(spec: Any, seeds: int, **options: Any) -> Correlations:
    settings = {"model": None, "images": None, "seed": 1} | options
    return measure_correlations(spec, seeds=seeds, **settings)


def rate(found: Correlations, size: int = 8) -> float:
    """How often groups of its networks pass."""
    parts = [found.measured[i : i + size] for i in range(0, len(found.measured), size)]
    checks = [dataclasses.replace(found, measured=part).check("") for part in parts]
    return float(np.mean([check.verdict is Verdict.PASS for check in checks]))


def test_independent_signs_by_hand() -> None:
    """Two ReLUs in each block: 1/4; in each branch, beside a shortcut: (1 + 1/4) / 2."""
    plain, residual = (measure(small(name), 2) for name in ("plain", "residual"))
    assert plain.independent == pytest.approx([4.0**-n for n in (4, 3, 2, 1, 0)])
    assert residual.independent == pytest.approx([0.625**n for n in (4, 3, 2, 1, 0)])


def test_angles_by_hand() -> None:
    """Images at right angles: both pass the first ReLU in 1/4, and later ones by the arc-cosine.

    Cho and Saul 2009, degrees 0 and 1.
    """
    spec = resized(SMALL_NETWORKS["plain"], blocks=3, width=256)
    images = np.linalg.qr(np.random.default_rng(3).standard_normal((256, 32)))[0].T * 16
    cosine, parts = 0.0, []
    for _ in range(6):
        angle = np.arccos(cosine)
        parts.append(1 - angle / np.pi)
        cosine = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    expected = [np.prod(parts[2 * n :]) for n in (1, 2)]
    found = measure(spec, 12, images=images.astype("float32"))
    assert found.theory[:2] == pytest.approx(expected, rel=0.12)
    assert expected[0] > 4 * 4.0**-2
    assert found.means[:2] == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_right_networks_pass_and_others_fail(name: str) -> None:
    """Of 20 groups of 8, 95 % agree with theory; with batch norm missing or added, 5 % do."""
    bare, normed = small(name), small(name, norm=BatchNorm(), norm_order="full_preact")
    if name == "plain":
        normed = dataclasses.replace(normed, norm_order=bare.norm_order)
    without, with_norm = measure(bare, 160), measure(normed, 160)
    assert rate(without) >= 0.95
    assert rate(with_norm) >= 0.95
    assert rate(dataclasses.replace(with_norm, measured=without.measured)) <= 0.05
    if name == "plain":
        assert rate(dataclasses.replace(without, measured=with_norm.measured)) <= 0.05


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (small("residual_batch_norm"), {"norm": NoNorm()}),
        (small("plain", norm=BatchNorm()), {"norm": NoNorm()}),
        (small("plain"), {"norm": BatchNorm()}),
    ],
    ids=["norm missing", "norm missing in a plain one", "norm added"],
)
def test_a_broken_network_fails(spec: Any, changes: Any) -> None:
    model = reskeras.build(dataclasses.replace(spec, **changes))
    assert shattered(spec).verdict is Verdict.PASS
    assert shattered(spec, model=model).verdict is Verdict.FAIL


def test_what_has_no_rule_has_no_verdict() -> None:
    for changes, why in (
        ({"squeeze_excite": 4}, "no rule"),
        ({"activation": "gelu"}, "slopes"),
        ({"norm_order": "original"}, "activated"),
    ):
        (check,) = shattered(small("residual", **changes), seeds=2).checks
        assert check.verdict is Verdict.NO_THEORY
        assert why in check.why_not


def test_requests_that_cannot_work() -> None:
    with pytest.raises(RequestError, match="has 1 blocks"):
        shattered(resized(SMALL_NETWORKS["plain"], blocks=1, width=8))


def test_a_seed_repeats_the_numbers() -> None:
    one, again = (shattered(small("residual"), seeds=2, seed=3) for _ in range(2))
    assert one.table == again.table
