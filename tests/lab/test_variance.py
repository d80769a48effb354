"""Second moments at initialization: theory by hand, and networks that are broken on purpose."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, variance
from reskeras.lab.experiments.variance import Growth, measure
from reskeras.lab.moments import (
    blocks_of,
    expected_moments,
    spread_over_windows,
    sums_over_windows,
    unknown,
)
from reskeras.lab.networks import SMALL_NETWORKS
from reskeras.nets.graph import Recorder, record
from reskeras.spec import (
    BasicBlock,
    Classifier,
    LinearStem,
    NoNorm,
    PlainBlock,
    ResNet,
    ScaledShortcut,
    Stage,
)


def small(name: str, **changes: Any) -> Any:
    """One of the experiment's networks, with few blocks."""
    stages = (Stage(blocks=6, width=48),)
    spec: Any = SMALL_NETWORKS[name]
    changes = {"stages": stages, "stem": LinearStem(width=48), "input_shape": (48,)} | changes
    return dataclasses.replace(spec, **changes)


def theory(spec: Any, sides: tuple[int, ...] = ()) -> list[float]:
    """The second moment that is expected after each block, for inputs of 1."""
    graph = record(spec)
    ones = {name: np.ones(sides) for name in unknown(spec, graph)}
    moments = expected_moments(spec, graph, ones)
    return [moments[block.output.name].mean for block in blocks_of(graph)]


def test_theory_by_hand() -> None:
    # He 2015: every ReLU halves what every convolution doubles; no ReLU follows the stem, so 2 is
    # left. Glorot's variance is half of He's, for the stem and twice in a block.
    assert theory(small("plain")) == pytest.approx([2] * 6)
    assert theory(small("plain_glorot")) == pytest.approx([0.25**n for n in range(1, 7)])

    # The first block activates its input before the fork: 1 on the shortcut, and 2 by the branch,
    # which has two convolutions and one ReLU more.
    residual = theory(small("residual"))
    assert residual[0] == pytest.approx(3, rel=0.01)
    growth = np.divide(residual[1:], residual[:-1])
    # More than 2 while the shortcut's first, positive part counts; half of it goes in each block.
    assert np.all(np.diff(growth) < 0)
    assert growth[-1] == pytest.approx(2, rel=0.05)
    scaled = theory(small("residual_sum_scaled"))
    assert scaled == pytest.approx([value / 2**n for n, value in enumerate(residual, start=1)])

    normed = theory(small("residual_batch_norm"))
    assert normed[0] == pytest.approx(1.5, rel=0.01)
    assert np.diff(normed) == pytest.approx(1, rel=0.08)


def test_sums_that_are_activated_are_a_reflected_random_walk() -> None:
    """`original`: x' = relu(x + F) with F normal and of variance 1, behind its batch norm."""
    spec = small("residual_batch_norm", norm_order="original")
    random = np.random.default_rng(5)
    x = random.standard_normal(400_000) * math.sqrt(2)
    expected = []
    for _ in range(6):
        x = np.maximum(x + random.standard_normal(x.shape), 0)
        expected.append(float(np.mean(x**2)))
    assert theory(spec) == pytest.approx(expected, rel=0.03)


@given(
    side=st.integers(3, 9),
    size=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
    seed=st.integers(0, 99),
)
def test_gradients_go_back_where_sums_came_from(
    side: int, size: int, stride: int, padding: Any, seed: int
) -> None:
    if padding == "same" and (stride > 1 or size % 2 == 0):
        padding = "valid"
    recorder = Recorder()
    image = recorder.input((side, side, 1), name="image")
    if size > side:
        return
    node = recorder.conv(image, 1, size, stride=stride, padding=padding, bias=False, name="conv")
    random = np.random.default_rng(seed)
    x, y = random.random((side, side)), random.random(node.sides)
    forward = np.sum(sums_over_windows(x, node) * y)
    assert forward == pytest.approx(np.sum(x * spread_over_windows(y, node, (side, side))))


def growth(theory: list[float], other: list[float]) -> float:
    """How much faster it grows per block than another."""
    return float((theory[-1] / theory[0] / (other[-1] / other[0])) ** (1 / (len(theory) - 1)))


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_right_networks_pass_and_others_fail(name: str) -> None:
    """Of 25 groups of 8 initializations, 95 % agree with theory and not with another network's."""
    spec = small(name)
    found = measure(spec, model=None, images=None, seeds=200, seed=1)
    rivals = [theory(small(other)) for other in SMALL_NETWORKS if other != name]
    # So few networks cannot tell factors apart that differ by less.
    rivals = [rival for rival in rivals if abs(growth(rival, theory(spec)) - 1) > 0.4]
    passed, failed = [], []
    for start in range(0, 200, 8):
        sides = [
            dataclasses.replace(side, logs=side.logs[start : start + 8])
            for side in (found.forward, found.backward)
        ]
        group = dataclasses.replace(found, forward=sides[0], backward=sides[1])
        checks = group.checks("")
        passed += [check.verdict is Verdict.PASS for check in checks]
        for rival in rivals:
            wrong = dataclasses.replace(sides[0], theory=rival)
            failed.append(wrong.check("", "").verdict is Verdict.FAIL)
    assert np.mean(passed) >= 0.95
    assert np.mean(failed) >= 0.95


