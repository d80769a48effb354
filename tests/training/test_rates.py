"""The range test reads its range from an average that pandas computes too, and trains as Keras."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import small

import reskeras.training.compiled
from reskeras.data import from_arrays
from reskeras.errors import RequestError
from reskeras.spec import Recipe, TrainSpec
from reskeras.training.rates import RateTest, range_test, suggest

RATES = np.geomspace(1e-6, 10, 100).tolist()
# Flat for 40 steps, falls for 30, flat for 10, diverges.
CURVE = [2.0] * 40 + np.linspace(2, 0.5, 30).tolist() + [0.5] * 10 + [5.0] * 20


def test_the_average_is_that_of_pandas() -> None:
    found = suggest(RATES, CURVE)
    expected = pd.Series(CURVE).ewm(alpha=0.2).mean()
    np.testing.assert_allclose(found.smoothed, expected, rtol=1e-12)


def test_the_range_lies_where_the_loss_falls() -> None:
    found = suggest(RATES, CURVE)
    # The loss falls evenly from step 40 to 69. The average falls fastest when it has caught up, and
    # is lowest when the loss starts to rise, less a lag of 4 steps each.
    assert RATES[40] < found.low < RATES[70]
    assert found.high == RATES[79 - 4]
    assert found.suggested == pytest.approx(math.sqrt(found.low * found.high))
    assert found.diverged
    assert not suggest(RATES[:80], CURVE[:80]).diverged


@given(st.lists(st.floats(0, 100), min_size=3, max_size=98), st.booleans())
def test_a_range_lies_among_the_rates_and_does_not_depend_on_the_unit_of_the_loss(
    losses: list[float], nan: bool
) -> None:
    losses = [101.0, *losses] + [math.nan] * nan
    found = suggest(RATES[: len(losses)], losses)  # the first loss is the highest
    assert found.low < found.high
    assert {found.low, found.high} <= set(RATES[: len(losses)])
    scaled = suggest(RATES[: len(losses)], [16 * loss for loss in losses])
    assert (scaled.low, scaled.high) == (found.low, found.high)


def test_a_loss_that_never_falls_is_an_error() -> None:
    for losses in ([1.0, 2.0, 3.0], [math.nan], [1.0]):
        with pytest.raises(RuntimeError, match="the loss falls at no learning rate from 1e-06"):
            suggest(RATES[: len(losses)], losses)


def test_both_trainers_find_the_same_range_again_and_again(
    blobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = from_arrays(blobs)
    recipe = Recipe(spec=small(), train=TrainSpec(batch_size=40, optimizer="sgd", ema=0.9))

    def test() -> RateTest:
        return range_test(recipe, data, steps=25, low=1e-3, high=100.0)

    compiled = test()
    assert compiled == test()
    assert len(compiled.rates) > 3  # more than an epoch
    assert compiled.rates[0] == 1e-3
    assert compiled.low < compiled.high <= compiled.rates[-1]
    monkeypatch.setattr(reskeras.training.compiled, "compilable", lambda *_: False)
    fitted = test()
    assert fitted.rates == compiled.rates
    np.testing.assert_allclose(fitted.losses[:8], compiled.losses[:8], rtol=1e-3)
    with pytest.raises(RequestError, match="a range test needs 0 < low < high"):
        range_test(recipe, data, low=1.0, high=0.1)
