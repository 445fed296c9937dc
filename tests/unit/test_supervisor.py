"""The supervisor: what a client sees of a worker's death, which is nothing, or one error with a reason."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from dataclasses import replace

import pytest
from staged_worker import Stage

from phiplug.errors import (
    BackendFailed,
    EngineDied,
    EngineUnavailable,
    InvalidParameter,
    ModelBusy,
    ModelCorrupt,
    NonFiniteLogits,
    PhiplugError,
    PromptTooLong,
    RequestError,
)
from phiplug.markup import Markup, ToolUse
from phiplug.server.ports import Work
from phiplug.server.worker import Load, Supervisor
from phiplug.text import constraint as constraint_module
from phiplug.text.tools.formats import format_of
from phiplug.types import Constraint, Request, SamplingParams, Tool

SAMPLING = SamplingParams(temperature=1.2, top_p=1.0, repeat_penalty=1.2, seed=5)


def work(text="The puck ", choices=1, **changes):
    request = Request(tuple(text.encode()), SAMPLING, max_tokens=12, repeatable=True)
    return Work(f"request-{text.strip()}", replace(request, **changes), choices)


SEVERAL = (
    work("The puck slides ", logprobs=2),
    work("A key was lost, ", stop=("e ",), ignore_stop_ids=True),
    work("In winter ", choices=3),
    work("x" * 150, logprobs=1, score_from=60),
)


def on_stage(stage, act, **options):
    """Run `act(supervisor)` on a stage, and close the supervisor."""

    async def play():
        supervisor = Supervisor(Load(), machine=stage, **options)
        await supervisor.start()
        try:
            return await act(supervisor)
        finally:
            await supervisor.close()

    return asyncio.run(play())


async def read(events):
    """Read to the end; return the chunks of each choice, and the error that ended them."""
    chunks = {}
    try:
        async for event in events:
            chunks.setdefault(event.choice, []).append(replace(event.chunk, timings=None, usage=None))
    except PhiplugError as error:
        return chunks, error
    return chunks, None


async def answers(supervisor, works=SEVERAL):
    streams = [await supervisor.submit(each) for each in works]
    return await asyncio.gather(*(read(each) for each in streams))


def test_after_a_death_in_any_step_every_stream_is_what_it_is_without_one():
    quiet = Stage()
    whole = on_stage(quiet, answers)
    steps = quiet.children[0].steps
    assert [error for _, error in whole] == [None] * 4
    assert steps > 20
    for step in range(1, steps + 1):
        stage = Stage({"dies_in": step})
        assert on_stage(stage, answers) == whole, f"died in step {step}"
        assert len(stage.children) == 2


def test_a_second_death_ends_a_request_with_an_error_and_what_came_before_stands():
    (whole, _), (chunks, error) = (on_stage(Stage(*lives), one) for lives in ([], [{"dies_in": 5}, {"dies_in": 9}]))
    assert isinstance(error, EngineDied)
    assert chunks[0] == whole[0][: len(chunks[0])]
    assert 3 <= len(chunks[0]) < len(whole[0])


async def one(supervisor):
    return (await answers(supervisor, [work()]))[0]


def test_a_request_that_came_after_the_first_death_survives_the_second():
    async def act(supervisor):
        first = asyncio.create_task(one(supervisor))
        while not supervisor.status.restarts:
            await asyncio.sleep(0)
        second = await answers(supervisor, [work("In winter ")])
        return await first, second[0]

    (_, error), (_, none) = on_stage(Stage({"dies_in": 5}, {"dies_in": 4}), act)
    assert isinstance(error, EngineDied)
    assert none is None


def test_a_request_that_was_alone_in_two_deaths_is_named_in_the_log(caplog):
    on_stage(Stage({"dies_in": 2}, {"dies_in": 2}), one)
    assert "request request-The puck was alone in two deaths" in caplog.text


def test_requests_that_died_together_are_not_named(caplog):
    on_stage(Stage({"dies_in": 2}, {"dies_in": 2}), answers)
    assert "alone" not in caplog.text


def test_the_log_has_no_word_of_a_prompt(caplog):
    caplog.set_level(logging.DEBUG)
    on_stage(Stage({"dies_in": 2}), lambda supervisor: answers(supervisor, [replace(work("secret"), id="id-1")]))
    assert "secret" not in caplog.text
    assert "signal 11" in caplog.text


def test_three_deaths_in_a_minute_refuse_requests_for_a_minute_and_then_one_trial_is_made():
    stage = Stage({"dies_in": 1}, {"dies_in": 1}, {"dies_in": 1})

    async def act(supervisor):
        for _ in range(2):  # the first one sees two deaths
            found = await one(supervisor)
            while supervisor.status.state == "restarting":
                await asyncio.sleep(0)
        assert supervisor.status.state == "down"
        with pytest.raises(EngineUnavailable) as refused:
            await supervisor.submit(work())
        await stage.pass_time(59)
        down = supervisor.status.state, len(stage.children)
        await stage.pass_time(2)
        return found, refused.value.retry_after, down, supervisor.status.state, await one(supervisor)

    (_, error), retry_after, down, state, (_, none) = on_stage(stage, act)
    assert isinstance(error, EngineDied | EngineUnavailable)
    assert (retry_after, down, state, none) == (60, ("down", 3), "ready", None)


def test_a_worker_that_cannot_be_started_again_opens_the_circuit_and_the_requests_learn_of_it():
    stage = Stage({"dies_in": 3}, OSError("no memory"), {"cannot_load": ModelCorrupt("the file is cut off")})

    async def act(supervisor):
        return await one(supervisor), supervisor.status.state

    (_, error), state = on_stage(stage, act)
    assert isinstance(error, EngineUnavailable)
    assert state == "down"


def test_a_stopped_worker_is_ended_and_its_requests_go_on():
    stage = Stage()

    async def act(supervisor):
        asked = asyncio.create_task(one(supervisor))
        while not stage.children[0].steps:
            await asyncio.sleep(0)
        stage.children[0].paused = stage.stopped = True
        await stage.pass_time(0.5)
        return await asked, supervisor.status.restarts

    assert on_stage(stage, act) == (on_stage(Stage(), one), 1)


def test_closing_the_stream_frees_the_slot_and_nobody_else_notices():
    stage = Stage(slots=1)

    async def act(supervisor):
        first = await supervisor.submit(work(max_tokens=3000))
        await anext(first)
        await first.aclose()
        await first.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(first)
        found = await one(supervisor)
        return found, supervisor.status.open, stage.children[0].worker.is_idle

    (_, error), still_open, is_idle = on_stage(stage, act)
    assert (error, still_open, is_idle) == (None, 0, True)


def test_what_cannot_be_computed_is_refused_at_once():
    async def act(supervisor):
        with pytest.raises(PromptTooLong):
            await supervisor.submit(work("x" * 5000))
        with pytest.raises(InvalidParameter, match="prompt: "):
            await supervisor.submit(work(prompt_ids=(9999,)))
        assert supervisor.status.open == 0

    on_stage(Stage(), act)


def test_too_many_requests_are_refused():
    async def act(supervisor):
        for _ in range(256):
            await supervisor.submit(work())
        with pytest.raises(ModelBusy):
            await supervisor.submit(work())

    on_stage(Stage(), act)


def test_a_request_that_fails_alone_ends_in_its_own_error():
    forbid_all = replace(SAMPLING, logit_bias=dict.fromkeys(range(258), float("-inf")))
    (_, error), (_, none) = on_stage(
        Stage(), lambda supervisor: answers(supervisor, [work(sampling=forbid_all, choices=2), work()])
    )
    assert isinstance(error, NonFiniteLogits)
    assert none is None


def test_the_end_of_each_answer_is_told_once():
    told = []
    stage = Stage({"dies_in": 9})
    on_stage(stage, answers, finished=lambda request, usage, _: told.append((request.sampling.seed, usage)))
    assert sorted(seed for seed, _ in told) == [5, 5, 5, 5, 6, 7]


def test_closing_ends_what_is_open_and_refuses_what_comes():
    async def act(supervisor):
        asked = asyncio.create_task(read(await supervisor.submit(work(max_tokens=3000))))
        await asyncio.sleep(0)
        await supervisor.close()
        await supervisor.close()
        with pytest.raises(RequestError, match="closing"):
            await supervisor.submit(work())
        return (await asked)[1]

    assert "closed" in str(on_stage(Stage(), act))


def test_an_error_of_the_supervisor_itself_leaves_nobody_waiting(caplog):
    async def act(supervisor):
        return await one(supervisor), supervisor.status.state

    (_, error), state = on_stage(Stage({"dies_in": 3}, ValueError("odd")), act)
    assert isinstance(error, EngineDied)
    assert state == "down"
    assert "the supervisor of a worker failed" in caplog.text


@pytest.mark.parametrize(
    ("life", "error"),
    [({"cannot_load": ModelCorrupt("the file is cut off")}, ModelCorrupt), (OSError("no processes"), BackendFailed)],
)
def test_a_model_that_cannot_be_loaded_at_first_is_an_error_of_the_start(life, error):
    with pytest.raises(error):
        on_stage(Stage(life), one)


WORD = Constraint("regex", "[a-z]{9}")


def test_a_constraint_holds_in_the_worker_and_after_its_death():
    for life in ({}, {"dies_in": 5}):
        ((chunks, error),) = on_stage(Stage(life), lambda it: answers(it, [work(constraint=WORD)]))
        assert error is None
        assert re.fullmatch("[a-z]{9}", "".join(chunk.text for chunk in chunks[0]))


def test_a_constraint_that_cannot_be_kept_is_refused_before_any_event():
    async def act(supervisor):
        with pytest.raises(InvalidParameter, match="json_schema"):
            await supervisor.submit(work(constraint=Constraint("json_schema", '{"not": {}}')))
        assert supervisor.status.open == 0
        return await answers(supervisor)

    assert all(error is None for _, error in on_stage(Stage(), act))


def test_a_tool_whose_schema_cannot_be_kept_is_refused_before_any_event():
    tool = Tool("now", parameters={"type": "object", "properties": {"a": {"not": {}}}}, strict=True)
    markup = Markup(tools=ToolUse(format_of('<tool_call>{"name": "", "arguments": {}}'), (tool,), required=True))

    async def act(supervisor):
        with pytest.raises(InvalidParameter, match="tools: Unimplemented keys"):
            await supervisor.submit(work(markup=markup))
        assert supervisor.status.open == 0
        return await answers(supervisor)

    assert all(error is None for _, error in on_stage(Stage(), act))


CALLS = Markup(
    tools=ToolUse(format_of('<tool_call>{"name": "", "arguments": {}}'), (Tool("now"),), required=True, parallel=False)
)


def test_a_call_comes_from_the_worker_and_is_the_same_after_its_death():
    asked = work(markup=CALLS, max_tokens=300)
    whole, again = (on_stage(Stage(life), lambda it: answers(it, [asked])) for life in ({}, {"dies_in": 5}))
    ((chunks, error),) = whole
    assert error is None
    assert chunks[0][-1].finish_reason == "tool_calls"
    assert again == whole


def test_the_grammar_of_tools_is_compiled_beside_the_loop(monkeypatch):
    compilers = []
    compiled = constraint_module._compiled

    def seen(*arguments):
        compilers.append(threading.current_thread().name)
        return compiled(*arguments)

    monkeypatch.setattr(constraint_module, "_compiled", seen)
    on_stage(Stage(), lambda it: answers(it, [work(markup=CALLS, max_tokens=300)]))
    assert [name.startswith("phiplug-compile") for name in compilers] == [True]


def test_a_request_that_is_cancelled_while_its_constraint_is_compiled_never_begins(monkeypatch):
    may_end = threading.Event()
    compiled = constraint_module._compiled

    def slowly(*arguments):
        assert may_end.wait(30)
        return compiled(*arguments)

    async def act(supervisor):
        monkeypatch.setattr(constraint_module, "_compiled", slowly)
        asking = asyncio.create_task(supervisor.submit(work(constraint=WORD)))
        quick = await answers(supervisor)
        assert all(error is None for _, error in quick)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        may_end.set()
        while not supervisor._child.compiled:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)  # the worker is told
        return supervisor.status.open, supervisor._child.worker.is_idle

    assert on_stage(Stage(), act) == (0, True)
