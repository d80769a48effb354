"""Intervals hold what they promise, and are those of scipy where it has them."""

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, wilcoxon

from reskeras.evaluation.intervals import estimate, resampled, share_of


@pytest.mark.parametrize(("count", "p"), [(100, 0.5), (360, 0.9), (360, 0.98), (50, 0.95)])
def test_a_share_is_in_its_interval_95_times_of_100(count: int, p: float) -> None:
    hits = np.arange(count + 1)
    holds = [low <= p <= high for low, high in (share_of(int(k), count) for k in hits)]
    assert 0.93 <= binom.pmf(hits, count, p)[holds].sum() <= 0.98


def test_answers_that_are_all_right_are_not_known_to_be_so_always() -> None:
    low, high = share_of(48, 48)
    assert high == 1
    assert low == pytest.approx(48 / (48 + 1.96**2), abs=1e-3)  # Wilson's, by hand


def test_a_mean_of_skewed_numbers_is_in_its_interval_95_times_of_100() -> None:
    draws = np.random.default_rng(1).exponential(size=(2000, 80))
    samples = draws @ np.concatenate(list(resampled(80))).T / 80
    holds = 0
    for draw, sample in zip(draws, samples, strict=True):
        found = estimate(draw.mean(), sample, draw - draw.mean())
        holds += found.low <= 1 <= found.high
    assert 0.925 <= holds / 2000 <= 0.97


def test_the_interval_is_scipys() -> None:
    numbers = np.random.default_rng(2).exponential(size=60)
    samples = np.concatenate(list(resampled(60, 20_000))) @ numbers / 60
    found = estimate(numbers.mean(), samples, numbers - numbers.mean())
    wanted = bootstrap(
        (numbers,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(3)
    ).confidence_interval
    assert found.low == pytest.approx(wanted.low, rel=0.01)
    assert found.high == pytest.approx(wanted.high, rel=0.01)
    plain = np.quantile(samples, [0.025, 0.975])
    assert abs(plain[1] - wanted.high) > 2 * abs(found.high - wanted.high)  # BCa makes a difference


def test_resamples_are_always_the_same_and_draw_each_image_once_on_average() -> None:
    first, again = (np.concatenate(list(resampled(70, 40))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 70)
    assert np.all(first.sum(axis=1) == 70)


def test_patches_of_an_image_are_drawn_together() -> None:
    """What three equal patches of each image say is what the image says, and no more."""
    numbers = np.random.default_rng(2).exponential(size=30)
    wholes = np.random.default_rng(4).permutation(np.repeat(np.arange(30), 3))
    alone = np.concatenate(list(resampled(30, 500)))
    both = np.concatenate(list(resampled(90, 500, wholes)))
    np.testing.assert_allclose(both @ numbers[wholes] / 90, alone @ numbers / 30, rtol=1e-6)


def test_too_few_images_have_no_interval_and_tell_nothing() -> None:
    """As few as cannot say by Wilcoxon's test that one of two networks is better, on all."""
    fewest = next(n for n in range(1, 20) if wilcoxon(np.arange(1.0, n + 1)).pvalue < 0.05)
    for count in (1, 2, fewest - 1, fewest):
        influence = np.full(count, 0.02)
        found = estimate(0.02, np.full(1000, 0.02), influence)
        assert found.value == 0.02
        assert found.is_zero == (not found.is_sure) == (count < fewest)
        assert np.isnan([found.low, found.high]).all() == (count < fewest)


def test_an_interval_holds_its_score_whatever_the_resamples_say() -> None:
    far = np.linspace(0.2, 0.3, 1000)
    assert estimate(0.1, far, np.zeros(9)) == (0.1, 0.1, pytest.approx(0.2975, abs=1e-4))
    assert estimate(0.5, np.full(1000, 0.5), np.zeros(9)) == (0.5, 0.5, 0.5)
