"""What layers of a DenseNet use: connections by hand, cuts, and networks broken on purpose."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from reskeras.errors import RequestError
from reskeras.lab import Verdict, dense
from reskeras.lab.experiments.dense import Use, checks, connections_of, costs, measure, weights
from reskeras.lab.networks import image_network
from reskeras.lab.trained import default_data, train_network
from reskeras.spec import (
    AnySpec,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Features,
    NormOrder,
    TrainSpec,
)
from reskeras.training.compiled import Programs

HOW = TrainSpec(epochs=2, batch_size=128)
PROGRAMS = Programs()


def small(*stages: int, order: NormOrder = "full_preact", bottleneck: bool = True) -> Any:
    return DenseNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block=DenseBlock(growth_rate=4, compression=0.5, bottleneck=bottleneck),
        stages=tuple(DenseStage(blocks=blocks) for blocks in stages or (3, 3)),
        head=Classifier(classes=10),
        norm_order=order,
    )


@pytest.mark.parametrize("order", ["full_preact", "original"])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_connections_by_hand(order: NormOrder, *, bottleneck: bool) -> None:
    found = connections_of(small(2, 2, order=order, bottleneck=bottleneck))
    last = "conv2" if bottleneck else "conv1"
    first, second = f"stage1_block1_{last}", f"stage1_block2_{last}"
    transition, third = "stage1_transition_conv1", f"stage2_block1_{last}"
    fourth = f"stage2_block2_{last}"
    assert [(each.target.name, each.source.name, each.skips) for each in found] == [
        ("stage1_block2_conv1", "stem_conv", True),
        ("stage1_block2_conv1", first, False),
        (transition, "stem_conv", True),
        (transition, first, True),
        (transition, second, False),
        ("stage2_block2_conv1", transition, True),
        ("stage2_block2_conv1", third, False),
        ("head", transition, True),
        ("head", third, True),
        ("head", fourth, False),
    ]
    # (8 + 2 * 4) / 2 = 8 channels come out of the transition.
    assert [(each.channels.start, each.channels.stop) for each in found[-3:]] == [
        (0, 8), (8, 12), (12, 16),
    ]  # fmt: skip


def test_what_a_cut_costs() -> None:
    """As much as zeros by hand; and nothing where there are zeros already, which fails."""
    data, spec = default_data(), small()
    trained = train_network(spec, data, HOW, programs=PROGRAMS)
    connections = connections_of(spec)
    before = weights(trained.model, connections)
    cost = costs(trained.model, connections, data)
    assert weights(trained.model, connections) == pytest.approx(before)
    assert np.isnan(cost).tolist() == [not each.skips for each in connections]

    whole = trained.scores(data, "train")["loss"]
    unused = [place for place, each in enumerate(connections) if each.source.name == "stem_conv"]
    for place in unused:
        kernel = trained.model.get_layer(connections[place].target.name).kernel
        value = kernel.numpy()
        value[..., connections[place].channels, :] = 0
        kernel.assign(value)
        if place == unused[0]:
            after = trained.scores(data, "train")["loss"]
            assert after - whole == pytest.approx(cost[place], abs=1e-5)
    broken = costs(trained.model, connections, data)
    used = Use(weights=before, costs=np.where(np.isnan(cost), np.nan, 0.02))
    assert checks(connections, [used, used])[0].verdict is Verdict.PASS
    cut = dataclasses.replace(used, costs=broken)
    assert checks(connections, [cut, cut])[0].verdict is Verdict.FAIL


def test_a_training_is_measured() -> None:
    found = measure(small(), default_data(), HOW, PROGRAMS)
    again = measure(small(), default_data(), HOW, PROGRAMS)
    assert found.weights.tolist() == again.weights.tolist()
    assert np.all(found.weights > 0.5)
    assert np.all(found.weights < 2)


@pytest.mark.parametrize("right", [True, False])
def test_how_often_verdicts_are_right(*, right: bool) -> None:
    """Groups of eight, with means and scatter of the experiment's own: each training is too dear.

    It measures 0.0174 +- 0.0068 for the cuts of the least used source, -0.070 +- 0.011 for the
    transition, and 1.17, 1.34, 1.40, 1.42, 1.46, 1.52 (+- 0.03) for the classifier. In broken
    networks all sources are alike.
    """
    random = np.random.default_rng(2)
    connections = connections_of(small(5, 5))
    head = np.array([each.target.name == "head" for each in connections])
    first = np.array([each.row == 0 for each in connections])
    passed = []
    for _ in range(200):
        group = []
        for _ in range(8):
            pattern = np.ones(len(connections))
            if right:
                pattern[first] = 0.94
                pattern[head] = (1.17, 1.34, 1.40, 1.42, 1.46, 1.52)
            weight = pattern * np.exp(0.03 * random.standard_normal(len(pattern)))
            cost = np.full(len(pattern), (0.0174 * right) + 0.0068 * random.standard_normal())
            group.append(Use(weights=weight, costs=cost))
        passed.append([check.verdict is Verdict.PASS for check in checks(connections, group)])
    shares = np.mean(passed, axis=0)
    assert np.all(shares >= 0.95 if right else shares <= 0.05)


@pytest.mark.parametrize(
    ("spec", "none"),
    [
        (small(4), [False, True, False]),
        (
            dataclasses.replace(small(), head=Features(endpoints=("stage2",))),
            [False, False, True],
        ),
    ],
    ids=["no transition", "no classifier"],
)
def test_what_has_no_theory(spec: AnySpec, none: list[bool]) -> None:
    connections = connections_of(spec)
    random = np.random.default_rng(3)
    scattered = [Use(weights=one, costs=one) for one in random.random((30, len(connections)))]
    found = checks(connections, scattered)
    assert [check.verdict is Verdict.NO_THEORY for check in found] == none


def test_networks_without_dense_layers() -> None:
    with pytest.raises(RequestError, match="no layer takes the outputs of 3 earlier ones"):
        dense(image_network((8, 8, 1), Classifier(classes=10), blocks=2))
