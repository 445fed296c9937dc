"""What a row says of itself without looking at every logit is true."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from phiplug.sampling.row import Row

WIDTHS = st.integers(1, 100) | st.sampled_from([4095, 4096, 4097])


def scaled(seed, width, temperature=0.5):
    logits = np.random.default_rng(seed).normal(0, 4, width).astype(np.float32)
    row = Row(width)
    row.fill(logits)
    row.apply_temperature(np.float32(temperature))
    return row, (logits - logits.max()) / np.float32(temperature)


@given(st.integers(0, 2**32), WIDTHS, st.floats(-60, 1))
@settings(deadline=None)
def test_the_ids_above_a_limit_are_found_whichever_way(seed, width, limit):
    row, t = scaled(seed, width)
    sparsely = row.above(limit)
    row.t()
    densely = row.above(limit)
    expected = np.flatnonzero(t >= limit)
    for ids, found in (sparsely, densely):
        assert ids.tolist() == expected.tolist()
        assert found.tolist() == t[expected].tolist()


@given(st.integers(0, 2**32), WIDTHS, st.floats(-60, 0))
@settings(deadline=None)
def test_the_bound_of_the_mass_holds(seed, width, limit):
    row, t = scaled(seed, width)
    weights = np.exp(t.astype(np.float64))
    assert weights[t < limit].sum() <= row.mass_below(limit)


@given(st.integers(0, 2**32), WIDTHS, st.integers(1, 50))
@settings(deadline=None)
def test_at_least_k_ids_reach_the_bound_of_the_k_largest(seed, width, k):
    row, t = scaled(seed, width)
    assert np.count_nonzero(t >= row.largest_bound(k)) >= min(k, width)


def test_a_row_can_be_filled_again():
    row, _ = scaled(1, 50)
    row.t()
    row.fill(np.arange(50, dtype=np.float32))
    assert row.apply_temperature(np.float32(1)) == 49
    assert row.t().tolist() == list(range(-49, 1))
    assert row.weights()[-1] == 1.0
