"""A draw that checks only its winner draws what a draw among the candidates would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiplug.sampling import draw as drawing
from phiplug.sampling.draw import draw
from phiplug.sampling.filters import candidates
from phiplug.sampling.noise import gumbel_max
from phiplug.sampling.row import Row
from phiplug.types import SamplingParams

SHAPES = {
    "normal": lambda source, width: source.normal(0, 2.5, width),
    "flat": lambda source, width: source.normal(0, 0.1, width),
    "coarse": lambda source, width: np.round(source.normal(0, 1.5, width)),
    "peaked": lambda source, width: source.normal(0, 2.5, width) + 20 * (source.random(width) < 4 / width),
    "two heaps": lambda source, width: source.normal(0, 1, width) + 8 * (source.random(width) < 0.2),
}


def scaled(shape, width, seed):
    row = Row(width)
    row.fill(SHAPES[shape](np.random.default_rng(seed), width).astype(np.float32))
    row.apply_temperature(np.float32(0.8))
    return row


@given(
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([3, 100, 5_000, 40_000]),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.3, 0.95]) | st.floats(0, 0.999),
    st.sampled_from([0.0, 0.0, 0.01, 0.3]),
)
@settings(deadline=None, max_examples=60)
def test_the_winner_is_that_of_the_candidates(shape, width, seed, p, m):
    params = SamplingParams(top_p=p, min_p=m)
    ids, t = candidates(scaled(shape, width, seed), params)
    for position in range(4):
        expected = ids[gumbel_max(seed, position, ids, t)]
        assert draw(scaled(shape, width, seed), params, seed, position) == expected


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.2, 0.95])
def test_the_ids_drawn_from_hold_the_nucleus(shape, p):
    row = scaled(shape, 30_000, 1)
    bounds = list(drawing._bounds(row, p))
    inside, _ = candidates(row, SamplingParams(top_p=p))
    needed = p * np.exp(row.t().astype(np.float64)).sum()
    assert len(bounds) == (2 if shape == "peaked" else 1)
    for each in bounds:
        assert set(inside.tolist()) <= set(each.ids.tolist())
        assert each.least * (1 - 1e-6) <= needed <= each.most * (1 + 1e-6)


def test_a_winner_that_the_bounds_leave_in_doubt_is_not_named():
    ids, t = np.arange(3), np.zeros(3, np.float32)
    bounds = drawing.NucleusBounds(ids, t, np.ones(3), least=1.0, most=1.5)
    named = {drawing._winner(bounds, seed, 0) for seed in range(50)}
    assert named == {0, None}  # 1 has a mass of 1 ahead of it, which may be enough; 2 is outside, whatever it is


def test_equals_that_a_small_nucleus_leaves_out_never_win():
    row = Row(100)
    params = SamplingParams(top_p=0.1)
    drawn = set()
    for seed in range(200):
        row.fill(np.zeros(100, np.float32))
        row.apply_temperature(np.float32(1))
        drawn.add(draw(row, params, seed, 0))
    assert drawn == set(range(10))
