"""Tests the fields that give an answer a form, on the toy model: each holds it, whole and as a stream."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import pytest
from served import SAY_HI, client_of, events, make, post

from phiplug.text import constraint as constraints

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["red", "blue"]}},
    "required": ["a"],
    "additionalProperties": False,
}
NAMED = {"name": "n", "strict": True, "schema": SCHEMA}
GREEDY = {"temperature": 0}


def chat(**fields):
    return CHAT, {"messages": SAY_HI, **GREEDY, **fields}


def completion(**fields):
    return TEXT, {"prompt": "Once", "max_tokens": 99, **GREEDY, **fields}


def response(**fields):
    return RESPONSES, {"input": "Say hi.", **GREEDY, **fields}


def message(**fields):
    return MESSAGES, {"messages": SAY_HI, "max_tokens": 99, **GREEDY, **fields}


def said(path, body):
    answer = post(path, body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if path == RESPONSES:
        return found["output"][0]["content"][0]["text"]
    if path == MESSAGES:
        return found["content"][0]["text"]
    choice = found["choices"][0]
    return choice["text"] if path == TEXT else choice["message"]["content"]


IN_A_SCHEMA = {
    "chat": chat(response_format={"type": "json_schema", "json_schema": NAMED}),
    "completions": completion(response_format={"type": "json_schema", "json_schema": NAMED}),
    "responses": response(text={"format": {"type": "json_schema", **NAMED}}),
    "messages": message(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
    "llama-server": chat(json_schema=SCHEMA),
    "vllm": message(structured_outputs={"json": json.dumps(SCHEMA)}),
}


@pytest.mark.parametrize("asked", IN_A_SCHEMA.values(), ids=IN_A_SCHEMA)
def test_an_answer_keeps_to_the_schema(asked):
    assert json.loads(said(*asked))["a"] in ("red", "blue")


@pytest.mark.parametrize(
    "fields", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
)
def test_any_json_object_may_be_asked_for(fields):
    assert said(*chat(**fields, max_tokens=30)).startswith("{")


@pytest.mark.parametrize(
    ("structured", "form"),
    [
        ({"regex": "[0-9]{3}-[a-f]{2}"}, "[0-9]{3}-[a-f]{2}"),
        ({"choice": ["north", "south"]}, "north|south"),
        ({"grammar": 'root ::= "no" "o"{3}'}, "noooo"),
        ({"grammar": 'start: "x" /[0-9]/'}, "x[0-9]"),
    ],
    ids=str,
)
def test_the_whole_answer_has_the_form(structured, form):
    for asked in (chat, completion, response, message):
        assert re.fullmatch(form, said(*asked(structured_outputs=structured)))


def test_a_stream_has_the_text_of_the_whole_answer():
    path, body = chat(grammar='root ::= [a-z]{9} " end"')
    streamed = events(post(path, {**body, "stream": True}))
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in streamed[:-1]) == said(path, body)
    assert streamed[-2]["choices"][0]["finish_reason"] == "stop"


def test_every_choice_and_every_prompt_has_the_form():
    body = {"prompt": ["Once", "Twice"], "n": 2, "structured_outputs": {"regex": "[0-9]{4}"}}
    assert all(re.fullmatch("[0-9]{4}", each["text"]) for each in post(TEXT, body).json()["choices"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_form_of_several_prompts_is_refused_before_an_answer_begins(stream):
    answer = post(TEXT, {"prompt": ["Once", "Twice"], "structured_outputs": {"regex": "(?=a)b"}, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "structured_outputs.regex")


def test_a_response_repeats_the_form_that_it_has():
    asked = {"type": "json_schema", **NAMED}
    assert post(RESPONSES, {"input": "a", "text": {"format": asked}}).json()["text"] == {"format": asked}
    assert post(RESPONSES, {"input": "a", "max_output_tokens": 1}).json()["text"] == {"format": {"type": "text"}}


def test_text_is_a_form_that_changes_nothing():
    free = said(*chat(max_tokens=8))
    assert said(*chat(max_tokens=8, response_format={"type": "text"})) == free


def test_others_are_answered_while_a_grammar_is_compiled(monkeypatch):
    begun, may_end = asyncio.Event(), threading.Event()
    compile_now = constraints._compiled

    async def scenario():
        loop = asyncio.get_running_loop()

        def slowly(*arguments):
            loop.call_soon_threadsafe(begun.set)
            assert may_end.wait(30)
            return compile_now(*arguments)

        monkeypatch.setattr(constraints, "_compiled", slowly)
        async with client_of(make()) as client:
            path, body = chat(grammar='root ::= "yes"')
            slow = asyncio.create_task(client.post(path, json=body))
            await begun.wait()
            quick = await client.post(CHAT, json={"messages": SAY_HI, "max_tokens": 3})
            assert not slow.done()
            may_end.set()
            return quick.status_code, (await slow).json()["choices"][0]["message"]["content"]

    assert asyncio.run(scenario()) == (200, "yes")
