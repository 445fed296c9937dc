"""Tools and reasoning through the server and its worker, with the clients of OpenAI and Anthropic themselves."""

from __future__ import annotations

import json

import pytest

USER = {"role": "user", "content": "?"}
SCHEMA = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
FUNCTION = {"name": "now", "description": "Tells the time.", "parameters": SCHEMA}
TEMPLATE = (
    "{{ tools | tojson }}{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.tool_call_id }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}"
    '{# {"name": ..., "arguments": ...} #}'
)


THINKING = "{{ messages[0].content }}<think>{# </think> #}"


@pytest.fixture
def url(start, tmp_path, request):
    (tmp_path / "t.jinja").write_text(getattr(request, "param", TEMPLATE))
    return start("--served-name", "t", "-c", "2000", "--chat-template", str(tmp_path / "t.jinja"))[1]


def test_openai_reads_calls_whole_and_streamed_and_sends_results(openai):
    asked = {"model": "t", "messages": [USER], "tools": [{"type": "function", "function": FUNCTION}], "seed": 1}
    asked |= {"tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 900}
    choice = openai.chat.completions.create(**asked).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "now")
    assert json.loads(call.function.arguments)["zone"] in ("UTC", "CET")
    with openai.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert (streamed.id, streamed.function.arguments) == (call.id, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "12:00"}
    messages = [USER, choice.message.model_dump(exclude_none=True), result]
    answer = openai.chat.completions.create(model="t", messages=messages, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("url", [THINKING], indirect=True)
def test_openai_reads_reasoning(openai):
    answer = openai.chat.completions.create(model="t", messages=[USER], max_tokens=9)
    assert answer.choices[0].message.reasoning_content
    assert answer.choices[0].message.content == ""


def test_openai_reads_calls_of_a_response(openai):
    asked = {"model": "t", "input": "?", "tools": [{"type": "function", "strict": True, **FUNCTION}]}
    asked |= {"tool_choice": "required", "parallel_tool_calls": False, "max_output_tokens": 900}
    (item,) = openai.responses.create(**asked).output
    assert (item.type, item.name) == ("function_call", "now")
    with openai.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        (streamed,) = stream.get_final_response().output
    assert "response.function_call_arguments.delta" in kinds
    assert json.loads(streamed.arguments)["zone"] in ("UTC", "CET")


def test_anthropic_reads_tool_use_whole_and_streamed_and_sends_results(anthropic):
    tool = {"name": "now", "description": "Tells the time.", "input_schema": SCHEMA}
    asked = {"model": "t", "max_tokens": 900, "messages": [USER], "tools": [tool]}
    asked["tool_choice"] = {"type": "any", "disable_parallel_tool_use": True}
    whole = anthropic.messages.create(**asked)
    (block,) = whole.content
    assert (whole.stop_reason, block.type, block.name) == ("tool_use", "tool_use", "now")
    assert block.input["zone"] in ("UTC", "CET")
    with anthropic.messages.stream(**asked) as stream:
        (streamed,) = stream.get_final_message().content
    assert streamed.input["zone"] in ("UTC", "CET")
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "12:00"}
    said = [USER, {"role": "assistant", "content": [block.model_dump()]}, {"role": "user", "content": [result]}]
    assert anthropic.messages.create(model="t", max_tokens=2, messages=said).stop_reason == "max_tokens"
