"""Staying in step: on the logits of two engines, sampled picks differ hardly more often than greedy ones.

llama.cpp and the NumPy example compute one file; what is compared is what the sampler makes of both. An inverse CDF
differs 4 to 9 times as often as greedy picks do (docs/sampling.md has the table).
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from conftest import absent

from phiplug.bench.coupling import DrawTally
from phiplug.bench.parity import DRAWN, default_prompts
from phiplug.llm import PromptOptions
from phiplug.load import load
from phiplug.sampling import Sampler
from phiplug.types import SamplingParams

POSITIONS = 1024
SEEDS = 24


@pytest.fixture(scope="module")
def rows(smollm2, llama_cpp):
    """The logits of both engines at the same positions: two float32 arrays (POSITIONS, V)."""
    if importlib.util.find_spec("phiplug_numpy") is None:
        absent("the example docs/examples/phiplug-numpy")
    with (
        load(str(smollm2), backend="llama-cpp", threads=1) as a,
        load(str(smollm2), backend="numpy") as b,
    ):
        kept = ([], [])
        for text in default_prompts():
            ids = a.encode(text, PromptOptions(raw=True))
            for kept_rows, llm in zip(kept, (a, b), strict=True):
                kept_rows.extend(row.copy() for rows in llm.engine.rows(ids, chunk=128) for row in rows)
    return tuple(np.array(side[:POSITIONS]) for side in kept)


@pytest.mark.slow
def test_sampled_picks_differ_at_most_1_15_times_as_often_as_greedy_ones(rows):
    a, b = rows
    assert len(a) == POSITIONS
    greedy = np.mean(a.argmax(axis=1) != b.argmax(axis=1))
    sampled = np.mean(
        [
            pick(row_a, position, seed) != pick(row_b, position, seed)
            for position, (row_a, row_b) in enumerate(zip(a, b, strict=True))
            for seed in range(SEEDS)
        ]
    )
    print(
        f"{POSITIONS} positions: greedy picks differ in {greedy:.2%}, sampled in {sampled:.2%}, mean of {SEEDS} seeds"
    )
    assert 0 < greedy < 0.1
    assert sampled <= 1.15 * greedy


@pytest.mark.slow
@pytest.mark.parametrize("params", DRAWN, ids=lambda each: f"T {each.temperature:g}, top_p {each.top_p:g}")
def test_draws_differ_at_most_1_35_times_as_often_as_any_coupling_must(rows, params):
    a, b = (side[::2] for side in rows)
    tally = DrawTally(params)
    for mine, theirs in zip(a, b, strict=True):
        tally.add(mine[None], theirs[None], [0])
    found = tally.coupling()
    print(f"{found.positions} positions: TV {found.total_variation:.4f}, draws differ {found.disagreement:.4f}")
    assert found.total_variation > 0.005
    assert found.total_variation <= found.disagreement <= 1.35 * found.total_variation
    assert found.standard_error < 0.1 * found.disagreement


def pick(row, position, seed):
    sampler = Sampler(SamplingParams(repeat_penalty=1.0, seed=seed), range(position))
    return sampler(row)
