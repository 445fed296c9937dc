"""A draw in float32 and a device's own operations is the host's; on NumPy, and on MLX where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.guessed_draws import PROMPT, excuse
from phiplug.sampling import Sampler
from phiplug.types import SamplingParams

SAMPLINGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**64 - 1),
        "temperature": st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 1, 7, 40, 5000]),
        "top_p": st.sampled_from([0.0, 0.05, 0.3, 0.8, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.02, 0.3]),
        "repeat_penalty": st.sampled_from([1.0, 1.1, 0.8]),
        "penalize_prompt": st.booleans(),
        "frequency_penalty": st.sampled_from([0.0, 0.5]),
        "presence_penalty": st.sampled_from([0.0, -0.3]),
        "logit_bias": st.sampled_from([{}, {7: 3.0, 11: -2.0}, {2: -np.inf}]),
    }
)


@pytest.fixture(params=["numpy", "mlx.core"], scope="module")
def xp(request):
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed", exc_type=ImportError)


@settings(deadline=None, max_examples=150)
@given(
    params=SAMPLINGS,
    row_seed=st.integers(0, 2**32),
    width=st.sampled_from([12, 300, 3000]),
    scale=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    mask=st.booleans(),
)
def test_a_device_draws_what_the_host_draws(xp, params, row_seed, width, scale, mask):
    source = np.random.default_rng(row_seed)
    row = (source.normal(size=width) * scale).astype(np.float32)  # a scale of 0 makes all tie
    sampled, params = source.integers(0, 12, 20).tolist(), SamplingParams(**params)
    forbidden = source.random(width) < 0.5 if mask else None
    if forbidden is not None:
        forbidden[source.integers(width)] = False  # a constraint always leaves a token
    sampler = Sampler(params, PROMPT, sampled)
    there = int(sampler.ahead(width, forbidden)(xp, xp.array(row)))
    here = sampler(row, forbidden)
    if there != here:  # equal weights put sums of them exactly on the nucleus' edge
        masked = row if forbidden is None else np.where(forbidden, -np.inf, row).astype(np.float32)
        assert excuse(params, sampled, masked, (there, here))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_rows_of_half_the_size_tie_often_and_the_lowest_ids_win(precision):
    mx = pytest.importorskip("mlx.core", reason="mlx is not installed", exc_type=ImportError)
    source = np.random.default_rng(0)
    for turn in range(100):
        half = mx.array(source.normal(size=4000).astype(np.float32)).astype(getattr(mx, precision))
        row = np.array(half.astype(mx.float32))
        assert len(np.unique(row)) < 3500
        params = SamplingParams(seed=turn, top_p=0.5, top_k=(0, 1000)[turn % 2], temperature=(0.0, 1.0)[turn % 5 > 0])
        sampler = Sampler(params, PROMPT)
        there = int(sampler.ahead(len(row))(mx, half))
        assert there == sampler(row)


def test_a_row_is_not_changed(xp):
    row = np.zeros(16, np.float32)
    given_row = xp.array(row)
    Sampler(SamplingParams(seed=1, logit_bias={3: 9.0}), PROMPT, [1, 2]).ahead(16)(xp, given_row)
    assert np.array(given_row).tolist() == row.tolist()


def test_what_is_drawn_later_does_not_change_a_draw():
    sampler = Sampler(SamplingParams(seed=1, frequency_penalty=1.0), PROMPT, [1, 2])
    forbidden = np.zeros(16, bool)
    draw = sampler.ahead(16, forbidden)
    forbidden[:] = True
    sampler.remember(9)
    assert (sorted(draw.repeated), sorted(draw.counted), draw.counts.tolist()) == ([1, 2], [1, 2], [1, 1])
    assert not draw.forbidden.any()


@pytest.mark.parametrize(
    "made",
    [
        Sampler(SamplingParams(seed=1, dialect="llama.cpp"), PROMPT),
        Sampler(SamplingParams(seed=1), PROMPT, processors=[lambda _, row: row]),
        Sampler(SamplingParams(seed=1, logit_bias={16: 1.0}), PROMPT),
    ],
    ids=["a dialect", "a step of the user's own", "an id that the row does not have"],
)
def test_what_a_device_cannot_draw_is_left_to_the_host(made):
    assert made.ahead(16) is None
