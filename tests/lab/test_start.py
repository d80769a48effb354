"""First blocks that begin with ReLU, and what keeps theory away from others."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

import reskeras
from reskeras.errors import RequestError
from reskeras.lab import Verdict, start
from reskeras.lab.networks import ACTIVATED_SUMS, SMALL_NETWORKS, resized
from reskeras.spec import CifarStem, Classifier, DenseBlock, LayerNorm, NoNorm, ResNet, Stage


def small(name: str, **changes: Any) -> Any:
    spec: Any = (SMALL_NETWORKS | {ACTIVATED_SUMS.name: ACTIVATED_SUMS})[name]
    return dataclasses.replace(resized(spec, blocks=2, width=24), **changes)


def test_what_is_negative_never_passes_relu() -> None:
    raw, behind = start(small("residual")).checks
    assert (raw.expected, raw.measured, raw.verdict) == (0, 0, Verdict.PASS)
    assert behind.verdict is Verdict.PASS
    assert behind.measured > 0.2


def test_the_change_behind_the_stem_by_hand() -> None:
    """x and max(x, 0) have a correlation of 1/sqrt(2); each ReLU maps it by the arc-cosine kernel.

    Cho and Saul 2009, degree 1. Lengths are 1 and 1/sqrt(2) throughout.
    """
    cosine = 0.5**0.5
    for _ in range(2):
        angle = np.arccos(cosine)
        cosine = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    change = (1 + 0.5 - 2 * 0.5**0.5 * cosine) ** 0.5
    spec = resized(SMALL_NETWORKS["residual"], blocks=1, width=256)
    assert start(spec).checks[1].measured == pytest.approx(change, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        (small("residual_batch_norm"), "stage1_block1_norm1"),
        (small("residual_activated"), "stage1_block1_conv1"),
        (small("residual", activation="gelu"), "stage1_block1_relu1"),
    ],
    ids=["norm first", "weights first", "another activation"],
)
def test_what_comes_first_instead(spec: Any, first: str) -> None:
    raw, behind = start(spec, seeds=2).checks
    assert raw.verdict is Verdict.NO_THEORY
    assert raw.measured > 0
    assert behind.verdict is Verdict.PASS
    if spec.activation == "relu":
        assert first in raw.why_not


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "leaky_relu"},
        {"norm_order": "full_preact", "norm": LayerNorm()},
        {"norm_order": "original"},
    ],
    ids=["leaky", "norm first", "weights first"],
)
def test_a_broken_network_fails(changes: Any) -> None:
    """These fail always, and right networks pass always: the claim is exact for each network."""
    spec = small("residual")
    model = reskeras.build(dataclasses.replace(spec, **changes))
    assert start(spec, model=model, seeds=2).checks[0].verdict is Verdict.FAIL


def test_a_stem_that_mixes_nothing_fails() -> None:
    spec = small("residual")
    model = reskeras.build(spec)
    model.get_layer("stem_conv").kernel_initializer = keras.initializers.Identity()
    assert start(spec, model=model, seeds=2).checks[1].verdict is Verdict.FAIL


def test_images_and_dense_layers() -> None:
    spec = ResNet(
        input_shape=(8, 8, 3),
        stem=CifarStem(width=8),
        block=DenseBlock(growth_rate=4),
        norm=NoNorm(),
        norm_order="relu_only_preact",
        stages=(Stage(blocks=2, width=8),),
        head=Classifier(classes=10),
    )
    # They have no negative number: they are centered.
    images = np.random.default_rng(1).random((8, 8, 8, 3), "float32")
    raw, behind = start(spec, images=images, seeds=2).checks
    assert (raw.measured, raw.verdict, behind.verdict) == (0, Verdict.PASS, Verdict.PASS)
    with pytest.raises(RequestError, match="takes images"):
        start(spec, images=images[..., :1])


def test_a_seed_repeats_the_numbers() -> None:
    one, again = (start(small("residual"), seeds=2, seed=3) for _ in range(2))
    assert one.table == again.table
