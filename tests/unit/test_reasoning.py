"""Reasoning is told from text, whatever its form and however it comes, and a constraint begins after it."""

from __future__ import annotations

import json

import pytest
from marked import Marked, Saying, chunks

from phiplug.engine import Engine
from phiplug.errors import InvalidParameter
from phiplug.llm import LLM, PromptOptions
from phiplug.markup import Markup
from phiplug.spi import ModelFiles
from phiplug.text.markers import Controls, cut
from phiplug.text.reasoning import FORMATS, Splitter, reasoning_of
from phiplug.text.template import ChatTemplate
from phiplug.types import Constraint, Message

ROWS = {row.name: row for row in FORMATS}
HARMONY = "<|channel|>analysis<|message|>a < b<|end|><|start|>assistant<|channel|>final<|message|>yes"
HARMONY_CONTROLS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")
ANSWERS = {
    "<think>": (ROWS["think"], (), "<think>\na < b\n\n</think>\n\nyes", "a < b", "yes"),
    "<think> as a control token": (ROWS["think"], ("<think>", "</think>"), "<think>a\nb</think>yes", "a\nb", "yes"),
    "nothing thought": (ROWS["think"], (), "<thin king", "", "<thin king"),
    "an empty thought": (ROWS["think"], (), "<think>\n\n</think>\n\nyes\n", "", "yes\n"),
    "text before": (ROWS["think"], (), "ah <think>b</think>yes", "b", "ah yes"),
    "[THINK]": (ROWS["mistral"], ("[THINK]", "[/THINK]"), "[THINK]a[b[/THINK]yes", "a[b", "yes"),
    "harmony": (ROWS["harmony"], HARMONY_CONTROLS, HARMONY, "a < b", "yes"),
    "harmony in letters": (ROWS["harmony"], (), HARMONY, "a < b", "yes"),
    "harmony without reasoning": (ROWS["harmony"], HARMONY_CONTROLS, "<|channel|>final<|message|>yes", "", "yes"),
    "gemma": (ROWS["gemma"], ("<|channel>", "<channel|>"), "<|channel>thought\na<channel|>yes", "a", "yes"),
}


