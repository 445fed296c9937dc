"""How often draws with one seed differ: the exact expectation against simulation, bounds, and Token-DiFR's margin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiplug.bench.coupling import Coupling, DrawTally, distance, margin
from phiplug.sampling import Sampler
from phiplug.sampling.noise import noise, request_key
from phiplug.types import SamplingParams

SHARES = st.lists(st.floats(0, 1), min_size=6, max_size=6).filter(lambda each: sum(each) > 0.1)


def shares(values):
    return np.array(values) / sum(values)


def rows(seed, *, count=1, width=300, scale=2.0):
    return (np.random.default_rng(seed).normal(size=(count, width)) * scale).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_the_expectation_is_what_drawing_gives(seed):
    source = np.random.default_rng(seed)
    weights = np.exp(source.normal(size=50) * 2)
    p, q = shares(weights), shares(weights * np.exp(source.normal(size=50)))
    q[:5], p[-5:] = 0, 0
    p, q = shares(p), shares(q)
    clocks = source.exponential(size=(40_000, 50))
    with np.errstate(divide="ignore"):
        same = ((clocks / p).argmin(axis=1) == (clocks / q).argmin(axis=1)).mean()
    assert distance(p, q).disagreement == pytest.approx(1 - same, abs=4 * math.sqrt(0.25 / 40_000))


def test_the_expectation_by_hand():
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert distance(p, q) == (0.5, 0.5)
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    # 1 / (1 + max(1/3, 1)) + 1 / (1 + max(3, 1)) = 1/2 + 1/4
    assert distance(p, q) == pytest.approx((0.25, 0.25))
    assert distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == (1.0, 1.0)


@settings(deadline=None)
@given(SHARES, SHARES)
def test_no_distance_is_outside_its_bounds(mine, theirs):
    p, q = shares(mine), shares(theirs)
    found = distance(p, q)
    assert found.total_variation == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-8)
    assert found.total_variation - 1e-9 <= found.disagreement
    assert found.disagreement <= 2 * found.total_variation / (1 + found.total_variation) + 1e-9
    assert distance(q, p) == pytest.approx(found, abs=1e-9)
    assert distance(p, p) == (0, 0)


def test_a_margin_is_how_far_a_token_lost_its_draw():
    row = np.array([1.0, 3.0, 2.0], np.float32)
    assert margin(row, 0.0, np.ones(2), own=1, other=2) == 1.0
    z = np.array([0.5, 2.0])
    assert margin(row, 0.5, z, own=1, other=2) == pytest.approx(2.0 - math.log(0.5) + math.log(2.0))
    assert margin(row, 1.0, np.array([9.0, 0.1]), own=2, other=1) == 0.0  # what a filter took out had won


def test_margins_and_picks_are_those_of_the_sampler():
    params = SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0, seed=0)
    a = rows(1, count=40)
    b = a + rows(2, count=40, scale=0.3)
    tally = DrawTally(params)
    tally.add(a, b, [4, 5, 6])
    found = tally.coupling()
    key, differing, margins = request_key(0, [4]), 0, []
    for position, (mine, theirs) in enumerate(zip(a, b, strict=True), 3):
        own, other = (Sampler(params, [4], range(position - 1))(row) for row in (mine, theirs))
        scores = mine.astype(float) - np.log(-np.log(noise(key, position, np.arange(300))))
        assert scores.argmax() == own
        differing += own != other
        margins.append(scores[own] - scores[other])
    assert found.differing == differing / 40 > 0
    assert found.margin_mean == pytest.approx(np.mean(margins))
    assert found.margin_p99 == pytest.approx(np.percentile(margins, 99))
    assert found.disagreement == pytest.approx(found.differing, abs=0.2)


def test_filters_and_greedy_draws_are_compared_as_they_are_drawn():
    a, b = np.array([[2, 1, 0]], np.float32), np.array([[1, 2, 0]], np.float32)

    def found(**params):
        tally = DrawTally(SamplingParams(repeat_penalty=1.0, **params))
        tally.add(a, b, [0])
        return tally.coupling()

    greedy = found(temperature=0.0)
    assert (greedy.total_variation, greedy.disagreement, greedy.differing, greedy.margin_mean) == (1, 1, 1, 1)
    assert found(temperature=1.0, top_p=0.1).disagreement == 1
    assert found(temperature=1.0, top_p=1.0).disagreement < 0.7


def test_positions_are_added_up():
    tally = DrawTally(SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0))
    same, other = np.array([[0, 9]], np.float32), np.array([[9, 0]], np.float32)
    tally.add(np.vstack([same, same]), np.vstack([same, other]), [0])
    found = tally.coupling()
    assert found.positions == 2
    assert found.disagreement == pytest.approx(0.5, abs=1e-3)
    assert found.standard_error == pytest.approx(0.5, abs=1e-3)  # of 0 and 1
    assert found.bound == pytest.approx(0.5, abs=1e-3)
    assert found.first_difference == pytest.approx(2, abs=0.01)
    assert found.over_variation == pytest.approx(1, abs=0.01)


def test_without_a_difference_there_is_no_ratio():
    none = Coupling(1.0, 1.0, 5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert (none.over_variation, none.first_difference) == (None, None)
