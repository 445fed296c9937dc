"""DRY lowers what would go on with a repetition, by how long it has run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.sampling.repetition import Repetitions
from phiplug.types import SamplingParams

A, B, C, D, E = range(5)


def lowered(history, **dry):
    """Return by how much each of five tokens is lowered."""
    x = np.zeros(5, np.float32)
    params = SamplingParams(dialect="llama.cpp", **{"dry_multiplier": 1.0, "dry_base": 2.0} | dry)
    Repetitions(params, history).penalize(x)
    return (-x).tolist()


def test_a_token_that_once_followed_the_last_two_is_lowered():
    assert lowered([A, B, C, A, B]) == [0, 0, 1, 0, 0]


def test_each_further_repeated_token_multiplies_by_the_base():
    assert lowered([A, B, C, D, E, A, B, C, D]) == [0, 0, 0, 0, 4]


def test_a_short_repetition_is_free():
    assert lowered([A, B, C, A, B], dry_allowed_length=3) == [0, 0, 0, 0, 0]


def test_the_longest_of_several_repetitions_counts():
    assert lowered([B, C, D, A, B, C, D, E, A, B, C]) == [0, 0, 0, 2, 0]


@pytest.mark.parametrize("history", [[], [A], [A, A]])
def test_a_short_history_has_no_repetition(history):
    assert lowered(history) == [0, 0, 0, 0, 0]


def test_a_run_of_one_token_repeats_itself():
    assert lowered([A, A, A, A]) == [2, 0, 0, 0, 0]


def test_no_repetition_reaches_out_of_the_window():
    assert lowered([A, B, C, A, B], dry_last_n=4) == [0, 0, 0, 0, 0]
    assert lowered([A, B, C, A, B], dry_last_n=0) == [0, 0, 0, 0, 0]


def test_no_repetition_reaches_across_a_breaker():
    history = [A, B, C, D, E, A, B, C, D]
    assert lowered(history, dry_breakers=((B,),)) == [0, 0, 0, 0, 1]
    assert lowered(history, dry_breakers=((C,),)) == [0, 0, 0, 0, 0]
    assert lowered(history, dry_breakers=((A, B),)) == [0, 0, 0, 0, 1]
    assert lowered(history, dry_breakers=((B, A),)) == [0, 0, 0, 0, 4]


def test_a_breaker_is_not_lowered_itself():
    assert lowered([A, B, C, A, B], dry_breakers=((C,),)) == [0, 0, 0, 0, 0]


def test_of_breakers_that_begin_together_the_longest_counts():
    history = [A, B, C, D, E, A, B, C, D]
    assert lowered(history, dry_breakers=((B,), (B, C))) == [0, 0, 0, 0, 0]
    assert lowered(history, dry_breakers=((B, C), (B,))) == [0, 0, 0, 0, 0]


def test_a_token_that_only_begins_a_breaker_is_lowered():
    assert lowered([A, B, C, A, B], dry_breakers=((C, D),)) == [0, 0, 1, 0, 0]


def test_a_long_repetition_stays_finite():
    x = np.zeros(5, np.float32)
    params = SamplingParams(dialect="llama.cpp", dry_multiplier=0.5, dry_base=10.0)
    Repetitions(params, [A] * 500).penalize(x)
    assert np.isfinite(x).all()
    assert x[A] < -1e37


@given(st.lists(st.integers(0, 2), max_size=60))
def test_runs_are_what_comparing_the_ends_finds(history):
    repetitions = Repetitions(SamplingParams(dialect="llama.cpp", dry_multiplier=1.0), history)
    for end in range(len(history) - 1):
        run = 0
        while run <= end and history[end - run] == history[len(history) - 1 - run]:
            run += 1
        assert repetitions._runs[end] == run
