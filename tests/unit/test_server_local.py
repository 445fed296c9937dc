"""Tests what HTTP asks of an engine, on the engine in this process."""

from __future__ import annotations

import asyncio
import threading

import pytest
from scripted import Letters, ScriptedModel

from phiplug.engine import Engine
from phiplug.errors import BackendFailed, PromptTooLong, RequestError
from phiplug.server.local import LocalEngine
from phiplug.server.ports import Work
from phiplug.types import Request, SamplingParams

GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)


def work(**options):
    choices = options.pop("choices", 1)
    return Work("r1", Request((1, 2, 3), options.pop("sampling", GREEDY), **options), choices)


def engine(**model):
    return LocalEngine(Engine(ScriptedModel(**model), Letters()), "scripted")


async def texts(local, asked):
    found = {}
    async for event in await local.submit(asked):
        found[event.choice] = found.get(event.choice, "") + event.chunk.text
    return found


def test_every_choice_of_a_request_comes_to_its_end():
    local = engine(script={3: 4, 4: 5, 5: 0}, slots=2)
    assert asyncio.run(texts(local, work(choices=2))) == {0: "de", 1: "de"}
    assert local.status.open == 0


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_computed():
    with pytest.raises(PromptTooLong):
        asyncio.run(texts(engine(context_length=2), work()))


def test_what_the_engine_raises_is_raised_after_the_chunks_before_it():
    async def scenario():
        events = await engine(fails_at=5).submit(work(max_tokens=8))
        assert [(await anext(events)).chunk.text for _ in range(2)] == ["a", "a"]
        with pytest.raises(BackendFailed):
            await anext(events)

    asyncio.run(scenario())


def test_closing_the_events_frees_the_slot():
    async def scenario():
        local = engine()
        events = await local.submit(work(max_tokens=60))
        await anext(events)
        await events.aclose()
        await events.aclose()
        assert local.status.open == 0
        assert [event async for event in events] == []
        return await texts(local, work(max_tokens=2))

    assert asyncio.run(scenario()) == {0: "aa"}


class Waiting(ScriptedModel):
    """Waits in its tenth pass until it is told to go on."""

    def __post_init__(self):
        super().__post_init__()
        self.told = threading.Event()

    def settle(self):
        if len(self.held[0]) >= 10:
            assert self.told.wait(30)
        super().settle()


def test_closing_the_engine_ends_what_is_open_in_an_error():
    async def scenario():
        model = Waiting()
        local = LocalEngine(Engine(model, Letters()), "scripted")
        events = await local.submit(work(max_tokens=40))
        await anext(events)
        closing = asyncio.create_task(local.close())
        while not local._engine._closed:
            await asyncio.sleep(0)
        model.told.set()
        await closing
        async for _ in events:
            pass

    with pytest.raises(RequestError, match="closed"):
        asyncio.run(scenario())
