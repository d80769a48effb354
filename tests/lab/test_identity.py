"""Blocks of trained networks: what they do to their input, and blocks broken on purpose."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from reskeras.errors import RequestError
from reskeras.lab import Check, Verdict, identity
from reskeras.lab.experiments.identity import Blocks, checks, costs, measure, ratios
from reskeras.lab.networks import image_network
from reskeras.lab.residual import residual_blocks
from reskeras.lab.trained import Trained, default_data, images_of, train_network
from reskeras.spec import Classifier, NoNorm, PlainBlock, Stage, TrainSpec
from reskeras.training.compiled import Programs


def small(**changes: Any) -> Any:
    options = {name: changes.pop(name) for name in ("block",) if name in changes}
    spec = image_network((8, 8, 1), Classifier(classes=10), blocks=1, width=8, **options)
    stages = (Stage(blocks=5, width=8), Stage(blocks=4, width=16, stride=2))
    return dataclasses.replace(spec, **{"stages": stages} | changes)


HOW = TrainSpec(epochs=6)
PROGRAMS = Programs()


@pytest.fixture(scope="module")
def found() -> list[Blocks]:
    return [
        measure(small(), default_data(), dataclasses.replace(HOW, seed=seed), PROGRAMS)
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train_network(small(), default_data(), HOW, programs=PROGRAMS)


def verdicts(found: list[Check]) -> list[Verdict]:
    return [check.verdict for check in found]


def test_blocks_of_a_trained_network(found: list[Blocks]) -> None:
    assert verdicts(checks(small(), found, alone=True)) == [Verdict.PASS] * 4
    assert all(one.zeros.min() > 0 and one.zeros.max() < 1 for one in found)


def test_a_block_that_is_switched_off_by_hand(trained: Trained) -> None:
    """The same cost as of a network whose last gamma and beta of the block are zero."""
    data, spec = default_data(), small()
    cost = costs(spec, trained.model, data)
    whole = trained.scores(data, "val")["accuracy"]
    place = 2
    norm = trained.model.get_layer(f"{residual_blocks(spec)[place].name}_norm2")
    gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
    before = ratios(spec, trained.model, images_of(spec, data, 32))
    norm.gamma.assign(0 * gamma)
    norm.beta.assign(0 * beta)
    assert whole - trained.scores(data, "val")["accuracy"] == pytest.approx(cost[place], abs=1e-6)
    after = ratios(spec, trained.model, images_of(spec, data, 32))
    assert after[place] == 0
    assert after[:place] == pytest.approx(before[:place])
    norm.gamma.assign(gamma)
    norm.beta.assign(beta)


def test_branches_that_grow_fail(trained: Trained, found: list[Blocks]) -> None:
    """Gammas that double from block to block."""
    spec, images = small(), images_of(small(), default_data(), 64)
    norms = [trained.model.get_layer(f"{each.name}_norm2") for each in residual_blocks(spec)]
    gammas = [norm.gamma.numpy() for norm in norms]
    for power, norm in enumerate(norms):
        norm.gamma.assign(2.0**power * norm.gamma)
    ratio = ratios(spec, trained.model, images)
    for norm, gamma in zip(norms, gammas, strict=True):
        norm.gamma.assign(gamma)
    broken = [dataclasses.replace(one, ratio=ratio) for one in found]
    falls, learnt, worth, _ = checks(spec, broken, alone=True)
    assert verdicts([falls, learnt, worth]) == [Verdict.FAIL] * 3


@pytest.mark.parametrize("right", [True, False])
def test_how_often_verdicts_are_right(found: list[Blocks], *, right: bool) -> None:
    """Groups of five: resampled trainings with 10 % of noise, and blocks in random order."""
    random, spec = np.random.default_rng(1), small()
    passed = []
    for _ in range(100):
        group = []
        for one in random.choice(found, 5):  # type: ignore[arg-type]
            order = np.arange(9) if right else random.permutation(9)
            noise = np.exp(0.1 * random.standard_normal((2, 9)))
            ratio = (one.ratio * noise[0])[order]
            cost = (one.cost * noise[1])[np.arange(9) if right else random.permutation(9)]
            before = one.before * (1 if right else noise[0])
            group.append(dataclasses.replace(one, ratio=ratio, before=before, cost=cost))
        passed.append([v is Verdict.PASS for v in verdicts(checks(spec, group, alone=True))])
    shares = np.mean(passed, axis=0)
    # Training changes ratios by less than this noise.
    claims = [0, 2, 3]
    assert np.all(shares[claims] >= 0.95 if right else shares[claims] <= 0.05)


@pytest.mark.parametrize(
    ("changes", "claims", "why"),
    [
        ({"norm": NoNorm()}, [0, 1, 2], "without a norm"),
        ({"norm_order": "norm_after_add"}, [0, 1, 2], "after each addition"),
        ({"sum_scale": "1/sqrt(2)"}, [0, 1, 2], "a factor on what passes"),
        ({"shortcut": "project_always"}, [0, 1, 2], "a projection in each block"),
        ({"residual_scale": "learned"}, [0, 1, 2], "start at zero"),
        ({"norm_order": "full_preact"}, [1], "no norm ends the branch"),
        ({"stages": (Stage(blocks=9, width=8),)}, [3], "no block changes the shape"),
    ],
)
def test_what_theory_needs(found: list[Blocks], changes: Any, claims: list[int], why: str) -> None:
    made = checks(small(**changes), found, alone=True)
    none = [place for place, check in enumerate(made) if check.verdict is Verdict.NO_THEORY]
    assert none == claims
    assert why in made[claims[0]].why_not


def test_too_few_trainings_to_tell(found: list[Blocks]) -> None:
    """Student's t of two trainings is 31.8: ranks that scatter by 0.05 may be anything."""
    scattered = [found[0], dataclasses.replace(found[1], ratio=found[1].ratio[::-1])]
    check = checks(small(), scattered, alone=True)[0]
    assert check.verdict is Verdict.NO_THEORY
    assert "so few trainings" in check.why_not


def test_networks_without_blocks_to_rank() -> None:
    for spec in (small(block=PlainBlock()), small(stages=(Stage(blocks=2, width=8),))):
        with pytest.raises(RequestError, match="no stage has 3 residual blocks"):
            identity(spec)
