"""A conversation grows by whole turns, is prefilled only where it is new, and survives on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import Letters, ScriptedModel

from phiplug.conversation import Conversation
from phiplug.engine import Engine
from phiplug.errors import BackendFailed, InvalidParameter, PromptTooLong, RequestError, UnsupportedParameter
from phiplug.llm import LLM
from phiplug.spi import ModelFiles
from phiplug.text.template import ChatTemplate
from phiplug.transcript import SETTINGS, AnswerOptions, Transcript, read_transcript
from phiplug.types import Message, SamplingParams

TURNS = ChatTemplate("{% for message in messages %}{{ message.content }}o{% endfor %}")
GREEDY = AnswerOptions(SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0), max_tokens=8)


def talk(model, *, tokenizer=None, system=None, options=GREEDY):
    files = ModelFiles("scripted", Path("scripted.gguf"), "gguf")
    llm = LLM(Engine(model, tokenizer or Letters()), TURNS, files=files, backend="scripted")
    return Conversation(llm, system=system, options=options)


def ask(conversation, text):
    reply = conversation.send(text)
    return "".join(chunk.text for chunk in reply)


def said(conversation):
    return [message.content for message in conversation.messages]


def test_a_question_and_its_answer_become_part_of_the_conversation():
    conversation = talk(ScriptedModel({4: 5, 5: 6, 6: 0}), system="a")
    assert ask(conversation, "b") == "ef"
    assert conversation.messages == (Message("system", "a"), Message("user", "b"), Message("assistant", "ef"))


def test_a_second_turn_prefills_only_what_is_new_even_with_a_seed():
    model = ScriptedModel({4: 5, 5: 6, 6: 0})  # "bbco" -> "ef"
    conversation = talk(model)
    ask(conversation, "bbc")
    before = len(model.forwarded())
    reply = conversation.send("d")  # bbco efo do
    chunks = list(reply)
    assert list(reply.request.prompt_ids) == [2, 2, 3, 15, 5, 6, 15, 4, 15]
    assert model.forwarded()[before : before + 3] == [15, 4, 15]
    assert chunks[-1].usage.cached_tokens == 6


class Joining(Letters):
    """Reads "fg" as one token, which a model may well write as two."""

    def encode(self, text, *, parse_special=True):
        return super().encode(text.replace("fg", "l"))


def test_an_answer_that_reads_back_as_other_tokens_costs_only_what_comes_after_the_difference():
    model = ScriptedModel({4: 5, 5: 6, 6: 7, 7: 0})  # "bbco" -> "efg"
    conversation = talk(model, tokenizer=Joining())
    ask(conversation, "bbc")
    before = len(model.forwarded())
    chunks = list(conversation.send("d"))  # bbco el o do
    assert model.forwarded()[before : before + 4] == [12, 15, 4, 15]
    assert chunks[-1].usage.cached_tokens == 5


def test_a_stopped_answer_is_kept_as_far_as_it_was_read():
    conversation = talk(ScriptedModel({2: 5, 3: 6, 4: 7}))
    reply = conversation.send("b")
    assert (next(reply).text, next(reply).text) == ("e", "f")
    reply.close()
    reply.close()
    assert said(conversation) == ["b", "ef"]
    assert ask(conversation, "c")


def test_stopping_before_the_first_text_takes_the_question_back():
    conversation = talk(ScriptedModel())
    conversation.send("b").close()
    assert conversation.messages == ()


def test_an_empty_answer_is_an_answer():
    conversation = talk(ScriptedModel({2: 0}))
    assert ask(conversation, "b") == ""
    assert said(conversation) == ["b", ""]


def test_a_failure_takes_the_question_back_and_the_next_one_is_answered():
    model = ScriptedModel({2: 5, 3: 6, 4: 0}, fails_at=4)
    conversation = talk(model)
    reply = conversation.send("b")
    assert next(reply).text == "e"
    with pytest.raises(BackendFailed):
        list(reply)
    reply.close()
    assert conversation.messages == ()
    model.fails_at = None
    assert ask(conversation, "b") == "ef"


def test_a_conversation_that_outgrows_the_context_is_refused_before_the_turn():
    conversation = talk(ScriptedModel({2: 0}, context_length=8))
    ask(conversation, "b")
    with pytest.raises(PromptTooLong):
        conversation.send("bbbbbb")
    assert said(conversation) == ["b", ""]


@pytest.mark.parametrize("nothing", ["", "  \n"])
def test_saying_nothing_is_refused(nothing):
    with pytest.raises(InvalidParameter, match="is empty"):
        talk(ScriptedModel()).send(nothing)


def test_a_reply_is_read_or_closed_before_the_next_one():
    conversation = talk(ScriptedModel())
    first = conversation.send("b")
    next(first)
    with pytest.raises(RequestError, match="the reply before this one is open"):
        conversation.send("c")
    first.close()


def test_reset_forgets_all_but_the_system_message():
    conversation = talk(ScriptedModel({4: 0}), system="a")
    ask(conversation, "b")
    conversation.reset()
    assert said(conversation) == ["a"]
    conversation.system = None
    assert conversation.messages == ()


def test_another_model_goes_on_with_what_was_said():
    conversation = talk(ScriptedModel({2: 5, 3: 0}))
    ask(conversation, "b")
    conversation.llm = talk(other := ScriptedModel({6: 7, 7: 0})).llm
    assert ask(conversation, "c") == "g"
    assert other.forwarded()[:6] == [2, 15, 5, 15, 3, 15]
    assert said(conversation) == ["b", "e", "c", "g"]


def test_what_is_saved_is_loaded_again(tmp_path):
    options = GREEDY.changed({"logit_bias": {"3": -1.5}, "stop": "x", "dialect": "llama.cpp", "dry_breakers": [[1, 2]]})
    first = talk(ScriptedModel({4: 5, 5: 0}), system="a", options=options)
    ask(first, "b")
    first.save(tmp_path / "chat.json")
    first.save(tmp_path / "chat.json")
    second = talk(ScriptedModel())
    transcript = second.load(tmp_path / "chat.json")
    assert (second.messages, second.options, second.system) == (first.messages, options, "a")
    assert (transcript.model, transcript.backend) == ("scripted", "scripted")
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]


def test_a_file_with_messages_alone_is_a_conversation(tmp_path):
    (tmp_path / "chat.json").write_text('{"messages": [{"role": "user", "content": "b"}]}')
    conversation = talk(ScriptedModel())
    conversation.load(tmp_path / "chat.json")
    assert (said(conversation), conversation.options) == (["b"], GREEDY)


NO_CONVERSATION = {
    "nothing": "",
    "text": "hello",
    "a list": "[]",
    "no messages": '{"model": "x"}',
    "messages that are a text": '{"messages": "b"}',
    "a message that is a text": '{"messages": ["b"]}',
    "a message without a role": '{"messages": [{"content": "b"}]}',
    "an unknown role": '{"messages": [{"role": "king", "content": "b"}]}',
    "a content that is no text": '{"messages": [{"role": "user", "content": 3}]}',
    "half a character": '{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "a late system message": '{"messages": [{"role": "user", "content": ""}, {"role": "system", "content": ""}]}',
    "options that are a list": '{"messages": [], "options": []}',
    "an unknown option": '{"messages": [], "options": {"heat": 1}}',
    "an option out of range": '{"messages": [], "options": {"top_p": 2}}',
    "a thousand brackets": "[" * 100_000,
}


@pytest.mark.parametrize("content", NO_CONVERSATION.values(), ids=NO_CONVERSATION)
def test_what_is_no_conversation_is_refused_and_changes_nothing(tmp_path, content):
    (tmp_path / "chat.json").write_text(content)
    conversation = talk(ScriptedModel({2: 0}))
    ask(conversation, "b")
    with pytest.raises(InvalidParameter):
        conversation.load(tmp_path / "chat.json")
    assert (said(conversation), conversation.options) == (["b", ""], GREEDY)


def test_a_file_that_is_no_conversation_is_not_overwritten(tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(InvalidParameter, match="is there, and is no conversation"):
        talk(ScriptedModel()).save(tmp_path / "diary.txt")
    assert (tmp_path / "diary.txt").read_text() == "dear diary"


@pytest.mark.parametrize("name", ["none/chat.json", "."])
def test_a_place_where_nothing_can_be_written_is_named(tmp_path, name):
    with pytest.raises(InvalidParameter, match="file: "):
        talk(ScriptedModel()).save(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidParameter, match="cannot be read: No such file"):
        read_transcript(tmp_path / "none.json")


def test_every_setting_goes_to_json_and_back():
    options = GREEDY.changed({"stop": ["x", "y"], "logit_bias": {"7": 2}, "strict_content": True})
    values = options.values()
    assert set(values) == set(SETTINGS)
    assert AnswerOptions().changed(json.loads(json.dumps(values))) == options


WRONG = {
    "temperature": ["hot", None, -1, True, float("nan")],
    "top_k": [0.5, "3"],
    "logit_bias": [3, {"a": 1}, {"3": "x"}, [1]],
    "dry_breakers": [3, [3], [["a"]], [[]]],
    "dialect": ["latin", 3, []],
    "stop": ["", [3], 3],
    "max_tokens": [0, 1.5, "many"],
    "strict_content": [1, "yes"],
    "seed": [-1, 2**64],
    "penalize_prompt": [3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_setting_of_the_wrong_kind_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidParameter) as refused:
        AnswerOptions().changed({name: value})
    assert refused.value.name == name


def test_a_setting_that_the_dialect_lacks_is_refused():
    with pytest.raises(UnsupportedParameter, match="min_p"):
        AnswerOptions().changed({"dialect": "candle", "min_p": 0.1})


def test_a_misspelt_setting_is_answered_with_the_right_one():
    with pytest.raises(InvalidParameter, match="did you mean temperature"):
        AnswerOptions().changed({"temprature": 1})


def test_a_transcript_is_in_a_form_that_other_programs_read(tmp_path):
    Transcript((Message("user", "b"),)).write(tmp_path / "chat.json")
    assert json.loads((tmp_path / "chat.json").read_text())["messages"] == [{"role": "user", "content": "b"}]
