"""Ratios with intervals: the tables of the rank tests, error rates by simulation, and what a few wild rounds do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.bench import intervals
from phiplug.bench.intervals import EXACT, LEAST_PAIRS, Ratio, of_pairs, of_samples

RATIOS = st.lists(st.floats(0.01, 100), min_size=1, max_size=20)


@pytest.mark.parametrize(("n", "left_out"), [(7, None), (8, 0), (9, 1), (10, 3), (12, 7), (15, 15), (20, 37)])
def test_as_many_averages_are_left_out_as_the_signed_rank_tables_say(n, left_out):
    # Wilcoxon's two-sided critical values at 0.01: Hollander, Wolfe, Chicken, table A.4
    assert intervals._left_out_of_pairs(n) == left_out


@pytest.mark.parametrize(
    ("m", "n", "left_out"), [(4, 4, None), (5, 5, 0), (6, 6, 2), (8, 8, 7), (10, 10, 16), (5, 10, 4), (10, 5, 4)]
)
def test_as_many_differences_are_left_out_as_the_rank_sum_tables_say(m, n, left_out):
    # Mann and Whitney's two-sided critical values at 0.01
    assert intervals._left_out_of_samples(m, n) == left_out


def test_the_normal_approximation_carries_on_where_counting_ends():
    pairs = [intervals._left_out_of_pairs(n) for n in (EXACT, EXACT + 1, EXACT + 2)]
    samples = [intervals._left_out_of_samples(n, n) for n in (EXACT, EXACT + 1, EXACT + 2)]
    for counted, first, second in (pairs, samples):
        assert 0 < first - counted < 1.8 * (second - first)


def test_constant_rounds_are_certain():
    for found in (of_pairs([3.0] * 8), of_samples([30.0] * 5, [10.0] * 5)):
        assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0, 3.0))
        assert found.is_difference
        assert found.precision == pytest.approx(0, abs=1e-9)


def test_too_few_rounds_have_no_interval_and_show_no_difference():
    found = of_pairs([2.0] * (LEAST_PAIRS - 1))
    assert (found.value, found.low, found.high) == (pytest.approx(2.0), 0.0, math.inf)
    assert not found.is_difference
    assert math.isinf(found.precision)
    assert math.isinf(of_samples([1.0], [2.0, 3.0]).high)


def test_wild_rounds_do_not_move_the_estimate_far():
    steady = [1.05, 1.049, 1.051, 1.05, 1.052, 1.048, 1.05, 1.051, 1.049, 1.05, 1.05, 1.05]
    found = of_pairs([*steady, 9.0])
    assert found.value == pytest.approx(1.05, abs=0.002)
    assert found.low > 1.04


@given(RATIOS)
def test_the_inverse_of_the_ratios_has_the_inverse_interval(ratios):
    found, inverse = of_pairs(ratios), of_pairs([1 / ratio for ratio in ratios])
    assert inverse.value == pytest.approx(1 / found.value)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    if math.isfinite(found.high):
        assert (inverse.low, inverse.high) == pytest.approx((1 / found.high, 1 / found.low))


@given(RATIOS, RATIOS, st.floats(0.1, 10))
def test_a_factor_on_one_side_is_a_factor_of_the_ratio(a, b, factor):
    found, scaled = of_samples(a, b), of_samples([factor * each for each in a], b)
    assert scaled.value == pytest.approx(factor * found.value)


@pytest.mark.parametrize("n", [8, 10, 15])
def test_equal_sides_are_called_different_once_in_a_hundred_times(n):
    source = np.random.default_rng(n)
    noise = np.exp(source.standard_t(2, size=(2000, n)) * 0.05)  # heavy tails, as a shared machine has
    called = np.mean([of_pairs(ratios).is_difference for ratios in noise.tolist()])
    assert called <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 2000)


def test_a_difference_is_found_where_it_is_larger_than_the_noise():
    source = np.random.default_rng(0)
    ratios = 1.05 * np.exp(source.normal(size=(300, 10)) * 0.02)
    assert np.mean([of_pairs(each).is_difference for each in ratios.tolist()]) > 0.95


def test_precision_is_half_the_width():
    assert Ratio(2.0, 1.5, 2.5).precision == 0.25
