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

from phiplug.sampling import noise as noises
from phiplug.sampling.noise import COIN, NoiseBuffers, gumbel_max, noise, request_key

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


ROWS = {
    "normal": lambda source, size: source.normal(0, 2.5, size),
    "flat": lambda source, size: source.normal(0, 0.1, size),
    "equal": lambda _, size: np.zeros(size),
    "coarse": lambda source, size: np.round(source.normal(0, 2, size)),
    "steep": lambda source, size: source.normal(0, 40, size),
    "one alone": lambda source, size: np.where(np.arange(size) == source.integers(size), 0, -800),
    "the first of a hundred": lambda _, size: np.where(np.arange(size) % 100 == 0, 0, -30),  # a sample sees too many
}
BUFFERS = NoiseBuffers(40_000)


@given(
    SEEDS,
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 511, 513, 3000, 20_000, 40_000]),
    st.sampled_from(sorted(ROWS)),
    st.sampled_from([1, 3]),
)
@settings(deadline=None, max_examples=80)
def test_the_smallest_z_wins(seed, position, size, kind, step):
    x = ROWS[kind](np.random.default_rng(seed), size).astype(np.float32)
    t, ids = x - x.max(), np.arange(size) * step + step // 2
    with np.errstate(divide="ignore"):  # exp(-800) is 0
        z = -np.log(noise(seed, position, ids)) / np.exp(t.astype(np.float64))
        assert gumbel_max(seed, position, ids, t) == z.argmin()
        assert gumbel_max(seed, position, ids, t, buffers=BUFFERS) == z.argmin()
        assert gumbel_max(seed, position, ids, t, np.exp(t), BUFFERS) == z.argmin()


@pytest.mark.parametrize("guess", [1e-6, 1e6])
def test_a_wrong_estimate_of_the_mass_changes_no_draw(guess, monkeypatch):
    t, ids = np.full(3000, -1.0, np.float32), np.arange(3000)
    t[7] = 0.0
    fair = [gumbel_max(seed, 0, ids, t) for seed in range(50)]
    monkeypatch.setattr(noises, "_mass", lambda *_: 1000 * guess)
    assert [gumbel_max(seed, 0, ids, t) for seed in range(50)] == fair


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
