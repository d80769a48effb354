"""Networks that grow: the same function, a lower loss, and growth that is broken on purpose."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, nested
from reskeras.lab.experiments.nested import Grown, checks, measure, shallower
from reskeras.lab.networks import image_network
from reskeras.lab.trained import default_data
from reskeras.spec import (
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Stage,
    TrainSpec,
)
from reskeras.training.compiled import Programs

PROGRAMS = Programs()


def small(**changes: Any) -> Any:
    return image_network((8, 8, 1), Classifier(classes=10), blocks=2, width=8, **changes)


def grown(spec: Any, grow: Any, seeds: int = 3, epochs: int = 4) -> list[Grown]:
    how = TrainSpec(epochs=epochs, batch_size=128)
    return [
        measure(spec, default_data(), dataclasses.replace(how, seed=seed), grow, PROGRAMS)
        for seed in range(seeds)
    ]


def from_nothing(model: Any, spec: Any) -> Any:
    del model
    return reskeras.build(spec)


def late(model: Any, spec: Any) -> Any:
    """Grown, but the new block's branch does not start at zero."""
    found = reskeras.grow(model, spec)
    norm = found.get_layer("stage1_block2_norm2")
    norm.gamma.assign(0 * norm.gamma + 1e-3)
    return found


def test_a_network_grows_and_learns_on() -> None:
    same, better, rival = checks(grown(small(), reskeras.grow))
    assert same.measured == 0
    assert (same.verdict, better.verdict) == (Verdict.PASS, Verdict.PASS)
    assert rival.verdict is Verdict.NO_THEORY
    assert math.isfinite(rival.measured)


def test_growth_that_is_broken_fails() -> None:
    (same, _, _) = checks(grown(small(), late, seeds=2, epochs=2))
    assert same.verdict is Verdict.FAIL
    same, better, _ = checks(grown(small(), from_nothing))
    assert (same.verdict, better.verdict) == (Verdict.FAIL, Verdict.FAIL)


def test_growth_that_only_rounding_disturbs_passes() -> None:
    """Factors of 1/sqrt(depth), or dense layers, change what is summed, and so its rounding."""
    dense = DenseNet(
        input_shape=(8, 8, 1),
        stem=small().stem,
        block=DenseBlock(growth_rate=4),
        stages=(DenseStage(blocks=2), DenseStage(blocks=2)),
        head=Classifier(classes=10),
    )
    scaled = dataclasses.replace(
        small(residual_scale="1/sqrt(depth)"), stages=(Stage(blocks=4, width=8),)
    )
    changes = []
    for spec in (dense, scaled):
        found = grown(spec, reskeras.grow, seeds=2, epochs=2)
        assert checks(found)[0].verdict is Verdict.PASS
        changes += [one.change for one in found]
    assert max(changes) > 0


@pytest.mark.parametrize(("falls", "passes"), [(0.5, 0.95), (1.0, 0.01), (1.05, 0.01)])
def test_how_often_losses_that_fall_pass(falls: float, passes: float) -> None:
    """A power calculation: six seeds scatter by 8 %, as those of the experiment do."""
    random = np.random.default_rng(3)
    factors = falls * np.exp(0.08 * random.standard_normal((2000, 6)))
    verdicts = [
        checks(
            [
                Grown(change=0, rounding=0, parent=1, after=factor, nothing=1, epochs={})
                for factor in group
            ]
        )[1].verdict
        for group in factors
    ]
    share = np.mean([verdict is Verdict.PASS for verdict in verdicts])
    assert share >= passes if falls < 1 else share <= passes + 0.01


def test_what_has_no_parent() -> None:
    stages = (Stage(blocks=6, width=8), Stage(blocks=1, width=16, stride=2))
    deep = dataclasses.replace(small(), stages=stages)
    assert [stage.blocks for stage in shallower(deep).stages] == [3, 1]  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="has one block in each stage"):
        nested(dataclasses.replace(small(), stages=(Stage(blocks=1, width=8),)))
    with pytest.raises(RequestError, match=r"cannot grow from half of its blocks: .*identity"):
        nested(small(norm_order="norm_after_add"))
