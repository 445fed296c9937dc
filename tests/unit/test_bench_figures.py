"""Figures: what is computed of raw samples, by hand beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import LOADED, MODEL, WORK, row, run, sample

from phiplug.bench.figures import bandwidth_limit, figure, gaps, quantile, summary


def test_decoding_counts_the_tokens_after_the_first():
    found = figure("decode_tps", row(steps=(0.01,)), WORK)
    assert found.median == pytest.approx(4 / 0.04)


def test_sequences_that_decode_together_count_together():
    assert figure("decode_tps", row(steps=(0.01,), slots=3), WORK).median == pytest.approx(3 * 4 / 0.04)


def test_prefill_is_the_prompt_over_the_time_to_the_first_logits():
    assert figure("prefill_tps", row(steps=(0.01,)), WORK).median == pytest.approx(10 / 0.1)


def test_the_gaps_are_those_between_tokens_of_one_sequence():
    two = replace(sample(), arrivals_s=((0.0, 1.0, 3.0), (10.0, 11.0)))
    assert gaps(two) == [1.0, 2.0, 1.0]


def test_a_figure_that_no_round_has_is_none():
    assert figure("energy_j_per_token", row(), WORK) is None
    assert figure("decode_tps", row(), replace(WORK, gen_tokens=1)) is None
    assert summary([]) is None


def test_joules_are_shared_among_all_generated_tokens():
    metered = replace(row(steps=(0.01,), slots=2), samples=(replace(sample(), energy_j=20.0),))
    assert figure("energy_j_per_token", metered, WORK).median == pytest.approx(2.0)


def test_no_round_is_left_out():
    found = figure("decode_tps", row(steps=(0.01, 0.02, 1.0)), WORK)
    assert found.values == pytest.approx((100.0, 50.0, 1.0))
    assert found.median == pytest.approx(50.0)
    assert found.spread == pytest.approx((75.0 - 25.5) / 50.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_a_quantile_is_numpys(values, share):
    import numpy as np

    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), abs=1e-6)


def test_the_limit_is_copied_bytes_over_the_bytes_of_a_token():
    assert bandwidth_limit(run(row()), row()) == pytest.approx(400.0)


def test_the_hosts_memory_says_nothing_of_another_device():
    assert bandwidth_limit(run(row()), row(loaded=replace(LOADED, device="cuda:0"))) is None
    assert bandwidth_limit(run(row(), model=replace(MODEL, bytes_per_token=None)), row()) is None
