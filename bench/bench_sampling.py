"""Drawing a token from a row of logits: phiplug beside llama.cpp's chain, mlx-lm's sampler and a full sort, on the CPU.

All have the same stages in phiplug's order, but for mlx-lm, which has its own; with no filter "full sort" has nothing
to sort. The default settings are measured at four widths and on three kinds of row, each filter alone on one.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from bench.pairs import Benchmark, paired
from bench.sampling_peers import PEERS, Draw
from phiplug.sampling import Sampler
from phiplug.types import SamplingParams

DRAWS = 5  # in a round, since the first finds the caches full of another's data
ROUNDS = 15
WIDTHS = (32_064, 49_152, 128_256, 262_144)
KINDS = ("peaked", "medium", "flat")
PLAIN = SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0, seed=1)
DEFAULT = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.1, repeat_last_n=64, seed=1)
SETTINGS = {
    "llama.cpp's own": SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0, seed=1),
    "greedy": replace(PLAIN, temperature=0.0),
    "no filter": PLAIN,
    "temperature 0.8": replace(PLAIN, temperature=0.8),
    "repeat_penalty 1.1": replace(PLAIN, repeat_penalty=1.1),
    "top_k 40": replace(PLAIN, top_k=40),
    "top_p 0.95": replace(PLAIN, top_p=0.95),
    "min_p 0.05": replace(PLAIN, min_p=0.05),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_default_settings(benchmark: Benchmark, width: int, kind: str) -> None:
    compare(benchmark, DEFAULT, width, kind)


@pytest.mark.parametrize("name", SETTINGS)
def test_other_settings(benchmark: Benchmark, name: str) -> None:
    compare(benchmark, SETTINGS[name], 128_256, "medium")


def compare(benchmark: Benchmark, params: SamplingParams, width: int, kind: str) -> None:
    logits, history = row(width, kind), np.random.default_rng(1).integers(0, width, 100).tolist()
    sampler = Sampler(params, [], history)
    peers = {name: peer(params, logits, history) for name, peer in PEERS.items()}
    timed = {name: lambda draw=draw: seconds(draw) for name, draw in peers.items()}
    paired(benchmark, lambda: seconds(lambda: sampler(logits)), timed, rounds=ROUNDS)


def row(width: int, kind: str) -> np.ndarray:
    """Return a row where a few tokens have nearly all the mass, one with a nucleus of 7% of them, or a flat one."""
    source = np.random.default_rng(width)
    logits = source.normal(0, 2.5, width).astype(np.float32)
    if kind == "peaked":
        logits[source.integers(0, width, 5)] = [24, 22, 21, 20, 19]
    if kind == "flat":
        logits = source.normal(0, 0.1, width).astype(np.float32)
    return logits


def seconds(draw: Draw) -> float:
    """Return the seconds of one draw, taken over a few."""
    begun = time.perf_counter()
    for _ in range(DRAWS):
        draw()
    return (time.perf_counter() - begun) / DRAWS
