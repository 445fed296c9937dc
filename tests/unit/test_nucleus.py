"""Sets that are found without a sort are those that a sort would find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiplug.sampling.nucleus import largest, shortest_prefix

SIZES = st.integers(1, 60) | st.sampled_from([2047, 2049, 6000, 40_000])
SPREADS = st.sampled_from([0.0, 1e-44, 1e-6, 0.1, 3.0, 30.0])


def scaled(seed, size, spread, ties):
    t = np.random.default_rng(seed).normal(0, spread, size)
    if ties:
        t = np.round(t, 1)
    t = t.astype(np.float32)
    t -= t.max()
    if ties:
        t[::2] *= np.float32(-1)  # zeros of both signs
        t = -np.abs(t)
    return t


def order(t):
    return np.lexsort((np.arange(len(t)), -t))


@given(st.integers(0, 2**32), SIZES, SPREADS, st.booleans(), st.floats(0, 1.001))
@settings(deadline=None, max_examples=150)
def test_the_prefix_is_the_one_that_a_sort_finds(seed, size, spread, ties, share):
    t = scaled(seed, size, spread, ties)
    weights = np.exp2(np.maximum(np.floor(4 * t.astype(np.float64)), -30))  # their sums are exact in any order
    target = share * weights.sum()
    ranked = order(t)
    count = min(int(np.searchsorted(np.cumsum(weights[ranked]), target)) + 1, size)
    assert np.flatnonzero(shortest_prefix(t, weights, target)).tolist() == sorted(ranked[:count].tolist())


def test_equals_are_kept_by_lowest_id():
    t = np.zeros(10_000, np.float32)
    inside = shortest_prefix(t, np.ones(10_000), 1234.0)
    assert np.flatnonzero(inside).tolist() == list(range(1234))


@pytest.mark.parametrize("size", [10, 5000])
def test_zeros_of_both_signs_are_equals(size):
    t = np.zeros(size, np.float32)
    t[: size // 2] = -0.0
    t[-1] = 0.0
    assert np.flatnonzero(shortest_prefix(t, np.ones(size), 3.0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [3, 5000])
def test_a_prefix_is_never_empty_and_never_more_than_there_is(size):
    t = -np.arange(size, dtype=np.float32)
    weights = np.exp(t.astype(np.float64))
    assert shortest_prefix(t, weights, 0.0).sum() == 1
    assert shortest_prefix(t, np.ones(size), 2.0 * size).sum() == size


@given(st.integers(0, 2**32), SIZES, SPREADS, st.booleans(), st.integers(1, 100))
@settings(deadline=None, max_examples=100)
def test_the_largest_are_those_that_a_sort_finds(seed, size, spread, ties, k):
    t = scaled(seed, size, spread, ties)
    assert largest(t, k).tolist() == sorted(order(t)[:k].tolist())
