"""Penalties touch the ids that the window holds, each as often as the rule says."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from phiplug.sampling.penalties import Window, repeat, subtract


def counts(window):
    return dict(zip(window.ids.tolist(), window.counts.tolist(), strict=True))


@given(st.lists(st.integers(0, 100), max_size=300), st.integers(-1, 20))
def test_a_window_counts_the_last_tokens(history, length):
    held = history if length == -1 else history[len(history) - min(length, len(history)) :]
    window = Window(length)
    for token in history:
        window.add(token)
    assert counts(window) == counts(Window(length, history)) == Counter(held)


def test_a_repeat_penalty_divides_what_is_positive_and_multiplies_the_rest():
    row = np.array([2.0, -2.0, 0.0, 1.5], np.float32)
    repeat(row, np.array([0, 1, 2]), np.float32(2))
    assert row.tolist() == [1.0, -4.0, 0.0, 1.5]


def test_frequency_counts_and_presence_does_not():
    row = np.zeros(4, np.float32)
    window = Window(-1, [1, 1, 3])
    subtract(row, window.ids, window.counts, np.float32(0.5), np.float32(0.25))
    assert row.tolist() == [0.0, -1.25, 0.0, -0.75]
