"""Text in, text out: templates, control tokens, repeatability, observers."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from scripted import Letters, ScriptedModel

from phiplug.engine import Engine
from phiplug.errors import InvalidParameter, PhiplugWarning, PromptTooLong, RequestError, TemplateFailed
from phiplug.llm import LLM, PromptOptions
from phiplug.load import load
from phiplug.spi import ModelFiles
from phiplug.text.template import ChatTemplate
from phiplug.types import Message, SamplingParams

PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
NO_SYSTEM = "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
FILES = ModelFiles("letters.gguf", Path("letters.gguf"), "gguf")


class Controlled(Letters):
    """Letters, of which "z" counts as a control token; begins with a BOS where it is asked to."""

    bos_id = 15

    def __init__(self, *, adds_bos=False):
        super().__init__()
        self.adds_bos = adds_bos

    def control_tokens_in(self, text):
        return [letter for letter in text if letter == "z"]

    def encode(self, text, *, parse_special=True):
        return [15 if letter == "^" else 1 + (ord(letter) - ord("a")) % 14 for letter in text]


def llm(template=PLAIN, tokenizer=None, finished=None, **model):
    engine = Engine(ScriptedModel(**model), tokenizer or Controlled())
    return LLM(engine, ChatTemplate(template) if template else None, files=FILES, backend="scripted", finished=finished)


def test_a_text_is_one_user_message():
    with llm() as model:
        assert model.encode("abc") == model.encode([Message("user", "abc")]) == [1, 2, 3]


def test_a_raw_text_meets_no_template_and_needs_none():
    model = llm(template=None)
    assert model.encode("abc", PromptOptions(raw=True)) == [1, 2, 3]
    assert model.generate("abc", raw=True, max_tokens=1, seed=0).prompt_ids == (1, 2, 3)


def test_a_model_without_a_template_says_how_to_give_one():
    with pytest.raises(TemplateFailed, match=r"letters.gguf brings no chat template \(give one with `chat_template`"):
        llm(template=None).encode("abc")


def test_a_raw_conversation_makes_no_sense():
    with pytest.raises(InvalidParameter, match="raw: takes one text"):
        llm().encode([Message("user", "a")], PromptOptions(raw=True))


@pytest.mark.parametrize("prompt", ["", []])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(InvalidParameter, match="prompt: is empty"):
        llm().encode(prompt)


def test_a_template_that_renders_nothing_is_refused():
    silent = llm(template="{% if false %}x{% endif %}")
    with pytest.warns(PhiplugWarning, match="drops the user"), pytest.raises(InvalidParameter, match="is empty"):
        silent.generate("abc", seed=0)


def test_a_message_that_the_template_drops_is_warned_of():
    model = llm(template=NO_SYSTEM)
    with pytest.warns(PhiplugWarning, match="drops the system message"):
        model.encode([Message("system", "mnop"), Message("user", "abc")])


def test_a_control_token_in_a_message_is_warned_of_or_refused():
    model = llm()
    with pytest.warns(PhiplugWarning, match="the user message holds the control token 'z'"):
        model.encode("az")
    with pytest.raises(InvalidParameter, match="content: the user message holds the control token 'z'"):
        model.encode("az", PromptOptions(strict_content=True))


def test_a_control_token_in_a_raw_prompt_is_meant():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm().encode("az", PromptOptions(raw=True))


def test_a_prompt_begins_with_exactly_one_bos_where_the_tokenizer_asks_for_it():
    asking = llm(tokenizer=Controlled(adds_bos=True))
    assert asking.encode("ab") == asking.encode("^ab") == asking.encode("^^ab") == [15, 1, 2]
    assert llm().encode("^^ab") == [15, 15, 1, 2]


GREETING = "{% for message in messages %}{{ message.content }}{% endfor %}{% if polite %}a{% endif %}{{ word }}"


def test_variables_reach_the_template():
    model = llm(GREETING)
    assert model.render("bc", PromptOptions(variables={"polite": True, "word": "d"})) == "bcad"
    assert model.stream("bc", variables={"polite": True}).request.prompt_ids == (2, 3, 1)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"polite": True, "enable_thinking": False}, r"'enable_thinking' \(it reads polite, word\)"),
        ({"messages": []}, "messages is set by phiplug itself"),
        ({"tools": []}, "tools is set by phiplug itself"),
    ],
)
def test_a_variable_that_the_template_does_not_read_is_refused_by_name(variables, said):
    with pytest.raises(InvalidParameter, match=f"variables: .*{said}"):
        llm(GREETING).encode("abc", PromptOptions(variables=variables))


def test_a_raw_prompt_has_no_variables():
    with pytest.raises(InvalidParameter, match="variables: a raw prompt has no template"):
        llm(GREETING).stream("abc", raw=True, variables={"polite": True})


def test_a_stream_knows_the_seed_that_was_drawn():
    stream = llm().stream("abc", max_tokens=1)
    assert 0 <= stream.request.sampling.seed < 2**64
    assert stream.completion().sampling == stream.request.sampling


def test_arguments_override_the_parameters_and_leave_the_others():
    stream = llm().stream("abc", temperature=0.5, top_k=3, params=SamplingParams(temperature=2.0, min_p=0.1, seed=4))
    sampling = stream.request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.min_p, sampling.seed) == (0.5, 3, 0.1, 4)


def test_a_parameter_out_of_range_is_refused_at_once():
    with pytest.raises(InvalidParameter, match="top_p"):
        llm().stream("abc", top_p=2.0)


def test_options_of_the_wrong_type_are_refused_at_once():
    with load("toy", backend="toy") as llm, pytest.raises(InvalidParameter, match=r"^params: int is no "):
        llm.generate("hi", params=5)
    with pytest.raises(InvalidParameter, match=r"^chat_template: int is not text"):
        load("toy", backend="toy", chat_template=5)


def test_a_prompt_that_is_too_long_is_refused_at_once():
    with pytest.raises(PromptTooLong):
        llm(context_length=3).stream("abcd")


@pytest.mark.parametrize(("given", "repeatable"), [({"seed": 1}, True), ({"temperature": 0.0}, True), ({}, False)])
def test_requests_that_can_be_repeated_reuse_only_what_keeps_them_so(given, repeatable):
    request = llm().stream("abc", **given).request
    assert (request.repeatable, request.may_autotune) == (repeatable, not repeatable)


def test_one_stop_string_may_be_given_as_it_is():
    assert llm().stream("abc", stop="xy").request.stop == ("xy",)
    assert llm().stream("abc", stop=["x", "y"]).request.stop == ("x", "y")


def test_an_observer_hears_of_a_request_that_ran_to_its_end_and_of_no_other():
    heard = []
    model = llm(finished=lambda request, usage, timings: heard.append(usage.completion_tokens))
    model.generate("abc", max_tokens=3, seed=0)
    cut = model.stream("abc", max_tokens=3, seed=0)
    next(cut)
    cut.close()
    assert heard == [3]


def test_a_stream_that_was_read_in_part_still_gives_the_whole_answer():
    stream = llm(script={3: 4, 4: 5, 5: 6}).stream("abc", max_tokens=3, temperature=0.0)
    next(stream)
    assert stream.completion().tokens == stream.completion().tokens == (4, 5, 6)


def test_a_stream_that_was_closed_has_no_whole_answer():
    stream = llm().stream("abc", max_tokens=3)
    next(stream)
    stream.close()
    with pytest.raises(RequestError, match="closed before its last chunk"):
        stream.completion()


def test_a_model_that_was_closed_says_so():
    model = llm()
    model.close()
    with pytest.raises(RequestError, match="the model was closed"):
        model.generate("abc")


def test_closing_twice_is_no_harm():
    model = llm()
    model.close()
    model.close()
    assert model.engine.model.closed == 1


def test_messages_may_be_dicts_and_other_things_are_refused_with_a_hint():
    model = llm()
    assert model.encode([{"role": "user", "content": "ab"}]) == model.encode("ab")
    for prompt in (Message("user", "ab"), {"role": "user", "content": "ab"}):
        with pytest.raises(InvalidParameter, match="put one message into a list"):
            model.encode(prompt)
    for prompt in (b"ab", ["ab"], [("user", "ab")], 5):
        with pytest.raises(InvalidParameter):
            model.encode(prompt)


def test_ids_become_text_and_ids_of_no_token_are_refused():
    model = llm()
    assert model.decode([1, 2]) == "ab"
    with pytest.raises(InvalidParameter, match=r"^ids: "):
        model.decode([10**6])


def test_leaving_the_block_of_a_stream_cancels_it():
    model = llm()
    with model.stream("abc", max_tokens=3) as stream:
        next(stream)
    assert list(stream) == []


def test_a_model_and_a_stream_say_what_they_are():
    model = llm()
    assert "scripted" in repr(model)
    assert repr(model.stream("abc", max_tokens=3)) == "<Stream of 3 prompt tokens, 0 chunks read, open>"
