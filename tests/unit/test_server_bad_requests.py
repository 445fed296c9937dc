"""Tests what bad requests get: a 4xx with OpenAI's body and the field's name, and a good answer right after it."""

from __future__ import annotations

import asyncio
import json

from served import SAY_HI, client_of, make

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def user(content):
    return [{"role": "user", "content": content}]


def schema(written):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": written}}


CHAT_FIELDS = [
    ("temperature", -1),
    ("temperature", 2.1),
    ("temperature", "1"),
    ("temperature", True),
    ("temperature", 10**400),
    ("top_p", 7),
    ("top_p", -0.1),
    ("top_p", []),
    ("top_k", -1),
    ("top_k", 1.5),
    ("min_p", 2),
    ("n", 0),
    ("n", 129),
    ("n", 10**6),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", "10"),
    ("max_tokens", 1.5),
    ("max_completion_tokens", 0),
    ("seed", -1),
    ("seed", 2**70),
    ("seed", "a"),
    ("stop", [""]),
    ("stop", ["a"] * 17),
    ("stop", 3),
    ("stop", [3]),
    ("logit_bias", []),
    ("logit_bias", {"a": 1}),
    ("logit_bias", {"1": 101}),
    ("logit_bias", {"999999": 1}),
    ("logit_bias", {"-1": 1}),
    ("frequency_penalty", 3),
    ("presence_penalty", -3),
    ("repeat_penalty", 0),
    ("repeat_last_n", -2),
    ("sampling_dialect", "ollama"),
    ("logprobs", 1),
    ("top_logprobs", 21),
    ("top_logprobs", 2),
    ("stream", "yes"),
    ("stream_options", 3),
    ("stream_options.include", None),
    ("tools", [{"type": "function"}]),
    ("tool_choice", "required"),
    ("response_format", 3),
    ("response_format.type", {"type": "structural_tag"}),
    ("response_format.type", {}),
    ("response_format.schema", {"type": "json_object", "schema": {}}),
    ("response_format.json_schema", {"type": "json_schema"}),
    ("response_format.json_schema.schema", schema(None)),
    ("response_format.json_schema.schema", schema("{")),
    ("response_format.json_schema.schema", schema("3")),
    ("response_format.json_schema.schema", schema({"not": {"type": "string"}})),
    ("response_format.json_schema.schema", schema({"$ref": "https://example.org/a"})),
    ("response_format.json_schema.schema", schema({"type": "array", "uniqueItems": True})),
    ("response_format.json_schema.schema", schema({"type": "string", "format": "colour"})),
    ("structured_outputs", {}),
    ("structured_outputs", {"regex": "a", "choice": ["a"]}),
    ("structured_outputs.regex", {"regex": "("}),
    ("structured_outputs.regex", {"regex": ""}),
    ("structured_outputs.choice", {"choice": []}),
    ("structured_outputs.choice", {"choice": "a"}),
    ("structured_outputs.choice", {"choice": ["a", 3]}),
    ("structured_outputs.grammar", {"grammar": "root ::= nowhere"}),
    ("structured_outputs.json_object", {"json_object": False}),
    ("structured_outputs.structural_tag", {"structural_tag": "{}"}),
    ("json_schema", {"type": "nothing"}),
    ("grammar", "root ::= ("),
    ("grammar", 3),
    ("guided_json", {}),
    ("store", True),
    ("service_tier", "flex"),
    ("reasoning_effort", "low"),
    ("chat_template", "{{ 1 }}"),
    ("chat_template_kwargs", {"a": 1}),
    ("audio", {}),
    ("modalities", ["audio"]),
    ("tempreature", 1),
    ("echo", True),
    ("best_of", 2),
    ("backend", "cuda"),
    ("model", 3),
    ("user", 3),
    ("metadata", 3),
    ("ignore_eos", 1),
    ("messages", []),
    ("messages", None),
    ("messages", "hi"),
]
MESSAGES = [
    ("messages[0]", [3]),
    ("messages[0].role", [{"role": "king", "content": "a"}]),
    ("messages[0].role", [{"content": "a"}]),
    ("messages[0].content", [{"role": "user"}]),
    ("messages[0].content", user(3)),
    ("messages[0].content", user("\ud800")),
    ("messages[0].content[0].type", user([{"type": "image_url", "image_url": {"url": "x"}}])),
    ("messages[0].content[0].text", user([{"type": "text"}])),
    ("messages[0].name", [{"role": "user", "content": "a", "name": "b"}]),
    ("messages[0].tool_calls", [{"role": "assistant", "content": "a", "tool_calls": [{}]}]),
    ("messages[0].weight", [{"role": "user", "content": "a", "weight": 1}]),
]
TEXTS = [
    ("prompt", {"prompt": ""}),
    ("prompt", {"prompt": []}),
    ("prompt[0]", {"prompt": [""]}),
    ("prompt", {"prompt": [-1]}),
    ("prompt", {"prompt": [10**9]}),
    ("prompt[1]", {"prompt": ["a", 3]}),
    ("prompt", {}),
    ("suffix", {"prompt": "a", "suffix": "b"}),
    ("best_of", {"prompt": "a", "best_of": 2}),
    ("logprobs", {"prompt": "a", "logprobs": 21}),
    ("max_tokens", {"prompt": "a", "max_tokens": 0}),
    ("stream", {"prompt": "a", "echo": True, "logprobs": 0, "stream": True}),
    ("prompt", {"prompt": "a" * 600}),
]
FORMS = [
    ("ignore_eos", CHAT, {"messages": SAY_HI, "ignore_eos": True, "grammar": 'root ::= "a"'}),
    ("grammar", CHAT, {"messages": SAY_HI, "response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}),
    ("grammar", CHAT, {"messages": SAY_HI, "stream": True, "grammar": "root ::= ("}),
    ("json_schema", TEXT, {"prompt": ["a", "b"], "json_schema": {"not": {}}}),
    (
        "text.format.schema",
        "/v1/responses",
        {"input": "a", "text": {"format": {"type": "json_schema", "schema": {"if": {}}}}},
    ),
]
RAW = [
    b"",
    b"{",
    b"[]",
    b'"a"',
    b"\xff",
    b"{'a': 1}",
    b'{"a": NaN}',
    b"[" * 100_000,
    b'{"n": 1, "n": 2}',
    b'{"n": ' + b"9" * 5000 + b"}",
]

CASES = [
    *[(CHAT, {"messages": SAY_HI, name: value}, name) for name, value in CHAT_FIELDS],
    *[(CHAT, {"messages": value}, name) for name, value in MESSAGES],
    *[(TEXT, value, name) for name, value in TEXTS],
    *[(path, body, name) for name, path, body in FORMS],
    *[(CHAT, raw, None) for raw in RAW],
]


def test_there_are_more_than_eighty_of_them():
    assert len(CASES) >= 80


def test_each_bad_request_names_its_field_and_is_followed_by_a_good_answer():
    async def scenario():
        wrong = []
        async with client_of(make()) as client:
            good = {"messages": SAY_HI, "max_tokens": 2, "seed": 1}
            first = (await client.post(CHAT, json=good)).json()["choices"]
            for path, body, name in CASES:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                answer = await client.post(path, content=raw, headers={"content-type": "application/json"})
                error = answer.json().get("error") or {}
                if not 400 <= answer.status_code < 500 or error.get("param") != name or not error["message"]:
                    wrong.append((body, answer.status_code, answer.text))
                assert (await client.post(CHAT, json=good)).json()["choices"] == first
        return wrong

    assert asyncio.run(scenario()) == []
