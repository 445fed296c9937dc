"""Forty tasks or threads over a few slots, with cancellations, drops and failing passes: no wrong token, none left."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import random
import threading

import pytest
from conftest import absent
from tiny import byte_tokens, write_llama

from phiplug.errors import BackendFailed
from phiplug.load import load

TASKS = 40
OPTIONS = {"temperature": 1.2, "max_tokens": 8}
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
ENGINES = {"llama-cpp": "llama_cpp", "mlx": "mlx_lm"}


def prompt(number):
    return f"Tell me about the number {number % 7}{' again' * (number % 3)}."


@pytest.fixture
def model(backend, request, tmp_path):
    """SmolLM2 for llama.cpp; a tiny Llama for MLX, whose CPU device computes ten tokens of SmolLM2 in a second."""
    if backend == "toy":
        return "toy"
    if backend == "mlx":
        return write_llama(tmp_path / "tiny.gguf", byte_tokens())
    return request.getfixturevalue("smollm2")


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


def crowd_of_threads(llm, chance):
    """Do as `crowd`, with a thread for each reader; others close some of the streams while they are read."""
    tokens = [[] for _ in range(TASKS)]
    endings = ["finished"] * TASKS
    limits = [chance.randint(0, 6) if chance.random() < 0.2 else None for _ in range(TASKS)]
    streams = [llm.stream(prompt(number), seed=number, **OPTIONS) for number in range(TASKS)]

    def read_all(number):
        finish_reason = None
        try:
            for chunk in streams[number]:
                tokens[number] += chunk.tokens
                finish_reason = chunk.finish_reason
                if limits[number] is not None and len(tokens[number]) >= limits[number]:
                    streams[number].close()
            if finish_reason is None:
                endings[number] = "dropped"
        except BackendFailed as error:
            endings[number] = type(error).__name__

    readers = [threading.Thread(target=read_all, args=(number,)) for number in range(TASKS)]
    doomed = [stream for stream in streams if chance.random() < 0.1]
    for reader in readers:
        reader.start()
    for stream in doomed:
        stream.close()
    for reader in readers:
        reader.join(timeout=300)
    assert not any(reader.is_alive() for reader in readers)
    return endings, tokens


def fail_now_and_then(llm, monkeypatch, every):
    """Let each pass of that number fail when it is read."""
    logits, passes = llm.engine._guarded.logits, iter(range(1, 10**9))

    def failing(asked, rows):
        if next(passes) % every == 0:
            raise BackendFailed("a pass failed")
        return logits(asked, rows)

    monkeypatch.setattr(llm.engine._guarded, "logits", failing)


@pytest.mark.parametrize("of", ["tasks", "threads"])
@pytest.mark.parametrize(
    ("backend", "slots"),
    [
        ("toy", 3),
        ("toy", 8),
        pytest.param("llama-cpp", 3, marks=pytest.mark.slow),
        pytest.param("llama-cpp", 8, marks=pytest.mark.slow),
        pytest.param("mlx", 3, marks=pytest.mark.slow),
        pytest.param("mlx", 8, marks=pytest.mark.slow),
    ],
)
def test_a_crowd_gets_no_wrong_token_and_leaves_nothing_behind(backend, slots, of, model, monkeypatch):
    if backend in ENGINES and importlib.util.find_spec(ENGINES[backend]) is None:
        absent(backend)
    threads = 1 if backend == "llama-cpp" else None
    with load(model, backend=backend, slots=slots, threads=threads, chat_template=TEMPLATE) as llm:
        with monkeypatch.context() as patched:
            fail_now_and_then(llm, patched, every=23)
            chance = random.Random(slots)
            endings, tokens = asyncio.run(crowd(llm, chance)) if of == "tasks" else crowd_of_threads(llm, chance)
        alone = [llm.generate(prompt(number), seed=number, **OPTIONS).tokens for number in range(TASKS)]
        assert llm.engine.scheduler.is_idle
    kinds = [ending if isinstance(ending, str) else type(ending).__name__ for ending in endings]
    print(f"{backend}, {slots} slots: { {kind: kinds.count(kind) for kind in set(kinds)} }")
    assert set(kinds) <= {"finished", "dropped", "CancelledError", "BackendFailed"}
    assert kinds.count("finished") >= TASKS // 4
    for kind, got, whole in zip(kinds, tokens, alone, strict=True):
        assert tuple(got) == (whole if kind == "finished" else whole[: len(got)])
