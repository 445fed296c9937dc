"""Forty asyncio tasks over a few slots, with cancellations, drops and failing passes: no wrong token, nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import random

import pytest
from conftest import absent

from phiplug.errors import BackendFailed
from phiplug.load import load

TASKS = 40
OPTIONS = {"temperature": 1.2, "max_tokens": 8}
ENGINES = {"llama-cpp": "llama_cpp", "mlx": "mlx_lm"}


def prompt(number):
    return f"Tell me about the number {number % 7}{' again' * (number % 3)}."


async def read(llm, number, tokens, chance):
    """Read an answer into `tokens`; some readers let go of it half read, as a client that disconnects does."""
    stop_after = chance.randint(0, 6) if chance.random() < 0.2 else None
    async with contextlib.aclosing(llm.astream(prompt(number), seed=number, **OPTIONS)) as chunks:
        async for chunk in chunks:
            tokens.extend(chunk.tokens)
            if stop_after is not None and len(tokens) >= stop_after:
                return "dropped"
    return "finished"


async def crowd(llm, chance):
    """Return how each task ended, and the tokens that it got."""
    tokens = [[] for _ in range(TASKS)]
    tasks = [asyncio.create_task(read(llm, number, tokens[number], chance)) for number in range(TASKS)]
    doomed = [task for task in tasks if chance.random() < 0.25]
    while doomed:
        await asyncio.sleep(0)
        if chance.random() < 0.05:
            doomed.pop().cancel()
    return await asyncio.gather(*tasks, return_exceptions=True), tokens


def fail_now_and_then(llm, monkeypatch, every):
    """Let each pass of that number fail when it is read."""
    logits, passes = llm.engine._guarded.logits, iter(range(1, 10**9))

    def failing(asked, rows):
        if next(passes) % every == 0:
            raise BackendFailed("a pass failed")
        return logits(asked, rows)

    monkeypatch.setattr(llm.engine._guarded, "logits", failing)


@pytest.mark.parametrize(
    ("backend", "slots"),
    [
        ("toy", 3),
        ("toy", 8),
        pytest.param("llama-cpp", 3, marks=pytest.mark.slow),
        pytest.param("llama-cpp", 8, marks=pytest.mark.slow),
        pytest.param("mlx", 3, marks=pytest.mark.slow),  # 8 take two minutes more on a CPU
    ],
)
def test_forty_tasks_get_no_wrong_token_and_leave_nothing_behind(backend, slots, smollm2, monkeypatch):
    if backend in ENGINES and importlib.util.find_spec(ENGINES[backend]) is None:
        absent(backend)
    threads = 1 if backend == "llama-cpp" else None
    with load("toy" if backend == "toy" else smollm2, backend=backend, slots=slots, threads=threads) as llm:
        with monkeypatch.context() as patched:
            fail_now_and_then(llm, patched, every=23)
            endings, tokens = asyncio.run(crowd(llm, random.Random(slots)))
        alone = [llm.generate(prompt(number), seed=number, **OPTIONS).tokens for number in range(TASKS)]
        assert llm.engine.scheduler.is_idle
    kinds = [ending if isinstance(ending, str) else type(ending).__name__ for ending in endings]
    print(f"{backend}, {slots} slots: { {kind: kinds.count(kind) for kind in set(kinds)} }")
    assert set(kinds) <= {"finished", "dropped", "CancelledError", "BackendFailed"}
    assert kinds.count("finished") >= TASKS // 4
    for kind, got, whole in zip(kinds, tokens, alone, strict=True):
        assert tuple(got) == (whole if kind == "finished" else whole[: len(got)])
