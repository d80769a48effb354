"""Intervals hold what they promise, and are those of scipy where it has them."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, bootstrap, multinomial, norm, t, wilcoxon

from reskeras.evaluation.intervals import (
    FEWEST,
    Estimate,
    estimate,
    resampled,
    share_less,
    share_of,
)


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


@pytest.mark.parametrize("count", [8, 10, 15, 30])
def test_a_mean_of_few_normal_numbers_is_in_its_interval_95_times_of_100(count: int) -> None:
    draws = np.random.default_rng(count).normal(size=(2000, count))
    samples = draws @ np.concatenate(list(resampled(count))).T / count
    found = [estimate(d.mean(), s, d - d.mean()) for d, s in zip(draws, samples, strict=True)]
    assert 0.925 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.97


def paired(count: int, gained: int, lost: int) -> Estimate:
    """`share_less` of networks that are right alone on so many images, of `count`."""
    places = np.arange(count)
    return share_less(places >= lost, (places < lost) | (places >= lost + gained))


def chances(count: int, gain: float, loss: float) -> list[tuple[float, Estimate]]:
    """How probable every pair of counts is, if an image is gained and lost with these shares."""
    law = multinomial(count, [gain, loss, 1 - gain - loss])
    return [
        (law.pmf([gained, lost, count - gained - lost]), paired(count, gained, lost))
        for gained in range(count + 1)
        for lost in range(count + 1 - gained)
    ]


@pytest.mark.parametrize("count", [6, 8, 10, 15, 30])
def test_equal_networks_are_told_apart_in_5_of_100_cases_at_most(count: int) -> None:
    """Both are right on 80 % of the images, each on its own: one alone on 0.8 * 0.2 of them."""
    apart = sum(p for p, found in chances(count, 0.16, 0.16) if not found.is_zero)
    assert apart <= 0.05
    if count == 30:
        assert apart > 0.01  # the test can say so


@pytest.mark.parametrize(("gain", "loss"), [(0.16, 0.16), (0.27, 0.07), (0.05, 0.01), (0.5, 0.1)])
@pytest.mark.parametrize("count", [8, 10, 15, 30])
def test_a_difference_of_shares_is_in_its_interval_95_times_of_100(
    count: int, gain: float, loss: float
) -> None:
    holds = sum(p for p, own in chances(count, gain, loss) if own.low <= gain - loss <= own.high)
    assert holds >= 0.94


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (6, 0), (9, 2), (10, 1), (0, 30)])
def test_networks_are_told_apart_only_where_mcnemars_exact_test_does(
    gained: int, lost: int
) -> None:
    found = paired(30, gained, lost)
    assert found.value == pytest.approx((gained - lost) / 30)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    # By hand: all of five, or ten of 11, are 2 / 2^5 and 24 / 2^11 of the cases by chance.
    assert found.is_zero == ((gained, lost) in {(0, 0), (5, 0), (9, 2)})
    if gained + lost:
        surely = binomtest(gained, gained + lost).pvalue < 0.05
        assert found.is_zero or surely


def test_images_that_all_agree_do_not_make_a_score_sure() -> None:
    influence, ones = np.zeros(8), np.ones(1000)
    least = 8 / (8 + 1.96**2)  # Wilson's, by hand
    found = estimate(1.0, ones, influence, (0.0, 1.0))
    assert found == (1, pytest.approx(least, abs=1e-3), 1)
    found = estimate(0.0, 0 * ones, influence, (0.0, 1.0))
    assert found == (0, 0, pytest.approx(1 - least, abs=1e-3))
    found = estimate(1.0, ones, influence, (-1.0, 1.0))
    assert found == (1, pytest.approx(2 * least - 1, abs=1e-3), 1)
    found = estimate(7.5, 7.5 * ones, influence)
    assert (found.is_sure, found.is_zero) == (False, True)


def test_the_interval_is_scipys() -> None:
    numbers = np.random.default_rng(2).exponential(size=60)
    samples = np.concatenate(list(resampled(60, 20_000))) @ numbers / 60
    found = estimate(numbers.mean(), samples, numbers - numbers.mean())
    # As much wider as Student's t is than the normal numbers, and N numbers than N - 1.
    level = 1 - 2 * norm.sf(t.ppf(0.975, 59) * np.sqrt(60 / 59))
    wanted = bootstrap(
        (numbers,),
        np.mean,
        confidence_level=level,
        method="BCa",
        n_resamples=20_000,
        rng=np.random.default_rng(3),
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
    """At least as few as cannot say by Wilcoxon's test that one of two networks is better."""
    fewest = next(n for n in range(1, 20) if wilcoxon(np.arange(1.0, n + 1)).pvalue < 0.05)
    assert fewest <= FEWEST
    for count in (1, 2, fewest - 1, FEWEST - 1, FEWEST):
        influence = np.full(count, 0.02)
        found = estimate(0.02, np.linspace(0.01, 0.03, 1000), influence)
        assert found.value == 0.02
        assert found.is_zero == (not found.is_sure) == (count < FEWEST)
        assert np.isnan([found.low, found.high]).all() == (count < FEWEST)


def test_an_interval_holds_its_score_whatever_the_resamples_say() -> None:
    far = np.linspace(0.2, 0.3, 1000)
    end = norm.cdf(t.ppf(0.975, 8) * np.sqrt(9 / 8))
    assert estimate(0.1, far, np.zeros(9)) == (0.1, 0.1, pytest.approx(0.2 + 0.1 * end, abs=1e-4))
