"""Batch norm and the scale of weights: layers that are broken on purpose, and other networks."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Check, Verdict, batchnorm
from reskeras.lab.experiments.batchnorm import _ALPHAS, _SIZES, Means, measure
from reskeras.lab.networks import image_network
from reskeras.spec import BatchNorm, Classifier, DenseBlock, DenseNet, DenseStage, GroupNorm, NoNorm

NORMED = image_network((6, 6, 3), Classifier(classes=4), blocks=1, width=8)
BARE = dataclasses.replace(NORMED, norm=NoNorm())


def verdicts(checks: Any) -> list[bool]:
    assert all(check.verdict is not Verdict.NO_THEORY for check in checks)
    return [check.verdict is Verdict.PASS for check in checks]


def passed(spec: Any, model: Any = None) -> Any:
    """How often each claim passes, of 20 initializations."""
    images = np.random.default_rng(0).standard_normal((32, *spec.input_shape), "float32")
    found = measure(spec, model=model, images=images, seeds=20, seed=1)

    def own(values: Any, number: int) -> Any:
        each = len(values) // 20
        return values[number * each : (number + 1) * each]

    groups = [
        dataclasses.replace(
            found,
            normed=own(found.normed, number),
            bare=own(found.bare, number),
            means=[
                dataclasses.replace(means, squares=own(means.squares.T, number).T)
                for means in found.means
            ],
        )
        for number in range(20)
    ]
    return np.mean([verdicts(group.checks("", alone=True)) for group in groups], axis=0)


def test_right_networks_pass() -> None:
    assert passed(NORMED).min() >= 0.95
    assert passed(BARE).min() >= 0.95


class Half(keras.layers.BatchNormalization):
    """Takes its statistics from half of the batch."""

    def _moments(self, inputs: Any, mask: Any) -> Any:
        return super()._moments(inputs[: (keras.ops.shape(inputs)[0] + 1) // 2], mask)


def frozen(model: Any) -> Any:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return model


def with_layers(model: Any, change: Any) -> Any:
    """A model whose layers are made from their configurations by `change`."""
    return keras.models.clone_model(model, clone_function=change)


def halved(layer: Any) -> Any:
    kind = Half if isinstance(layer, keras.layers.BatchNormalization) else type(layer)
    return kind.from_config(layer.get_config())


def bent(layer: Any) -> Any:
    config = layer.get_config()
    if isinstance(layer, keras.layers.Conv2D):
        config["activation"] = "tanh"
    return type(layer).from_config(config)


@pytest.mark.parametrize(
    ("spec", "change", "broken"),
    [
        (NORMED, frozen, [0, 1, 2]),
        (NORMED, lambda model: with_layers(model, halved), [2]),
        (
            NORMED,
            lambda _: reskeras.build(dataclasses.replace(NORMED, norm=BatchNorm(epsilon=1e-3))),
            [0, 1],
        ),
        (BARE, lambda model: with_layers(model, bent), [0, 1]),
    ],
    ids=["frozen", "half of the batch", "another epsilon", "not linear"],
)
def test_broken_networks_fail(spec: Any, change: Any, broken: list[int]) -> None:
    assert passed(spec, change(reskeras.build(spec)))[broken].max() <= 0.05


def test_the_interval_of_means_is_that_of_independent_images() -> None:
    """Also of images that are far from normal: 99 of 100 pass; a fifth more variance is seen."""
    random = np.random.default_rng(2)
    population = random.exponential(size=2000) ** 1.5
    population = (population - population.mean()) / population.std()
    kurtosis = float(np.mean(population**4) - 3)

    def check(scale: float) -> Check:
        squares = [
            scale * np.mean(random.choice(population, (1000, size)), axis=1) ** 2 for size in _SIZES
        ]
        return Means(
            norm="", squares=np.stack(squares), kurtosis=kurtosis, values=1.0, positions=1
        ).check("")

    assert kurtosis > 10
    assert np.mean([verdicts([check(1.0)]) for _ in range(200)]) >= 0.95
    assert np.mean([verdicts([check(1.3)]) for _ in range(200)]) <= 0.05


def test_the_table_by_hand() -> None:
    rows = batchnorm(NORMED, seeds=2).table.dicts()
    outputs = [row for row in rows if row["what"] == "output"]
    assert [row["at"] for row in outputs] == [f"alpha {alpha:g}" for alpha in _ALPHAS]
    assert [row["theory"] for row in outputs] == [1.0] * len(_ALPHAS)
    gradients = [row for row in rows if row["what"] == "gradient"]
    assert [row["theory"] for row in gradients] == [8, 4, 2, 1, 1 / 2, 1 / 4, 1 / 8]
    assert [row["measured"] for row in gradients] == pytest.approx(
        [row["theory"] for row in gradients], rel=1e-3
    )


def test_convolutions_that_others_use_too() -> None:
    """In a pre-activation block, a norm follows the first convolution, a sum the second; and a
    dense layer's output goes to all later ones."""
    preact = dataclasses.replace(NORMED, norm_order="full_preact", stages=NORMED.stages * 2)
    found = measure(preact, model=None, images=None, seeds=2, seed=0)
    assert [run.outputs / run.alpha for run in found.bare] == pytest.approx([1] * len(found.bare))
    assert [run.outputs for run in found.normed] == pytest.approx([1] * len(found.normed), rel=0.01)
    dense = DenseNet(
        input_shape=(6, 6, 1),
        stem=NORMED.stem,
        block=DenseBlock(growth_rate=4, bottleneck=False),
        stages=(DenseStage(blocks=2),),
        head=Classifier(classes=3),
    )
    checks = batchnorm(dense, seeds=2).checks
    assert len(checks) == 3
    assert all(verdicts(checks))


def test_a_seed_repeats_the_numbers() -> None:
    one, again, other = (batchnorm(NORMED, seeds=2, seed=seed).table for seed in (3, 3, 4))
    assert str(one) == str(again)
    assert one != other


def test_requests_that_cannot_work() -> None:
    with pytest.raises(RequestError, match="has norm 'group'"):
        batchnorm(dataclasses.replace(NORMED, norm=GroupNorm()))
    with pytest.raises(RequestError, match=r"takes images \[6, 6, 3\], not \[7\]"):
        batchnorm(NORMED, images=np.zeros((4, 7), "float32"))
