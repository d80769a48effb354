"""Overflow and rounding: by hand, by simulation, and in networks that are broken on purpose."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, precision
from reskeras.lab.experiments.precision import Precision, measure_precision
from reskeras.lab.networks import SMALL_NETWORKS, resized
from reskeras.lab.rounding import Chain
from reskeras.spec import LayerNorm


def small(name: str, **changes: Any) -> Any:
    spec: Any = resized(SMALL_NETWORKS[name], blocks=2, width=32)
    return dataclasses.replace(spec, **changes)


def measure(spec: Any, *, model: Any = None, seeds: int = 6, blocks: int = 44) -> Precision:
    images = np.random.default_rng(4).standard_normal((16, *spec.input_shape), "float32")
    return measure_precision(spec, model=model, images=images, blocks=blocks, seeds=seeds, seed=1)


def groups(found: Precision, size: int) -> list[Precision]:
    """Its networks, a few at a time."""
    made = []
    for start in range(0, len(found.chains["float16"].overflow), size):
        part = slice(start, start + size)
        chains = {
            name: Chain(overflow=one.overflow[part], lost=one.lost[part], moments=one.moments[part])
            for name, one in found.chains.items()
        }
        made.append(dataclasses.replace(found, chains=chains))
    return made


def rate(found: Precision, place: int) -> float:
    """How often groups of six networks pass a check."""
    return float(
        np.mean([one.checks("")[place].verdict is Verdict.PASS for one in groups(found, 6)])
    )


def test_right_networks_pass_and_others_fail() -> None:
    """Of 20 groups of 6 networks, 95 % agree with theory and not with another network's."""
    residual = measure(small("residual"), seeds=120)
    half = measure(small("residual", residual_scale=0.5), seeds=120)
    normed = measure(small("residual_batch_norm"), seeds=120)
    float16, lost = 0, 4
    # x2 overflows near block 27, x1.25 not in 45: a missing scale is seen, and one too many.
    assert rate(residual, float16) >= 0.95
    assert rate(half, float16) >= 0.95
    assert rate(dataclasses.replace(residual, theory=half.theory), float16) <= 0.05
    assert rate(dataclasses.replace(half, theory=residual.theory), float16) <= 0.05
    for one in (residual, half, normed):
        assert rate(one, lost) >= 0.95
    assert rate(dataclasses.replace(normed, theory=residual.theory), lost) <= 0.05
    assert rate(dataclasses.replace(residual, theory=normed.theory), lost) <= 0.05


def test_depth_by_hand() -> None:
    """x2 per block from m reaches the largest float16 / q after log2((65504 / q)^2 / m) blocks."""
    found = measure(small("residual"), blocks=40, seeds=2)
    check = found.checks("")[0]
    q = 3.3  # the largest of 32 to 512 normal numbers
    m = found.theory.moments[0]
    depth = 2 + math.log2((65504 / q) ** 2 / m)
    assert check.expected == pytest.approx(depth, abs=2)
    assert found.theory.peaks[10][0] == pytest.approx(2 * math.log(q), abs=0.6)


def test_loss_by_hand() -> None:
    """Batch norm: at block k, F is normal and x has its variance times k."""
    found = measure(small("residual_batch_norm"), blocks=30, seeds=2)
    random = np.random.default_rng(2)
    x, branch = random.standard_normal((2, 10**6))
    x = x * math.sqrt(found.theory.moments[28])
    # float16 has 11 significant bits: half a unit in the last place is 2^(e - 11).
    half = 2.0 ** (np.floor(np.log2(np.abs(x))) - 11)
    assert found.theory.lost["float16"][29] == pytest.approx(
        np.mean(np.abs(branch) < half), rel=0.3
    )
    ratio = np.mean(found.theory.lost["bfloat16"]) / np.mean(found.theory.lost["float16"])
    assert ratio == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize(
    ("spec", "changes", "place"),
    [
        (small("residual"), {"init": "glorot_normal"}, 0),
        (small("residual_sum_scaled"), {"sum_scale": 0.99}, 0),
        (small("residual_batch_norm", residual_scale=0.999), {"residual_scale": 0.2}, 4),
    ],
    ids=["glorot for he", "another scale", "scaled branch"],
)
def test_a_broken_network_fails(spec: Any, changes: Any, place: int) -> None:
    model = reskeras.build(dataclasses.replace(spec, **changes))
    assert measure(spec).checks("")[place].verdict is Verdict.PASS
    assert measure(spec, model=model).checks("")[place].verdict is Verdict.FAIL


def test_what_has_no_rule_has_no_verdict() -> None:
    checks = measure(small("residual", squeeze_excite=4), blocks=3, seeds=2).checks("")
    assert {check.verdict for check in checks} == {Verdict.NO_THEORY}
    assert "_se" in checks[0].why_not
    plain = measure(small("plain"), blocks=3, seeds=2).checks("")
    assert [check.verdict for check in plain] == [Verdict.PASS] * 3 + [Verdict.NO_THEORY] * 2
    assert plain[3].why_not == "there is no sum"


def test_requests_that_cannot_work() -> None:
    with pytest.raises(RequestError, match="two last blocks of one shape"):
        precision(reskeras.preset("densenet121"))


def test_a_seed_repeats_the_numbers() -> None:
    spec = small("residual", norm=LayerNorm())
    one, again = (precision(spec, blocks=4, seeds=2, seed=3) for _ in range(2))
    assert one.table == again.table
