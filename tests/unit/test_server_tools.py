"""Tools, their calls and reasoning over HTTP, in the forms of OpenAI's and Anthropic's interfaces."""

from __future__ import annotations

import json
from unittest.mock import ANY

import pytest
from served import ask, events, make, served_model

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
TEMPLATE = (
    "{{ tools | tojson }}{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.tool_call_id }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}"
    '{# {"name": ..., "arguments": ...} #}'
)
THINKING = TEMPLATE + "<think>{# </think> #}"
SCHEMA = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
FUNCTION = {"name": "now", "description": "Tells the time.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
USER = {"role": "user", "content": "?"}
ASKED = {"seed": 1, "temperature": 0.5, "parallel_tool_calls": False}


def post(path, body, template=TEMPLATE):
    return ask(make(served_model(ctx_size=2000, template=template)), "POST", path, body)


def chat(**more):
    return post(
        CHAT, {"messages": [USER], "max_tokens": 400, "tools": [TOOL], "tool_choice": "required", **ASKED, **more}
    )


def is_sound(name, arguments):
    return name == "now" and arguments["zone"] in ("UTC", "CET") and set(arguments) == {"zone"}


def test_a_chat_answers_with_calls():
    choice = chat().json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert is_sound(call["function"]["name"], json.loads(call["function"]["arguments"]))


def test_calls_of_a_chat_are_streamed():
    whole = chat().json()["choices"][0]["message"]["tool_calls"][0]
    choices = [event["choices"][0] for event in events(chat(stream=True))[:-1]]
    deltas = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert (deltas[0]["id"], deltas[0]["function"]["name"]) == (whole["id"], "now")
    assert all(delta["index"] == 0 for delta in deltas)
    assert "".join(delta["function"]["arguments"] for delta in deltas) == whole["function"]["arguments"]
    assert len(deltas) > 3
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("choice", ["none", "auto", {"type": "function", "function": {"name": "now"}}])
def test_each_choice_of_tools_is_taken(choice):
    message = chat(tool_choice=choice, max_tokens=300).json()["choices"][0]["message"]
    assert ("tool_calls" in message) == (not isinstance(choice, str)) or choice == "auto"


def test_calls_and_results_go_back_into_the_prompt():
    call = {"id": "abc123def", "type": "function", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}
    said = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    said.append({"role": "tool", "tool_call_id": "abc123def", "content": "12:00"})
    answer = post("/tokenize", {"messages": said, "return_token_strs": True}).json()
    text = "".join(answer["token_strs"])
    assert '<tool_call>{"name": "now", "arguments": {"zone": "UTC"}}</tool_call>' in text
    assert "tool:12:00abc123def" in text
    assert post(CHAT, {"messages": said, "max_tokens": 2}).status_code == 200


def test_reasoning_is_no_content():
    body = {"messages": [USER], "max_tokens": 9, "seed": 1}
    message = post(CHAT, body, THINKING).json()["choices"][0]["message"]
    assert message["content"] == ""
    streamed = events(post(CHAT, {**body, "stream": True}, THINKING))[:-1]
    deltas = [event["choices"][0]["delta"].get("reasoning_content", "") for event in streamed]
    assert "".join(deltas) == message["reasoning_content"] != ""


def anthropic(**more):
    tool = {"name": "now", "description": "Tells the time.", "input_schema": SCHEMA, "cache_control": {}}
    choice = {"type": "any", "disable_parallel_tool_use": True}
    body = {"messages": [USER], "max_tokens": 400, "temperature": 0, "tools": [tool], "tool_choice": choice, **more}
    return post(MESSAGES, body)


def test_a_message_answers_with_tool_use():
    whole = anthropic().json()
    assert whole["stop_reason"] == "tool_use"
    (block,) = whole["content"]
    assert block["type"] == "tool_use"
    assert is_sound(block["name"], block["input"])


def test_tool_use_of_a_message_is_streamed():
    (block,) = anthropic().json()["content"]
    streamed = events(anthropic(stream=True))
    started = [event for event in streamed if event["type"] == "content_block_start"]
    assert [event["content_block"] for event in started] == [{**block, "id": ANY, "input": {}}]
    pieces = [event["delta"]["partial_json"] for event in streamed if event["type"] == "content_block_delta"]
    assert json.loads("".join(pieces)) == block["input"]
    assert [event["type"] for event in streamed][-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_blocks_of_a_conversation_go_back_into_the_prompt():
    used = {"type": "tool_use", "id": "abc123def", "name": "now", "input": {"zone": "UTC"}}
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    result = {"type": "tool_result", "tool_use_id": "abc123def", "content": [{"type": "text", "text": "12:00"}]}
    said = [
        USER,
        {"role": "assistant", "content": [thought, {"type": "text", "text": "So."}, used]},
        {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
    ]
    assert anthropic(messages=said, tool_choice={"type": "none"}, max_tokens=2).status_code == 200
    missing = anthropic(messages=[USER, {"role": "user", "content": [result]}])
    assert (missing.status_code, missing.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "no call before the result" in missing.json()["error"]["message"]


def test_a_thinking_block_comes_before_the_text():
    answer = post(MESSAGES, {"messages": [USER], "max_tokens": 9, "temperature": 0}, THINKING).json()
    assert answer["content"][0]["type"] == "thinking"
    assert answer["content"][0]["thinking"]


def responses(**more):
    tool = {"type": "function", **FUNCTION}
    body = {"input": "?", "max_output_tokens": 400, "temperature": 0, "parallel_tool_calls": False, "tools": [tool]}
    return post(RESPONSES, {**body, "tool_choice": "required", **more})


def test_a_response_has_calls_as_items():
    (item,) = responses().json()["output"]
    assert item["type"] == "function_call"
    assert is_sound(item["name"], json.loads(item["arguments"]))


def test_calls_of_a_response_are_streamed():
    whole = responses().json()["output"]
    streamed = events(responses(stream=True))
    expected = [{**item, "id": ANY, "call_id": ANY} for item in whole]  # without a seed each answer has its own ids
    assert streamed[-1]["response"]["output"] == expected
    pieces = [event["delta"] for event in streamed if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(pieces) == whole[0]["arguments"]
    done = [event["item"] for event in streamed if event["type"] == "response.output_item.done"]
    assert done == expected


def test_items_of_a_conversation_go_back_into_the_prompt():
    call = {"type": "function_call", "call_id": "abc123def", "name": "now", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "abc123def", "output": "12:00"}
    said = [{"role": "user", "content": "?"}, call, output]
    assert responses(input=said, tool_choice="none", max_output_tokens=2).status_code == 200


BAD = {
    "names that repeat": ({"tools": [TOOL, TOOL]}, "tools", "two are called now"),
    "a tool that is none": ({"tools": [{"type": "function"}]}, "tools", "is no tool"),
    "a choice that is no tool": (
        {"tool_choice": {"type": "function", "function": {"name": "x"}}},
        "tool_choice",
        "'x'",
    ),
    "a choice of another type": ({"tool_choice": {"type": "x"}}, "tool_choice", "is neither auto, none"),
    "a result without a call": (
        {"messages": [USER, {"role": "tool", "content": "1", "tool_call_id": "x"}]},
        "tool_call_id",
        "no call before",
    ),
    "a result that names no call": (
        {"messages": [USER, {"role": "tool", "content": "1"}]},
        "messages[1].tool_call_id",
        "says which call it answers",
    ),
    "arguments that are no object": (
        {
            "messages": [
                USER,
                {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "1"}}]},
            ]
        },
        "messages[1].tool_calls",
        "the arguments of f are 1",
    ),
    "a schema that leads elsewhere": (
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"$ref": "x"}}}}}
            ]
        },
        "tools",
        "f: $ref 'x' is not in the schema itself",
    ),
}


@pytest.mark.parametrize(("more", "name", "said"), BAD.values(), ids=BAD)
def test_bad_tools_are_a_400_that_names_them(more, name, said):
    answer = chat(**more)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, name)
    assert said in error["message"]


def test_a_model_whose_template_shows_no_tools_refuses_them():
    answer = post(CHAT, {"messages": [USER], "tools": [TOOL]}, "{{ messages[0].content }}<tool_call>")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
