"""`phiplug run` with tools: a call where one is required, and bad input named before a model is loaded."""

from __future__ import annotations

import json

import pytest

TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]},
    },
}
TEMPLATE = '{{ tools | tojson }}{{ messages[0].content }}{# <tool_call> "arguments" #}'


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    files = ("--chat-template", str(tmp_path / "t.jinja"), "--tools", str(tmp_path / "tools.json"))
    return ("run", "?", "-b", "toy", "--seed", "1", "-n", "400", *files)


def test_a_required_call_is_printed_as_a_line_of_json(phiplug, flags):
    ran = phiplug(*flags, "--tool-choice", "required")
    assert ran.code == 0
    calls = [json.loads(line) for line in ran.out.splitlines()]
    assert calls
    assert all(call["name"] == "now" and call["arguments"]["zone"] in ("UTC", "CET") for call in calls)


def test_json_has_the_calls_in_openais_form(phiplug, flags):
    report = json.loads(phiplug(*flags, "--tool-choice", "now", "--json").out)
    call = report["tool_calls"][0]
    assert (call["type"], call["function"]["name"]) == ("function", "now")
    assert json.loads(call["function"]["arguments"])["zone"] in ("UTC", "CET")


BAD = {
    "no JSON": ("[", [], "tools.json is no JSON"),
    "no tool": ("[{}]", [], "{} is no tool"),
    "parameters that are no object": (
        json.dumps([{"type": "function", "function": {"name": "f", "parameters": False}}]),
        [],
        "the parameters of f are false, and not a JSON object",
    ),
    "a number": ("1", [], "int is no list of tools"),
    "names that repeat": (json.dumps([TOOL, TOOL]), [], "two are called now"),
    "a quote in a name": (json.dumps([{"type": "function", "function": {"name": 'a"b'}}]), [], "is no name"),
    "a choice that is no tool": (json.dumps([TOOL]), ["--tool-choice", "x"], "tool_choice: 'x' is not auto"),
    "a raw prompt": (json.dumps([TOOL]), ["--raw"], "a raw prompt has no messages"),
    "a schema that leads elsewhere": (
        json.dumps(
            [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"$ref": "x"}}}}}]
        ),
        [],
        "tools: f: $ref 'x' is not in the schema itself",
    ),
}


@pytest.mark.parametrize(("tools", "more", "said"), BAD.values(), ids=BAD)
def test_bad_tools_are_one_line_before_a_model_is_loaded(phiplug, tmp_path, tools, more, said):
    (tmp_path / "tools.json").write_text(tools)
    ran = phiplug("run", "?", "-m", "no-such-model", "--tools", str(tmp_path / "tools.json"), *more)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err
