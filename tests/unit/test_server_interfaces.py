"""Tests what the endpoints answer, on the toy model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from served import SAY_HI, ask, client_of, events, make, post, served_model

from phiplug.forms import chat, completions
from phiplug.server.interfaces import messages, models, responses

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def say(**fields):
    return {"messages": SAY_HI, "max_tokens": 8, "seed": 7, **fields}


def content(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_a_conversation_is_answered_in_openais_form():
    answer = post(CHAT, say()).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 8


def test_a_stream_has_the_text_of_the_whole_answer():
    streamed = events(post(CHAT, say(stream=True, stream_options={"include_usage": True})))
    assert streamed[-1] == "[DONE]"
    assert streamed[-2]["usage"]["completion_tokens"] == 8
    assert "".join(c["delta"].get("content", "") for e in streamed[:-1] for c in e["choices"]) == content(
        post(CHAT, say())
    )
    assert streamed[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["finish_reason"] for e in streamed[:-1] for c in e["choices"]][-1] == "length"


def test_each_of_n_choices_is_what_its_own_seed_gives():
    together = post(CHAT, say(n=3)).json()["choices"]
    alone = [content(post(CHAT, say(seed=7 + index))) for index in range(3)]
    assert [choice["message"]["content"] for choice in together] == alone


def test_text_parts_and_a_developer_are_a_text_and_a_system_message():
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}]
    assert content(post(CHAT, say(messages=parts))) == content(post(CHAT, say()))
    asked = [[{"role": who, "content": "Be brief."}, *SAY_HI] for who in ("developer", "system")]
    assert content(post(CHAT, say(messages=asked[0]))) == content(post(CHAT, say(messages=asked[1])))


def test_logprobs_of_a_conversation_name_tokens_and_bytes():
    found = post(CHAT, say(logprobs=True, top_logprobs=2)).json()["choices"][0]["logprobs"]["content"]
    assert len(found) == 8
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= 0 for entry in found)
    assert all(entry["bytes"] is None or bytes(entry["bytes"]).decode() == entry["token"] for entry in found)


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it():
    whole = content(post(CHAT, say(temperature=0)))
    cut = post(CHAT, say(temperature=0, stop=[whole[4:6]])).json()["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(whole[4:6])]
    assert cut["finish_reason"] == "stop"


def test_a_bias_forbids_a_token():
    whole = content(post(CHAT, say(temperature=0, max_tokens=1)))
    assert content(post(CHAT, say(temperature=0, max_tokens=1, logit_bias={str(ord(whole)): -100}))) != whole


def test_echo_with_logprobs_scores_ids_as_lm_eval_reads_them():
    prompts = [list(b"Once upon"), list(b"The")]
    body = {"prompt": prompts, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234}
    choices = post(TEXT, body).json()["choices"]
    for ids, choice in zip(prompts, choices, strict=True):
        found = choice["logprobs"]
        assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["top_logprobs"]) == len(ids) + 1
        assert found["token_logprobs"][0] is None
        assert found["top_logprobs"][0] is None
        assert choice["text"].startswith(bytes(ids).decode())
        for number, top in zip(found["token_logprobs"][1:], found["top_logprobs"][1:], strict=True):
            assert number in top.values()  # the very same float
        assert found["token_logprobs"][-1] == max(found["top_logprobs"][-1].values())


def test_a_text_and_its_ids_go_on_alike():
    body = {"max_tokens": 5, "seed": 1}
    texts = [post(TEXT, {"prompt": prompt, **body}).json()["choices"][0]["text"] for prompt in ("Once", list(b"Once"))]
    ids = ask(make(), "POST", "/tokenize", {"prompt": "Once"}).json()["tokens"]
    assert post(TEXT, {"prompt": ids, **body}).json()["choices"][0]["text"] == texts[0]


def test_many_prompts_are_answered_in_their_order_whole_and_as_a_stream():
    prompts = [f"Line {index}:" for index in range(9)]
    body = {"prompt": prompts, "max_tokens": 4, "seed": 5, "n": 2}
    whole = post(TEXT, body).json()["choices"]
    assert [choice["index"] for choice in whole] == list(range(18))
    texts = dict.fromkeys(range(18), "")
    for event in events(post(TEXT, {**body, "stream": True}))[:-1]:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    assert list(texts.values()) == [choice["text"] for choice in whole]


def test_completions_are_sixteen_tokens_long_where_nothing_is_said():
    assert post(TEXT, {"prompt": "Once", "ignore_eos": True}).json()["usage"]["completion_tokens"] == 16


def test_a_response_is_answered_whole_and_as_a_stream():
    body = {"input": "Say hi.", "instructions": "Be brief.", "max_output_tokens": 6, "temperature": 0}
    whole = post("/v1/responses", body).json()
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    streamed = events(post("/v1/responses", {**body, "stream": True}))
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    said = "".join(event["delta"] for event in streamed if event["type"] == "response.output_text.delta")
    assert said == whole["output"][0]["content"][0]["text"]
    assert streamed[-1]["type"] == "response.incomplete"


def test_a_message_is_answered_whole_and_as_a_stream():
    body = {"messages": SAY_HI, "system": "Brief.", "max_tokens": 6, "temperature": 0}
    whole = post("/v1/messages", body).json()
    assert whole["stop_reason"] == "max_tokens"
    streamed = events(post("/v1/messages", {**body, "stream": True}))
    said = "".join(event["delta"]["text"] for event in streamed if event["type"] == "content_block_delta")
    assert said == whole["content"][0]["text"]
    assert [event["type"] for event in streamed][-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_message_names_the_text_that_ended_it():
    body = {"messages": SAY_HI, "max_tokens": 8, "temperature": 0}
    whole = post("/v1/messages", body).json()["content"][0]["text"]
    cut = post("/v1/messages", {**body, "stop_sequences": ["\x01", whole[3:5]]}).json()
    assert (cut["stop_reason"], cut["stop_sequence"]) == ("stop_sequence", whole[3:5])


def test_tokens_of_a_message_are_counted_as_they_are_charged():
    counted = post("/v1/messages/count_tokens", {"messages": SAY_HI}).json()["input_tokens"]
    used = post("/v1/messages", {"messages": SAY_HI, "max_tokens": 1}).json()["usage"]
    assert counted == used["input_tokens"] + used["cache_read_input_tokens"]


def test_text_goes_to_ids_and_back():
    found = post("/tokenize", {"prompt": "héllo", "add_special_tokens": False, "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert post("/detokenize", {"tokens": found["tokens"]}).json() == {"prompt": "héllo"}
    info = ask(make(), "GET", "/tokenizer_info").json()
    assert "eos_token" in info
    assert "message.role" in info["chat_template"]


def test_variables_reach_a_chat_template_that_reads_them():
    def tokens(**fields):
        template = "{{ messages[0].content }}{% if thorough %} Take your time.{% endif %}"
        answer = ask(
            make(served_model(template=template)),
            "POST",
            "/tokenize",
            {"messages": SAY_HI, "return_token_strs": True, **fields},
        )
        return "".join(answer.json()["token_strs"])

    assert tokens() == "Say hi."
    assert tokens(chat_template_kwargs={"thorough": True}) == "Say hi. Take your time."
    told = {"chat_template_kwargs": {"thorough": 1}, "max_tokens": 1}
    assert post(CHAT, say(**told)).json()["error"]["param"] == "chat_template_kwargs"


def test_models_are_listed_and_shown_with_slashes_in_their_names():
    app = make(served_model("a/b:c"), served_model("d"))
    assert [model["id"] for model in ask(app, "GET", "/v1/models").json()["data"]] == ["a/b:c", "d"]
    assert ask(app, "GET", "/v1/models/a/b:c").json()["context_length"] == 512
    assert ask(app, "GET", "/v1/models/nope").status_code == 404


def test_the_field_backend_picks_an_engine():
    app = make(served_model(backends=("toy", "other")))
    assert ask(app, "POST", CHAT, say(backend="other")).json()["system_fingerprint"] == "phiplug-other"
    wrong = ask(app, "POST", CHAT, say(backend="no")).json()["error"]
    assert wrong["param"] == "backend"


def test_a_lenient_server_names_what_it_passed_over():
    answer = post(CHAT, say(mirostat=2, tempreature=1), lenient=True)
    assert answer.status_code == 200
    assert answer.headers["x-phiplug-ignored"] == "mirostat, tempreature"


def test_what_clients_look_for_and_is_not_served_is_said_in_one_line():
    for path in ("/v1/embeddings", "/api/chat", "/api/tags", "/v1/images/generations", "/v1/audio/speech"):
        answer = post(path, {})
        assert answer.status_code == 404
        assert "not served here" in answer.json()["error"]["message"]


def test_metrics_count_requests_and_tokens_and_say_nothing_of_texts():
    async def scenario():
        async with client_of(make()) as client:
            await client.post(CHAT, json=say())
            return (await client.get("/metrics")).text

    found = asyncio.run(scenario())
    assert 'phiplug_requests_total{route="/v1/chat/completions",status="200"} 1.0' in found
    assert 'phiplug_completion_tokens_total{backend="toy",model="toy"} 8.0' in found
    assert "Say hi" not in found


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("/v1/chat/completions", chat.FIELDS),
        ("/v1/completions", completions.FIELDS),
        ("/v1/responses", responses.FIELDS),
        ("/v1/messages", messages.FIELDS),
        ("/v1/messages/count_tokens", messages.COUNT_FIELDS),
        ("/tokenize", models.TOKENIZE_FIELDS),
        ("/detokenize", models.DETOKENIZE_FIELDS),
    ],
)
def test_the_documentation_has_every_field(name, table):
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    assert table.markdown() in text.split(f"### `POST {name}`")[1]


def test_the_documented_tables_hold_on_json_that_clients_sent():
    """What openai, anthropic, litellm, langchain-openai and ollama sent; see tests/data."""
    lines = (Path(__file__).parents[1] / "data" / "client_requests.jsonl").read_text(encoding="utf-8").splitlines()
    wrong = []
    for line in map(json.loads, lines):
        answer = ask(make(served_model("x")), line["method"], line["path"], line["body"])
        found = answer.json().get("error") or {} if answer.headers["content-type"] == "application/json" else {}
        got = [answer.status_code, found.get("param")]
        if got != line["expect"]:
            wrong.append((line["mark"], line["expect"], got, answer.text[:200]))
    assert not wrong
