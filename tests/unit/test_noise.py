"""The noise is the published hash, bit for bit, and the draw is what the exact comparison says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import reference_sampler as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from phiplug.sampling.noise import COIN, gumbel_max, noise, request_key

PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "draw_vectors.json").read_text())
GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "draw_key.json"
SEEDS = st.integers(0, 2**64 - 1)


def test_the_published_noise_is_bit_exact():
    for key, position, token, u in PUBLISHED["u"]:
        assert noise(int(key), position, np.array([token])).tolist() == [float.fromhex(u)]


@given(SEEDS, st.integers(0, 2**40), st.integers(0, COIN))
def test_noise_is_the_reference_and_never_0_or_1(seed, position, token):
    u = float(noise(seed, position, np.array([token]))[0])
    assert u == reference.u(seed, position, token)
    assert 0 < u < 1


def test_the_published_keys_are_exact():
    for seed, prompt, key in PUBLISHED["keys"]:
        assert request_key(int(seed), prompt) == int(key)


@given(SEEDS, st.lists(st.integers(0, 2**31 - 1), max_size=50))
def test_a_key_is_the_reference(seed, prompt):
    assert request_key(seed, prompt) == reference.key(seed, prompt)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden vectors are not part of a clone")
def test_the_golden_keys_and_their_noise_are_exact():
    for row in json.loads(GOLDEN.read_text())["vectors"]:
        key = request_key(int(row["seed"]), row["prompt"])
        assert key == int(row["key"])
        assert noise(key, row["position"], np.array([row["id"]])).tolist() == [float.fromhex(row["u"])]


PROMPTS = 10_000
KINDS = {
    "random": lambda source, n: source.integers(0, 50_000, (n, 12)).tolist(),
    "one id differs": lambda _, n: [[*range(11), token] for token in range(n)],
    "the first id differs": lambda _, n: [[token, *range(11)] for token in range(n)],
    "permutations": lambda source, n: [source.permutation(12).tolist() for _ in range(n)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [2, 10])
def test_one_seed_over_many_prompts_draws_equal_tokens_equally_often(kind, tokens):
    prompts = KINDS[kind](np.random.default_rng(3), PROMPTS)
    limit = {2: 15.14, 10: 33.72}[tokens]  # chi-square of tokens - 1 degrees of freedom at p = 1e-4
    for seed in range(10):
        u = np.array([noise(request_key(seed, prompt), 12, np.arange(tokens)) for prompt in prompts])
        counts = np.bincount((-np.log(u)).argmin(axis=1), minlength=tokens)
        assert float(((counts - PROMPTS / tokens) ** 2 / (PROMPTS / tokens)).sum()) < limit


def test_neither_seeds_nor_positions_nor_ids_share_noise():
    ids = np.arange(100)
    drawn = np.concatenate([noise(seed, position, ids) for seed in range(10) for position in range(10)])
    assert len(np.unique(drawn)) == 10_000


@given(
    SEEDS,
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 511, 513, 3000, 20_000]),
    st.sampled_from([0.0, 0.5, 4.0, 40.0]),
)
@settings(deadline=None, max_examples=60)
def test_the_race_is_won_by_the_smallest_z(seed, position, size, spread):
    t = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    t -= t.max()
    ids = np.arange(size) * 3 + 1
    z = -np.log(noise(seed, position, ids)) / np.exp(t.astype(np.float64))
    assert gumbel_max(seed, position, ids, t) == z.argmin()
    assert gumbel_max(seed, position, ids, t, np.exp(t)) == z.argmin()


@pytest.mark.parametrize("size", [3, 4000])
def test_an_id_without_weight_never_wins(size):
    t = np.full(size, -np.inf, np.float32)
    t[2] = 0.0
    with np.errstate(divide="ignore"):
        assert {gumbel_max(seed, 0, np.arange(size), t) for seed in range(50)} == {2}


def test_a_weight_that_float32_cannot_hold_still_runs():
    t = np.array([0.0] + [-700.0] * 999, np.float32)  # exp(-700) is 1e-304
    assert {gumbel_max(seed, 5, np.arange(1000), t) for seed in range(50)} == {0}


def test_a_draw_from_two_ids_is_as_often_each_as_its_weight_says():
    t = np.array([0.0, -math.log(3)], np.float32)
    wins = sum(gumbel_max(11, position, np.arange(2), t) == 0 for position in range(4000))
    assert abs(wins - 3000) < 110  # four standard deviations