@pytest.mark.parametrize(("row", "controls", "answer", "thought", "said"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_cut_at_any_two_places_is_split_as_it_is_whole(row, controls, answer, thought, said):
    found = Controls(Marked(*controls), Markup(row).markers)
    spelt = found.marker(answer)
    for first in range(len(spelt) + 1):
        for second in range(first, len(spelt) + 1):
            splitter = Splitter(Markup(row), found)
            pieces = [splitter.feed(spelt[:first]), splitter.feed(spelt[first:second]), splitter.feed(spelt[second:])]
            texts, thoughts = zip(*pieces, splitter.flush(), strict=True)
            assert ("".join(thoughts), "".join(texts)) == (thought, said)


@pytest.mark.parametrize(("row", "controls", "answer", "thought", "said"), ANSWERS.values(), ids=ANSWERS)
def test_the_loop_gives_reasoning_beside_text(row, controls, answer, thought, said):
    came = chunks(Marked(*controls), answer, markup=Markup(row))
    assert ("".join(chunk.reasoning for chunk in came), "".join(chunk.text for chunk in came)) == (thought, said)
    assert sum(len(chunk.tokens) for chunk in came) == len(Marked(*controls).encode(answer))


def test_a_marker_that_is_a_control_token_is_no_marker_when_it_is_spelt_in_letters():
    tokenizer = Marked("<think>", "</think>")
    splitter = Splitter(Markup(ROWS["think"]), Controls(tokenizer, Markup(ROWS["think"]).markers))
    assert splitter.feed("<think>a</think>") == ("<think>a</think>", "")


def test_a_control_token_that_completes_no_marker_is_no_text():
    came = chunks(Marked(*HARMONY_CONTROLS), "a<|message|>b<|channel|>", markup=Markup(ROWS["harmony"]))
    assert "".join(chunk.text for chunk in came) == "ab"


def test_reasoning_that_the_prompt_began_goes_on():
    came = chunks(Marked(), "a</think>b", markup=Markup(ROWS["think"], begins_inside=True))
    assert ("".join(chunk.reasoning for chunk in came), "".join(chunk.text for chunk in came)) == ("a", "b")


def test_a_stop_string_stops_the_text_and_not_the_reasoning():
    came = chunks(Marked(), "<think>a END b</think>c END d", markup=Markup(ROWS["think"]), stop=("END",))
    assert ("".join(chunk.reasoning for chunk in came), "".join(chunk.text for chunk in came)) == ("a END b", "c ")


@pytest.mark.parametrize(("row", "controls"), [(each[0], each[1]) for each in ANSWERS.values()], ids=ANSWERS)
@pytest.mark.parametrize("begins_inside", [False, True])
def test_a_constraint_begins_after_the_reasoning(row, controls, begins_inside):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form = Constraint("json_schema", json.dumps({**schema, "additionalProperties": False}))
    tokenizer = Marked(*controls)
    begin = "" if begins_inside else row.begin
    given = f"{begin}hm{row.end}{row.text_begin}"
    came = chunks(tokenizer, given, constraint=form, markup=Markup(row, begins_inside))
    assert "".join(chunk.reasoning for chunk in came) == "hm"
    assert set(json.loads("".join(chunk.text for chunk in came))) == {"a"}
    assert came[-1].constraint == "complete"


def test_a_model_need_not_think_before_a_constrained_answer():
    came = chunks(Marked(), "yes", constraint=Constraint("choice", ("yes", "no")), markup=Markup(ROWS["think"]))
    assert ("".join(chunk.reasoning for chunk in came), "".join(chunk.text for chunk in came)) == ("", "yes")


def test_what_is_cut_is_the_first_marker_and_of_two_there_the_longer():
    assert cut("ab<|a|>b<|a|>", ("<|a|>", "<|a|>b")) == ("ab", "<|a|>b", "<|a|>")
    assert cut("ab<|a", ("<|a|>",)) == ("ab", "", "<|a")
    assert cut("ab<|a|", ("<|b|>",)) == ("ab<|a|", "", "")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ '<think>' }}x</think>", "think"),
        ("<|channel|>analysis<|message|>", "harmony"),
        ("[THINK] [/THINK]", "mistral"),
        ("<|channel>thought\n<channel|>", "gemma"),
        ("<|im_start|>", None),
    ],
)
def test_a_template_shows_how_its_model_thinks(source, name):
    found = reasoning_of(source)
    assert (found.name if found else None) == name


def model(template, tokenizer=None):
    tokenizer = tokenizer or Marked()
    engine = Engine(Saying(tokenizer), tokenizer)
    return LLM(engine, ChatTemplate(template), files=ModelFiles("x", "x", "gguf"), backend="random")


THINKING = "{{ messages[0].content }}{% if think %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"


def test_whether_the_prompt_ends_within_reasoning_is_seen_at_its_end():
    with model(THINKING) as llm:
        inside = llm.stream("a", variables={"think": True}).request.markup
        outside = llm.stream("a", variables={"think": False}).request.markup
        raw = llm.stream("a<think>", raw=True).request.markup
    assert (inside.begins_inside, outside.begins_inside) == (True, False)
    assert raw.reasoning is None


def test_a_completion_has_the_reasoning():
    with model(THINKING) as llm:
        answer = llm.generate("a", variables={"think": True}, max_tokens=20, seed=1)
    assert answer.reasoning
    assert answer.text == ""


def test_the_template_is_given_the_reasoning_of_earlier_turns():
    template = "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.content }};{% endfor %}"
    said = [Message("user", "a"), Message("assistant", "c", "b")]
    assert model(template).render(said, PromptOptions()) == "||a;b|b|c;"
    assert [Message.of(each.as_dict()) for each in said] == said


def test_only_an_assistant_reasons():
    with pytest.raises(InvalidParameter, match="reasoning: a user message has none"):
        Message("user", "a", "b")
