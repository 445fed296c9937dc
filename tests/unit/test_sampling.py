"""The fast sampler does what the written rule says, on every row and every setting."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference_sampler as reference
from draw_vectors import logits_of, params_of
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from phiplug.errors import InvalidParameter, NonFiniteLogits
from phiplug.sampling import Row, Sampler, sample_rows
from phiplug.types import SamplingParams

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "draw_vectors.json").read_text())
PLAIN = SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0, seed=1)
GREEDY = replace(PLAIN, temperature=0.0)

SETTINGS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-5, 0.1, 0.8, 1.0, 3.0, 1e5, 1e40]) | st.floats(0, 4),
    top_p=st.sampled_from([0.0, 0.5, 0.95, 1.0, 1 - 1e-9]) | st.floats(0, 1),
    top_k=st.sampled_from([0, 1, 2, 40, 3000]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 1.0]),
    repeat_penalty=st.sampled_from([1.0, 1.1, 0.5, 2.0]),
    repeat_last_n=st.sampled_from([None, -1, 0, 3]),
    penalize_prompt=st.booleans(),
    frequency_penalty=st.sampled_from([0.0, 0.5, -1.0]),
    presence_penalty=st.sampled_from([0.0, 0.25]),
    seed=st.integers(0, 2**64 - 1),
)
SHAPES = st.sampled_from(["normal", "flat", "equal", "coarse", "peaked", "masked", "tiny", "huge"])


def rows(shape, size, seed):
    """Return a row of logits of some shape: what models give, and what breaks samplers."""
    source = np.random.default_rng(seed)
    x = source.normal(0, 2.5, size)
    if shape == "flat":
        x *= 0.01
    elif shape == "equal":
        x[:] = -3.5
    elif shape == "coarse":  # full of ties
        x = np.round(x)
    elif shape == "peaked":
        x[source.integers(0, size, 3)] += 20
    elif shape == "masked":
        x[source.random(size) < 0.7] = -np.inf
        x[source.integers(size)] = 1
    elif shape == "tiny":  # denormal numbers, and zeros of both signs
        x *= source.choice([1e-43, -0.0, 0.0], size)
    elif shape == "huge":
        x *= 1e37
    return x.astype(np.float32)


def agrees(params, row, prompt, sampled):
    """Hold the sampler to the reference; return False where the rule leaves the choice open."""
    expected = reference.draw(params, row.tolist(), prompt, sampled)
    if expected.margin < 1e-6:
        return False
    sampler = Sampler(params, prompt, sampled)
    distribution = sampler.distribution(row)
    assert list(distribution) == sorted(expected.probabilities)
    probabilities = [expected.probabilities[token] for token in distribution]
    np.testing.assert_allclose(list(distribution.values()), probabilities, rtol=1e-6)
    assert sampler(row) == expected.token
    return True


@given(SETTINGS, SHAPES, st.integers(2, 400), st.integers(0, 2**32), st.data())
@settings(deadline=None, max_examples=200)
@example(SamplingParams(seed=0, repeat_penalty=1.0), "tiny", 300, 0, None)
def test_a_small_row_is_sampled_as_the_reference_does(params, shape, size, seed, data):
    tokens = st.lists(st.integers(0, size - 1), max_size=12)
    history = (data.draw(tokens), data.draw(tokens)) if data else ([], [])
    assume(agrees(params, rows(shape, size, seed), *history))


@given(SETTINGS, SHAPES, st.sampled_from([4095, 4097, 32064]), st.integers(0, 2**32))
@settings(deadline=None, max_examples=12)
def test_a_row_of_a_models_width_is_sampled_as_the_reference_does(params, shape, size, seed):
    assume(agrees(params, rows(shape, size, seed), [1, 2, 3], [size - 1, 5, 5]))


@pytest.mark.parametrize(
    ("shape", "size"), [("normal", 128_256), ("flat", 128_256), ("equal", 300_000), ("peaked", 300_000)]
)
def test_a_wide_row_is_sampled_as_the_reference_does(shape, size):
    assert agrees(SamplingParams(seed=size), rows(shape, size, 1), [1], [2, 2])


@pytest.mark.parametrize("row", VECTORS["rows"])
def test_the_published_rows_draw_the_published_ids(row):
    sampler = Sampler(params_of(row), row["prompt"], row["sampled"])
    logits = np.array(logits_of(row), np.float32)
    assert len(sampler.distribution(logits)) == row["survivors"]
    assert sampler(logits) == row["token"]


def test_a_million_draws_have_the_distribution_of_the_softmax():
    logits = np.array([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -4.0], np.float32)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
    sampler = Sampler(PLAIN, [])
    drawn = Counter(sampler(logits) for _ in range(20_000))  # through the front door
    positions = np.arange(980_000, dtype=np.uint64)
    drawn.update(_drawn_at(positions, logits))
    counts = np.array([drawn[token] for token in range(len(logits))])
    expected = probabilities * 1_000_000
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 24.3  # 7 degrees of freedom: chance exceeds it once in a thousand


def _drawn_at(positions, logits):
    """Draw at many positions at once, as `gumbel_max` does at one: the noise is written out here for uint64 arrays."""
    key, g = reference.key(7, [0] * 1000), np.uint64(reference.G)
    ids = np.arange(len(logits), dtype=np.uint64)[:, None]
    keys = _mix(np.uint64(key) + positions * g)
    z = [-np.log(_uniform(_mix(i * g + keys))) / np.exp(np.float64(x)) for i, x in zip(ids, logits, strict=True)]
    winners = np.argmin(z, axis=0)
    assert winners[1000] == reference.draw(replace(PLAIN, seed=7), logits.tolist(), [0] * 1000).token
    return Counter(winners.tolist())


def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _uniform(h):
    return ((h >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


@pytest.mark.parametrize("bad", [(1, np.nan), (np.inf, 1), (-np.inf, -np.inf)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bias", [{}, {0: -1.0}])
def test_a_row_that_is_not_finite_is_refused(bad, temperature, bias):
    with pytest.raises(NonFiniteLogits, match="no token can be drawn"):
        Sampler(replace(PLAIN, temperature=temperature, logit_bias=bias), [])(np.array(bad, np.float32))


def test_a_row_that_a_bias_makes_useless_is_refused():
    with pytest.raises(NonFiniteLogits):
        Sampler(replace(PLAIN, logit_bias={0: -1e300, 1: -1e300}), [])(np.ones(2, np.float32))


def test_a_penalty_too_small_for_float32_is_found_out():
    with pytest.raises(NonFiniteLogits):
        Sampler(replace(PLAIN, repeat_penalty=1e-60), [], [0])(np.ones(2, np.float32))


def test_a_logit_of_0_stays_0_whatever_the_penalty():
    params = replace(PLAIN, repeat_penalty=1e-60)
    assert Sampler(params, [], [0]).distribution(np.zeros(2, np.float32)) == {0: 0.5, 1: 0.5}


@pytest.mark.parametrize("dialect", ["llama.cpp", "mlx-lm", "hf"])
def test_a_temperature_that_float32_makes_0_draws_the_largest(dialect):
    params = replace(PLAIN, temperature=1e-50, dialect=dialect, penalize_prompt=None)
    assert Sampler(params, []).distribution(np.array([1, 3, 2], np.float32)) == {1: 1.0}


def test_minus_infinity_as_a_bias_forbids_a_token():
    assert Sampler(replace(PLAIN, logit_bias={1: -1e300}), []).distribution(np.zeros(2, np.float32)) == {0: 1.0}


@pytest.mark.parametrize(
    ("params", "prompt", "name"),
    [(replace(PLAIN, logit_bias={2: 1.0}), [], "logit_bias"),
     (replace(PLAIN, repeat_penalty=2.0, penalize_prompt=True), [9], "prompt"),
     (replace(PLAIN, presence_penalty=1.0, dialect="llama.cpp"), [9], "prompt"),
     (replace(PLAIN, dry_multiplier=1.0, dialect="llama.cpp"), [1, 9, 1], "prompt")],
)  # fmt: skip
def test_an_id_beyond_the_vocabulary_is_refused(params, prompt, name):
    with pytest.raises(InvalidParameter, match=f"^{name}: token . is not in a vocabulary of 2"):
        Sampler(params, prompt)(np.ones(2, np.float32))


def test_a_sampler_wants_a_seed():
    with pytest.raises(InvalidParameter, match="seed"):
        Sampler(SamplingParams(), [])


@pytest.mark.parametrize("params", [GREEDY, PLAIN, replace(PLAIN, logit_bias={1: 5.0}, top_p=0.5)])
def test_the_row_is_not_changed(params):
    logits = np.array([1, 2, 3], np.float32)
    logits.flags.writeable = False
    Sampler(params, [2, 2], [1])(logits)
    assert logits.tolist() == [1, 2, 3]


def test_what_was_drawn_counts_as_history():
    sampler = Sampler(replace(GREEDY, presence_penalty=1.5), [])
    assert [sampler(np.array([3, 2, 1], np.float32)) for _ in range(3)] == [0, 1, 0]


def test_a_sequence_that_was_cut_off_goes_on_with_the_same_picks():
    logits = np.random.default_rng(3).normal(0, 1, (12, 50)).astype(np.float32)
    params = replace(PLAIN, repeat_penalty=1.3, frequency_penalty=0.2)
    whole = Sampler(params, [1, 2])
    picks = [whole(row) for row in logits]
    resumed = Sampler(params, [1, 2], picks[:5])
    assert [resumed(row) for row in logits[5:]] == picks[5:]


@given(st.lists(st.tuples(SETTINGS, SHAPES), min_size=1, max_size=5), st.integers(2, 300))
@settings(deadline=None, max_examples=40)
def test_rows_at_once_give_the_ids_of_each_alone(mixed, size):
    logits = np.stack([rows(shape, size, index) for index, (_, shape) in enumerate(mixed)])
    shared = Row(size)
    together = [Sampler(params, [0, 1], row=shared) for params, _ in mixed]
    alone = [Sampler(params, [0, 1]) for params, _ in mixed]
    for _ in range(2):
        assert sample_rows(together, logits) == [sampler(row) for sampler, row in zip(alone, logits, strict=True)]


def test_a_sampler_takes_rows_of_another_width():
    sampler = Sampler(replace(PLAIN, temperature=0.01), [])
    assert [sampler(np.arange(width, dtype=np.float32)) for width in (5, 40, 3)] == [4, 39, 2]