@pytest.mark.parametrize("sign", [-1, 1])
def test_growth_that_chance_does_not_explain_fails_on_either_side(sign: int) -> None:
    """Of 8 networks: V = 0.08, so the tolerance is 0.02 + 2.576 sqrt(0.08 / 8) = 0.2776."""
    for away, verdict in ((0.27, Verdict.PASS), (0.29, Verdict.FAIL)):
        logs = np.tile([0, math.log(3) - 0.02 + sign * away], (8, 1))
        side = Growth(logs=logs, theory=[1, 3], noise=[0.03, 0.05], first=0, last=1)
        check = side.check("", "")
        assert check.tolerance == pytest.approx(0.2776 / math.log(2), abs=1e-4)
        assert check.expected == pytest.approx((math.log(3) - 0.02) / math.log(2))
        assert check.verdict is verdict


def test_a_network_that_is_too_narrow_has_no_verdict() -> None:
    """Chance alone explains x4 per block, and no more of it if there are more initializations."""
    narrow = small("residual", stages=(Stage(blocks=3, width=4),), stem=LinearStem(width=4))
    for check in variance(narrow, seeds=4).checks:
        assert check.verdict is Verdict.NO_THEORY
        assert "too narrow to tell: chance explains a factor of" in check.why_not


def test_the_number_is_the_power_of_2_by_which_a_block_multiplies() -> None:
    plain, glorot = (variance(small(name), seeds=8).checks[0] for name in ("plain", "plain_glorot"))
    assert plain.expected is not None
    assert glorot.expected is not None
    # Theory's means less V / 4, which is the same for both: Glorot's is a quarter of He's.
    assert plain.expected - glorot.expected == pytest.approx(2)
    assert plain.measured - glorot.measured == pytest.approx(2, abs=0.01)


def built(spec: Any) -> Any:
    return reskeras.build(spec)


def frozen_gamma(spec: Any) -> Any:
    model = reskeras.build(spec)
    for layer in model.layers:
        if layer.name.endswith("_norm2"):
            layer.gamma.assign(0 * layer.gamma)
    return model


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        (small("plain"), lambda spec: built(dataclasses.replace(spec, init="glorot_normal"))),
        (small("residual"), lambda spec: built(dataclasses.replace(spec, sum_scale="1/sqrt(2)"))),
        (
            small("residual"),
            lambda spec: built(dataclasses.replace(spec, shortcut=ScaledShortcut(factor=0.1))),
        ),
        (
            small("residual_batch_norm", norm_order="original"),
            lambda spec: built(dataclasses.replace(spec, norm_order="norm_after_add")),
        ),
        (small("residual_batch_norm"), frozen_gamma),
    ],
    ids=["glorot for he", "scaled sums", "no shortcut", "norm misplaced", "gamma frozen"],
)
def test_a_broken_network_fails(spec: Any, model: Any) -> None:
    assert variance(spec).verdict is Verdict.PASS
    assert variance(spec, model=model(spec)).verdict is Verdict.FAIL


def test_convolutions_at_the_border_and_strides() -> None:
    """Padding is 5 of 9 windows at a corner: theory counts it, so He's 1 is not expected."""
    spec = ResNet(
        input_shape=(8, 8, 3),
        stem=LinearStem(width=32),
        block=PlainBlock(),
        norm=NoNorm(),
        stages=(Stage(blocks=2, width=32), Stage(blocks=2, width=32, stride=2)),
        head=Classifier(classes=10),
    )
    padded = theory(spec, sides=(8, 8))
    assert 0.8 < padded[1] / padded[0] < 0.85
    forward, backward = variance(spec).checks
    assert forward.expected is not None
    assert forward.expected < math.log2(0.9)
    assert (forward.verdict, backward.verdict) == (Verdict.PASS, Verdict.PASS)


def test_what_has_no_rule_has_no_verdict() -> None:
    gated = small("residual", squeeze_excite=4)
    forward, _ = variance(gated, seeds=2).checks
    assert forward.verdict is Verdict.NO_THEORY
    assert "_se" in forward.why_not
    document = variance(gated, seeds=2).document()
    assert (document["verdict"], document["expected"]) == ("no theory", None)


def test_a_seed_repeats_the_numbers() -> None:
    spec = small("residual")
    one, again, other = (variance(spec, seeds=2, seed=seed).table for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_requests_that_cannot_work() -> None:
    with pytest.raises(RequestError, match="has one block; growth needs two or more"):
        variance(small("residual", stages=(Stage(blocks=1, width=48),)))
    with pytest.raises(RequestError, match=r"takes images \[48\], not \[7\]"):
        variance(small("residual"), images=np.zeros((4, 7), "float32"))


def test_basic_blocks_of_presets_are_covered() -> None:
    spec = dataclasses.replace(reskeras.preset("digits_basic"), block=BasicBlock())
    assert variance(spec, seeds=4).verdict is Verdict.PASS
