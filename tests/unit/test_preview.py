"""What a template makes of a sample conversation, and what is said of it."""

from __future__ import annotations

import pytest

from phiplug.errors import TemplateFailed
from phiplug.modelinfo.preview import SAMPLE, preview
from phiplug.text.template import ChatTemplate
from phiplug.types import Message

TURNS = "{% for m in messages %}[{{ m.content }}]{% endfor %}"


class Characters:
    """A tokenizer: a character is a token; `^` is the BOS."""

    special_tokens = {"bos_token": "^"}  # noqa: RUF012  a constant of the protocol
    bos_id = ord("^")

    def __init__(self, adds_bos=False):
        self.adds_bos = adds_bos

    def encode(self, text, *, parse_special=True):
        return list(map(ord, text))


def shown(source, *, adds_bos=False, messages=SAMPLE):
    return preview(ChatTemplate(source), Characters(adds_bos), messages)


def test_a_preview_has_the_text_its_ids_and_no_complaint():
    seen = shown(TURNS)
    assert seen.text == "".join(f"[{message.content}]" for message in SAMPLE)
    assert seen.ids == tuple(map(ord, seen.text))
    assert seen.roles == ("system", "user", "assistant", "user")
    assert seen.warnings == ()


def test_a_dropped_message_is_a_warning():
    seen = shown("{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}")
    assert seen.warnings == ("the template drops the system message",)


def test_a_template_that_refuses_a_system_message_is_shown_without_it():
    seen = shown("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS)
    assert seen.roles == ("user", "assistant", "user")
    (warning,) = seen.warnings
    assert warning.startswith("the template refuses a system message: ")
    assert "no system" in warning


@pytest.mark.parametrize("messages", [SAMPLE, SAMPLE[1:], (Message("user", "x"),)])
def test_a_template_that_refuses_everything_fails(messages):
    with pytest.raises(TemplateFailed, match="never"):
        shown("{{ raise_exception('never') }}", messages=messages)


BOS = {  # template, the model's flag -> how many there are in the end, and what is said
    "none": (TURNS, False, 0, ""),
    "the flag's": (TURNS, True, 1, ""),
    "the template's": ("{{ bos_token }}" + TURNS, False, 1, ""),
    "the template's and the flag's": ("{{ bos_token }}" + TURNS, True, 1, "phiplug gives one, others may give two"),
    "the template's two": ("^^" + TURNS, False, 2, "begins with two BOS tokens; both are kept"),
    "the template's two and the flag's": ("^^" + TURNS, True, 1, "begins with two BOS tokens; one is dropped"),
}


@pytest.mark.parametrize(("source", "adds_bos", "count", "said"), BOS.values(), ids=BOS)
def test_a_bos_is_there_as_often_as_the_model_is_given_it(source, adds_bos, count, said):
    seen = shown(source, adds_bos=adds_bos)
    assert seen.ids.count(ord("^")) == count
    assert len(seen.warnings) == bool(said)
    assert said in "".join(seen.warnings)
