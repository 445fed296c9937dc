"""A worker in a process of its own: signals end it under load, and every answer is the one that no signal disturbs."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from phiplug.errors import ModelNotFound
from phiplug.server.ports import Work
from phiplug.server.worker import Load, Supervisor
from phiplug.types import Request, SamplingParams

SIGNALS = [getattr(signal, name) for name in ("SIGKILL", "SIGSEGV", "SIGSTOP") if hasattr(signal, name)]
SEEDED = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.0, seed=3)


def work(index, ids, max_tokens):
    request = Request(ids, SEEDED, max_tokens=max_tokens, ignore_stop_ids=True, repeatable=True)
    return Work(f"request-{index}", request.choice(index))


async def tokens(events, seen):
    found = []
    async for event in events:
        found.extend(event.chunk.tokens)
        seen.append(event)
    return tuple(found)


async def answers(supervisor, works, kill_with=None, after=0):
    """Answer all; send the worker a signal when `after` chunks have come."""
    seen = []
    reading = [asyncio.create_task(tokens(await supervisor.submit(each), seen)) for each in works]
    if kill_with is not None:
        while len(seen) < after:
            await asyncio.sleep(0.005)
        os.kill(supervisor.pid, kill_with)
    return await asyncio.gather(*reading)


def disturbed(order, works, after):
    """Return the answers without a signal, and with each of the three under load."""

    async def play():
        supervisor = Supervisor(order)
        await supervisor.start()
        try:
            whole = await answers(supervisor, works)
            found = {}
            for each in SIGNALS:
                found[each.name] = await answers(supervisor, works, each, after)
                supervisor._circuit.__init__()  # three deaths in a minute are what this test is about
            return whole, found, supervisor.status.restarts
        finally:
            await supervisor.close()

    return asyncio.run(play())


def test_no_signal_changes_an_answer_of_the_toy():
    # so long that it goes on when the worker dies
    works = [work(index, tuple(b"The puck slides over the ice"), 1500) for index in range(4)]
    whole, found, restarts = disturbed(Load("toy", "toy", slots=3), works, 400)
    assert found == dict.fromkeys(found, whole)
    assert restarts == len(SIGNALS)


@pytest.mark.slow
@pytest.mark.usefixtures("llama_cpp")
def test_no_signal_changes_an_answer_of_a_real_model_across_position_256(smollm2):
    works = [work(index, tuple(range(1000, 1240 + index)), 40) for index in range(3)]
    whole, found, _ = disturbed(Load(str(smollm2), "llama-cpp", slots=3, ctx_size=512, threads=1), works, 60)
    assert all(len(each) == 40 for each in whole)
    assert found == dict.fromkeys(found, whole)


def test_a_worker_that_cannot_load_its_model_says_why():
    async def play():
        await Supervisor(Load("no-such-model", "toy", offline=True)).start()

    with pytest.raises(ModelNotFound):
        asyncio.run(play())


def test_a_worker_does_not_outlive_its_supervisor():
    async def play():
        supervisor = Supervisor(Load("toy", "toy"))
        await supervisor.start()
        pid = supervisor.pid
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)  # which it leaves to its supervisor
        assert len(await answers(supervisor, [work(0, (65, 66), 5)])) == 1
        await supervisor.close()
        return pid, supervisor.status.restarts

    pid, restarts = asyncio.run(play())
    assert restarts == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
