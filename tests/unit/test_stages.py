"""The stages of a dialect: each alone, and all of them as another way to carry out phiplug's own rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_sampler as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from phiplug.dialects import RULES
from phiplug.errors import InvalidParameter, NonFiniteLogits
from phiplug.sampling import Sampler
from phiplug.sampling.stages import Setting, staged_candidates
from phiplug.types import SamplingParams

NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "repeat_penalty": 1.0, "seed": 4}


def kept(dialect, logits, **params):
    sampler = Sampler(SamplingParams(dialect=dialect, **NEUTRAL | params), [])
    return list(sampler.distribution(np.array(logits, np.float32)))


@given(
    st.integers(0, 2**32),
    st.integers(2, 3000),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([0, 1, 7, 100]),
    st.sampled_from([0.0, 0.31, 0.9, 1.0]),
    st.sampled_from([0.0, 0.05]),
)
@settings(deadline=None, max_examples=80)
def test_phiplugs_own_rule_read_as_stages_keeps_the_same_ids(seed, size, temperature, top_k, top_p, min_p):
    logits = np.random.default_rng(seed).normal(0, 2, size).astype(np.float32)
    params = SamplingParams(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repeat_penalty=1.0, seed=seed
    )
    ids, t = staged_candidates(logits, Setting(params, RULES["phiplug"], 0.5))
    weights = np.exp(t.astype(np.float64))
    fast = Sampler(params, []).distribution(logits)
    assert list(fast) == ids.tolist()
    np.testing.assert_allclose(list(fast.values()), weights / weights.sum(), rtol=1e-6)


def test_temperature_first_narrows_the_nucleus_and_last_does_not():
    assert kept("hf", [3, 2, 1], top_p=0.8, temperature=0.5) == [0]
    assert kept("candle", [3, 2, 1], top_p=0.8, temperature=0.5) == [0]
    assert kept("llama.cpp", [3, 2, 1], top_p=0.8, temperature=0.5) == [0, 1]
    assert kept("mlx-lm", [3, 2, 1], top_p=0.8, temperature=0.5) == [0, 1]


def test_a_top_p_of_0_is_one_token_here_and_off_there():
    assert kept("phiplug", [3, 2, 1], top_p=0.0) == kept("llama.cpp", [3, 2, 1], top_p=0.0) == [0]
    assert kept("candle", [3, 2, 1], top_p=0.0) == kept("mlx-lm", [3, 2, 1], top_p=0.0) == [0, 1, 2]


def test_ties_at_the_kth_place_are_cut_or_kept():
    assert kept("phiplug", [0, 3, 3, 3], top_k=2) == kept("llama.cpp", [0, 3, 3, 3], top_k=2) == [1, 2]
    assert kept("hf", [0, 3, 3, 3], top_k=2) == [1, 2, 3]


def test_ties_at_the_edge_of_the_nucleus_are_cut_or_kept():
    assert kept("phiplug", [0, 0, 0, 0], top_p=0.4) == [0, 1]
    assert kept("mlx-lm", [0, 0, 0, 0], top_p=0.4) == [0, 1, 2, 3]


def test_top_p_after_top_k_is_of_the_candidates_or_of_all():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    assert kept("phiplug", logits, top_k=2, top_p=0.5) == [0]
    assert kept("candle", logits, top_k=2, top_p=0.5) == [0, 1]


def test_mlx_refuses_a_top_k_as_large_as_the_vocabulary():
    with pytest.raises(InvalidParameter, match=r"^top_k: 3 is not below the 3 tokens"):
        kept("mlx-lm", [3, 2, 1], top_k=3)


def test_locally_typical_drops_the_too_likely_with_the_too_unlikely():
    logits = np.log([0.4, 0.2, 0.2, 0.19, 0.01])
    assert kept("hf", logits, typical_p=0.5) == [1, 2, 3]
    assert kept("llama.cpp", logits, typical_p=0.5) == [1, 2, 3]


def test_locally_typical_stops_at_the_mass_or_beyond_it():
    assert kept("llama.cpp", [0, 0, 0, 0], typical_p=0.5) == [0, 1, 2]
    assert kept("hf", [0, 0, 0, 0], typical_p=0.5) == [0, 1, 2, 3]


def test_xtc_leaves_the_least_likely_of_the_likely_when_its_coin_says_so():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    always = {"xtc_probability": 1.0, "xtc_threshold": 0.15}
    assert kept("llama.cpp", logits, **always) == kept("mlx-lm", logits, **always) == [2, 3]
    acted = [len(kept("llama.cpp", logits, **always | {"xtc_probability": 0.3}, seed=s)) == 2 for s in range(400)]
    assert abs(sum(acted) - 120) < 40


def coin(seed, prompt, position):
    return reference.u(reference.key(seed, prompt), position, 2**32 - 1)


def test_the_coin_of_xtc_is_the_noise_of_its_own_id_at_the_position_of_the_token():
    settings_ = {"xtc_probability": 0.3, "xtc_threshold": 0.15}
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    acted = [seed for seed in range(20) if kept("llama.cpp", logits, **settings_, seed=seed) == [2, 3]]
    assert acted == [seed for seed in range(20) if coin(seed, [], 0) <= 0.3]


def test_the_coin_of_xtc_is_tossed_again_for_each_token():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    params = SamplingParams(dialect="llama.cpp", **NEUTRAL, xtc_probability=0.3, xtc_threshold=0.15)
    acted = [s for s in range(20) if len(Sampler(replace(params, seed=s), [0]).distribution(logits)) == 2]
    assert acted == [seed for seed in range(20) if coin(seed, [0], 1) <= 0.3]


def test_xtc_needs_two_likely_tokens():
    assert kept("llama.cpp", np.log([0.8, 0.1, 0.1]), xtc_probability=1.0, xtc_threshold=0.5) == [0, 1, 2]


def test_xtc_drops_equals_or_keeps_them():
    settings_ = {"xtc_probability": 1.0, "xtc_threshold": 0.25}
    logits = np.log([0.4, 0.28, 0.28, 0.04])
    assert kept("llama.cpp", logits, **settings_) == [2, 3]
    assert kept("mlx-lm", logits, **settings_) == [1, 2, 3]


def test_a_greedy_draw_goes_through_the_filters_or_past_them():
    logits = np.log([0.5, 0.4, 0.1])
    always = {"temperature": 0.0, "xtc_probability": 1.0, "xtc_threshold": 0.2}
    assert kept("llama.cpp", logits, **always) == [1]
    assert kept("mlx-lm", logits, **always) == [0]


def test_top_n_sigma_multiplies_the_deviation():
    assert kept("llama.cpp", [0, 5, 10], top_n_sigma=1.0) == [2]  # the deviation is 4.08
    assert kept("llama.cpp", [0, 5, 10], top_n_sigma=1.5) == [1, 2]


def test_top_n_sigma_looks_at_logits_that_are_not_masked():
    assert kept("llama.cpp", [0, 1, 2, 3, -np.inf], top_n_sigma=1.0) == [2, 3]


def test_a_row_that_is_not_finite_is_refused_in_any_dialect():
    for dialect in RULES:
        with pytest.raises(NonFiniteLogits):
            kept(dialect, [np.nan, 1.0])


def penalized(dialect, prompt, sampled, **params):
    sampler = Sampler(SamplingParams(dialect=dialect, **NEUTRAL | params), prompt, sampled)
    x = np.full(6, 2.0, np.float32)
    sampler._adjust(x)
    return x.tolist()


def test_each_dialect_has_its_own_window_and_scope():
    prompt, sampled = [0], [1] + [2] * 64
    twice = {"repeat_penalty": 2.0}
    assert penalized("phiplug", prompt, sampled, **twice)[:3] == [2, 2, 1]
    assert penalized("candle", prompt, sampled, **twice)[:3] == [2, 2, 1]
    assert penalized("llama.cpp", prompt, sampled[:40], **twice)[:3] == [1, 1, 1]
    assert penalized("mlx-lm", prompt, sampled[:20], **twice)[:3] == [2, 1, 1]
    assert penalized("hf", prompt, sampled, **twice)[:3] == [1, 1, 1]


def test_a_window_of_0_is_nothing_or_everything():
    twice = {"repeat_penalty": 2.0, "repeat_last_n": 0}
    assert penalized("llama.cpp", [0], [1], **twice)[:3] == [2, 2, 2]
    assert penalized("mlx-lm", [0], [1] * 30, **twice)[:3] == [1, 1, 2]


def test_frequency_looks_at_all_sampled_tokens_or_at_the_window():
    counted = {"frequency_penalty": 0.5, "repeat_last_n": 2}
    assert penalized("phiplug", [0, 0], [1, 1, 1], **counted)[:2] == [2, 0.5]
    assert penalized("llama.cpp", [0, 0], [1], **counted)[:2] == [1.5, 1.5]


def test_dry_is_part_of_a_sampler():
    dry = {"temperature": 0.0, "dry_multiplier": 5.0}
    sampler = Sampler(SamplingParams(dialect="llama.cpp", **NEUTRAL | dry), [0, 1, 2, 0])
    assert [sampler(np.array(row, np.float32)) for row in ([0, 9, 0, 0], [0, 0, 3, 1])] == [1, 3]


@pytest.mark.parametrize("dialect", RULES)
def test_a_draw_is_one_of_those_that_are_kept(dialect):
    logits = np.random.default_rng(2).normal(0, 2, 200).astype(np.float32)
    for seed in range(20):
        sampler = Sampler(replace(SamplingParams(top_k=20, seed=seed), dialect=dialect), [1, 2, 3])
        assert sampler(logits) in Sampler(sampler._params, [1, 2, 3]).distribution(logits)
