"""Tests the server with the clients of OpenAI and Anthropic themselves, where they are installed."""

from __future__ import annotations

import json

import pytest

SAY_HI = [{"role": "user", "content": "Say hi."}]


@pytest.fixture
def url(start):
    return start("--served-name", "t")[1]


def test_openai_lists_models_and_chats(openai):
    assert [model.id for model in openai.models.list()] == ["t"]
    whole = openai.chat.completions.create(model="t", messages=SAY_HI, max_tokens=5, seed=1)
    streamed = openai.chat.completions.create(
        model="t", messages=SAY_HI, max_tokens=5, seed=1, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(streamed)
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 5


def test_openai_reads_logprobs_and_choices(openai):
    answer = openai.chat.completions.create(
        model="t", messages=SAY_HI, max_completion_tokens=3, n=2, logprobs=True, top_logprobs=2
    )
    assert all(len(choice.logprobs.content[0].top_logprobs) == 2 for choice in answer.choices)
    texts = openai.completions.create(model="t", prompt=["Once", "Two"], echo=True, logprobs=2, max_tokens=1)
    assert [choice.logprobs.token_logprobs[0] for choice in texts.choices] == [None, None]


def test_openai_reads_responses(openai):
    whole = openai.responses.create(model="t", input="Say hi.", max_output_tokens=6, temperature=0)
    assert (whole.status, len(whole.output_text)) == ("incomplete", 6)
    with openai.responses.stream(model="t", input="Say hi.", max_output_tokens=6, temperature=0) as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert said == whole.output_text


def test_openai_raises_its_own_errors_with_the_field(openai):
    import openai as module

    with pytest.raises(module.NotFoundError) as unknown:
        openai.chat.completions.create(model="nope", messages=SAY_HI)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(module.BadRequestError) as wrong:
        openai.chat.completions.create(model="t", messages=SAY_HI, temperature=9)
    assert wrong.value.param == "temperature"


def test_anthropic_chats_streams_and_counts(anthropic):
    body = {"model": "t", "max_tokens": 4, "messages": SAY_HI, "system": "Brief."}
    greedy = {"temperature": 0}  # which the newest client has no argument for
    whole = anthropic.messages.create(**body, extra_body=greedy)
    with anthropic.messages.stream(**body, extra_body=greedy) as stream:
        assert stream.get_final_text() == whole.content[0].text
    counted = anthropic.messages.count_tokens(model="t", messages=SAY_HI, system="Brief.").input_tokens
    assert counted == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_anthropic_raises_its_own_errors(anthropic):
    import anthropic as module

    with pytest.raises(module.BadRequestError, match="tools"):
        anthropic.messages.create(
            model="t", max_tokens=4, messages=SAY_HI, tools=[{"name": "f", "input_schema": {"type": "object"}}]
        )


SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
NAMED = {"name": "n", "strict": True, "schema": SCHEMA}


def test_openai_gets_answers_of_a_form(openai):
    form = {"type": "json_schema", "json_schema": NAMED}
    chat = openai.chat.completions.create(model="t", messages=SAY_HI, response_format=form)
    response = openai.responses.create(model="t", input="Say hi.", text={"format": {"type": "json_schema", **NAMED}})
    for said in (chat.choices[0].message.content, response.output_text):
        assert json.loads(said)["colour"] in ("red", "blue")
    chosen = openai.chat.completions.create(
        model="t", messages=SAY_HI, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}
    )
    assert chosen.choices[0].message.content in ("yes", "no")


def test_openai_is_told_which_field_holds_a_schema_that_cannot_be_enforced(openai):
    import openai as module

    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array", "uniqueItems": True}}}
    for stream in (False, True):
        with pytest.raises(module.BadRequestError, match="uniqueItems") as wrong:
            openai.chat.completions.create(model="t", messages=SAY_HI, response_format=form, stream=stream)
        assert wrong.value.param == "response_format.json_schema.schema"


def test_anthropic_gets_answers_of_a_form(anthropic):
    answer = anthropic.messages.create(
        model="t", max_tokens=99, messages=SAY_HI, output_config={"format": {"type": "json_schema", "schema": SCHEMA}}
    )
    assert json.loads(answer.content[0].text)["colour"] in ("red", "blue")
