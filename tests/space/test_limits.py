"""Limits on what a network may cost, for one that is worked out by hand."""

import dataclasses

import pytest

from reskeras.spec import BasicBlock, CifarStem, Classifier, Recipe, ResNet, Stage, TrainSpec
from tuning.space.limits import Limits

RECIPE = Recipe(
    spec=ResNet(
        input_shape=(4, 4, 1),
        stem=CifarStem(width=2),
        block=BasicBlock(),
        stages=(Stage(blocks=1, width=2),),
        head=Classifier(classes=3),
    ),
    train=TrainSpec(batch_size=1 << 16),
)
# Three 3x3 convolutions, each with a norm of 2 scales and 2 shifts; a dense layer with a bias.
TRAINABLE = 9 * (1 * 2 + 2 * 2 + 2 * 2) + 3 * 4 + (2 * 3 + 3)
MACS = 16 * 9 * (1 * 2 + 2 * 2 + 2 * 2) + 2 * 3
# Ten maps of 32 numbers (stem: conv, norm, relu; block: conv, norm, relu, conv, norm, add, relu),
# the pooled 2 and the 3 logits, in float32 for each image of a batch; 16 bytes for each parameter
# and for each of the norms' 4 statistics.
PARAMS = 16 * (TRAINABLE + 3 * 4)
MEMORY = (1 << 16) * 4 * (10 * 32 + 2 + 3) + PARAMS


@pytest.mark.parametrize(
    ("name", "cost"), [("params", TRAINABLE), ("macs", MACS), ("memory", MEMORY)]
)
def test_a_limit_admits_what_it_names_and_no_more(name: str, cost: int) -> None:
    assert Limits(**{name: cost}).refusal(RECIPE) is None
    refusal = Limits(**{name: cost - 1}).refusal(RECIPE)
    assert refusal is not None
    assert f"more than {cost - 1:,} " in refusal


def test_small_batches_are_scored_many_at_once() -> None:
    """Scoring takes passes of up to 64 MiB of activations, whatever the batch of training."""
    small = dataclasses.replace(RECIPE, train=TrainSpec(batch_size=8))
    assert Limits(memory=(64 << 20) + PARAMS).refusal(small) is None
    assert Limits(memory=(64 << 20) + PARAMS - 1).refusal(small) is not None
