"""Calls of tools are read whatever their form and however they come, and the grammar allows nothing else."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from marked import Marked, Saying, chunks
from tool_formats import ARGUMENTS, CONTROLS, NOW, OUTPUTS, ROWS, VERDICTS, WEATHER, accepts, calls_in

from phiplug.engine import Engine
from phiplug.errors import InvalidParameter, PhiplugWarning, UnsupportedParameter
from phiplug.llm import LLM, PromptOptions
from phiplug.markup import Markup, ToolUse
from phiplug.messages import calls_of
from phiplug.spi import ModelFiles
from phiplug.text.constraint import Grammars, check_tools
from phiplug.text.markers import Controls
from phiplug.text.reasoning import FORMATS as REASONING
from phiplug.text.template import ChatTemplate
from phiplug.text.tools.formats import format_of
from phiplug.text.tools.parser import CallParser
from phiplug.types import Constraint, Message, Request, SamplingParams, Tool, ToolCall

THINK = next(row for row in REASONING if row.name == "think")
HARMONY = next(row for row in REASONING if row.name == "harmony")
TOOLS = (WEATHER, NOW)
SPELT = [(name, controls) for name in OUTPUTS for controls in ((), CONTROLS[name])]


def markup(name, reasoning=None, **options):
    return Markup(reasoning, tools=ToolUse(ROWS[name], TOOLS, **options))


def named(calls):
    return [(call.name, call.values) for call in calls]


@pytest.mark.parametrize(("name", "controls"), SPELT)
def test_an_answer_cut_anywhere_has_the_calls_that_it_has_whole(name, controls):
    found = Controls(Marked(*controls), markup(name).markers)
    spelt = found.marker("Well.\n" * (not ROWS[name].is_bare) + OUTPUTS[name])
    for at in range(len(spelt) + 1):
        parser = CallParser(markup(name).tools, found, str)
        pieces = [parser.feed(spelt[:at]), parser.feed(spelt[at:])]
        texts, deltas = zip(*pieces, strict=True)
        assert "".join(texts) + parser.flush() == "Well.\n" * (not ROWS[name].is_bare)
        assert named(calls_of(delta for each in deltas for delta in each)) == calls_in(name)


@pytest.mark.parametrize(("name", "controls"), SPELT)
def test_name_and_arguments_come_before_the_call_is_whole(name, controls):
    found = Controls(Marked(*controls), markup(name).markers)
    parser = CallParser(markup(name).tools, found, str)
    came = [parser.feed(each)[1] for each in found.marker(OUTPUTS[name])]
    deltas = [delta for each in came for delta in each]
    assert (deltas[0].id, deltas[0].name) == ("0", "get_weather")
    assert len([delta for delta in deltas if delta.index == 0 and delta.arguments]) > 5
    assert all(delta.name == delta.id == "" for delta in deltas[1:] if delta.index == 0)


@pytest.mark.parametrize(("name", "controls"), SPELT)
@pytest.mark.parametrize("required", [False, True])
def test_the_loop_gives_the_calls_that_the_model_writes(name, controls, required):
    came = chunks(Marked(*controls), OUTPUTS[name], markup=markup(name, required=required))
    calls = calls_of(delta for chunk in came for delta in chunk.tool_calls)
    assert named(calls) == calls_in(name)
    assert came[-1].finish_reason == "tool_calls"
    assert came[-1].constraint is None
    assert "".join(chunk.text for chunk in came) == ""
    assert all(len(call.id) == 9 and call.id.isalnum() for call in calls)
    assert len({call.id for call in calls}) == len(calls)


@pytest.mark.parametrize("name", [name for name in OUTPUTS if not ROWS[name].is_bare and name != "gpt-oss"])
def test_text_may_come_before_a_call_or_alone(name):
    came = chunks(Marked(*CONTROLS[name]), f"Well.{OUTPUTS[name]}", markup=markup(name))
    assert "".join(chunk.text for chunk in came) == "Well."
    assert came[-1].finish_reason == "tool_calls"
    alone = chunks(Marked(*CONTROLS[name]), "Well. [1] {2} <3>", markup=markup(name))
    assert "".join(chunk.text for chunk in alone) == "Well. [1] {2} <3>"
    assert alone[-1].finish_reason == "stop"


def test_an_answer_that_only_begins_like_a_bare_call_is_text():
    for said in ('{"names": 1}', "{", "no {call}"):
        came = chunks(Marked(), said, markup=markup("llama-3"))
        assert "".join(chunk.text for chunk in came) == said
        assert came[-1].finish_reason == "stop"


def test_a_bare_call_may_have_its_marker():
    tokenizer = Marked("<|python_tag|>")
    came = chunks(tokenizer, "<|python_tag|>" + OUTPUTS["llama-3"], markup=markup("llama-3"))
    assert named(calls_of(delta for chunk in came for delta in chunk.tool_calls)) == calls_in("llama-3")


@pytest.mark.parametrize(("name", "controls"), SPELT)
def test_random_logits_make_calls_where_a_call_is_required(name, controls):
    came = chunks(Marked(*controls), markup=markup(name, required=True), max_tokens=800)
    calls = calls_of(delta for chunk in came for delta in chunk.tool_calls)
    assert came[-1].finish_reason in ("tool_calls", "length")
    if came[-1].finish_reason == "tool_calls":
        assert calls
    for call in calls:
        assert call.name in ("get_weather", "now")
        assert call.values == {} if call.name == "now" else isinstance(call.values["city"], str)
        assert type(call.values.get("days", 0)) is int


@pytest.mark.parametrize(("name", "controls"), SPELT)
@pytest.mark.parametrize(("change", "holds"), VERDICTS.values(), ids=VERDICTS)
def test_the_grammar_takes_what_is_a_call_and_nothing_else(name, controls, change, holds):
    tokenizer = Marked(*controls)
    assert accepts(tokenizer, markup(name, required=True), change(OUTPUTS[name])) == holds


def test_one_call_is_all_where_calls_are_not_parallel():
    for name in OUTPUTS:
        if not ROWS[name].is_single:
            assert not accepts(Marked(*CONTROLS[name]), markup(name, parallel=False), OUTPUTS[name])


def test_calls_come_after_the_reasoning():
    came = chunks(Marked(), f"<think>hm</think>\n\n{OUTPUTS['hermes']}", markup=markup("hermes", THINK, required=True))
    assert "".join(chunk.reasoning for chunk in came) == "hm"
    assert named(calls_of(delta for chunk in came for delta in chunk.tool_calls)) == calls_in("hermes")


def test_harmony_has_reasoning_then_a_call_or_text():
    controls = (*CONTROLS["gpt-oss"], "<|end|>", "<|start|>")
    thought = f"{HARMONY.begin}hm{HARMONY.end}"
    called = chunks(Marked(*controls), thought + OUTPUTS["gpt-oss"], markup=markup("gpt-oss", HARMONY))
    assert named(calls_of(delta for chunk in called for delta in chunk.tool_calls)) == calls_in("gpt-oss")
    said = chunks(Marked(*controls), f"{thought}{HARMONY.text_begin}yes", markup=markup("gpt-oss", HARMONY))
    assert ("".join(chunk.reasoning for chunk in said), "".join(chunk.text for chunk in said)) == ("hm", "yes")


def test_a_constraint_holds_the_text_and_not_the_calls():
    form = Constraint("choice", ("yes", "no"))
    said = chunks(Marked(), "yes", markup=markup("hermes"), constraint=form)
    assert ("".join(chunk.text for chunk in said), said[-1].constraint) == ("yes", "complete")
    called = chunks(Marked(), OUTPUTS["hermes"], markup=markup("hermes"), constraint=form)
    assert called[-1].finish_reason == "tool_calls"


def test_a_call_that_is_cut_off_is_no_call_of_the_completion():
    tokenizer = Marked()
    engine = Engine(Saying(tokenizer, OUTPUTS["hermes"]), tokenizer)
    answer = engine.submit(Request((1,), SamplingParams(seed=1), max_tokens=60, markup=markup("hermes"))).completion()
    assert (answer.finish_reason, answer.tool_calls) == ("length", ())


@pytest.mark.parametrize("name", [name for name in OUTPUTS if not ROWS[name].is_bare])
def test_nothing_of_a_call_that_is_cut_off_is_text(name):
    tokenizer = Marked(*CONTROLS[name])
    tokens = len(tokenizer.encode(OUTPUTS[name]))
    for at in range(len(ROWS[name].begin) + 1, tokens, 7):
        came = chunks(tokenizer, OUTPUTS[name], markup=markup(name, required=True), max_tokens=at)
        assert "".join(chunk.text for chunk in came) == ""


def test_ids_of_calls_depend_on_the_request_alone():
    first, again, other = (
        calls_of(delta for chunk in chunks(Marked(), OUTPUTS["hermes"], markup=markup("hermes"), seed=seed)
                 for delta in chunk.tool_calls)
        for seed in (1, 1, 2)
    )  # fmt: skip
    assert first == again
    assert first != other


SHOWING = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{{ c.id }}{% endfor %}"
    "{% if m.tool_call_id %}({{ m.tool_call_id }} {{ m.name }}){% endif %};{% endfor %}"
    '{# {"name": ..., "arguments": ...} #}'
)


def model(template=SHOWING, answer=None):
    tokenizer = Marked()
    engine = Engine(Saying(tokenizer, answer), tokenizer)
    return LLM(engine, ChatTemplate(template), files=ModelFiles("m", "m", "gguf"), backend="saying")


def test_a_conversation_with_calls_and_results_reaches_the_template():
    call = ToolCall("abc123def", "get_weather", {"city": "Oslo"})
    said = [
        Message("user", "?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "3", tool_call_id=call.id),
    ]
    shown = model().render(said, PromptOptions(tools=TOOLS))
    assert shown.endswith(
        'user:?;assistant:<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>abc123def;'
        "tool:3(abc123def get_weather);"
    )
    assert json.loads(shown.split("</tools>")[0].removeprefix("<tools>")) == [tool.as_dict() for tool in TOOLS]
    assert [Message.of(each.as_dict()) for each in said] == said


def test_a_template_that_joins_arguments_to_a_text_gets_text():
    template = "<\uff5ctool\u2581calls\u2581begin\uff5c>{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}{% endfor %}{{ m.content }}{% endfor %}"  # noqa: E501
    call = ToolCall("abc123def", "now", {"a": 1})
    assert '{"a": 1}' in model(template).render([Message("user", "?"), Message("assistant", "", tool_calls=(call,))])


@pytest.mark.parametrize("source", ["{{ xml_tools }}", "{{ functions }}"])
def test_some_templates_read_tools_by_another_name(source):
    template = source + '{{ messages[0].content }}{# <tool_call> "arguments" #}'
    assert "get_weather" in model(template).render("?", PromptOptions(tools=TOOLS))


def test_tools_are_options_of_a_stream():
    template = SHOWING + "<tool_call>"
    with model(template, OUTPUTS["hermes"]) as llm:
        llm.engine.model.prompt = len(llm.encode("?", PromptOptions(tools=TOOLS)))
        answer = llm.generate("?", tools=[WEATHER, NOW.as_dict()], tool_choice="required", seed=1)
        assert (named(answer.tool_calls), answer.finish_reason) == (calls_in("hermes"), "tool_calls")
        chosen = llm.stream("?", tools=TOOLS, tool_choice="now", parallel_tool_calls=False).request.markup.tools
        assert ([tool.name for tool in chosen.tools], chosen.required, chosen.parallel) == (["now"], True, False)
        hidden = llm.stream("?", tools=TOOLS, tool_choice="none").request
    assert hidden.markup.tools is None
    assert len(hidden.prompt_ids) < len(answer.prompt_ids)


REFUSED = {
    "a template that shows no tools": (
        {"tools": TOOLS},
        '{{ messages[0].content }}<tool_call>{# "arguments" #}',
        "not show get_weather",
    ),
    "an unknown form": (
        {"tools": TOOLS},
        "{{ tools }}<x:tool_call>{{ messages }}",
        "shows with '<x:tool_call>' is not",
    ),
    "no form": ({"tools": TOOLS}, "{{ tools }}{{ messages[0].content }}", "no form of calls that is known"),
    "a choice without tools": ({"tool_choice": "required"}, SHOWING, "tool_choice: 'required' is not auto or none"),
    "a choice that is no tool": (
        {"tools": TOOLS, "tool_choice": "x"},
        SHOWING,
        "'x' is not auto, none, required, get_w",
    ),
    "names that repeat": ({"tools": (NOW, NOW)}, SHOWING, "tools: two are called now"),
    "raw": ({"tools": TOOLS, "raw": True}, SHOWING, "a raw prompt has no template"),
    "no list": ({"tools": {"a": 1}}, SHOWING, "dict is no list of tools"),
    "no tool": ({"tools": [1]}, SHOWING, "1 is no tool"),
    "an entry that nothing reads": (
        {"tools": [{"type": "function", "function": {"name": "f", "x": 1}}]},
        SHOWING,
        "nothing reads the entry 'x' of 'f'",
    ),
}


@pytest.mark.parametrize(("options", "template", "said"), REFUSED.values(), ids=REFUSED)
def test_tools_that_would_not_be_honoured_are_refused(options, template, said):
    with pytest.raises((InvalidParameter, UnsupportedParameter), match=said), model(template) as llm:
        llm.stream("?", **options)


BAD = {
    "a quote in a name": (lambda: Tool('a"b'), "'a\"b' is no name"),
    "parameters that are no JSON": (lambda: Tool("f", "", "{"), "the parameters of f cannot be read as JSON"),
    "parameters that are a list": (
        lambda: Tool("f", "", "[1]"),
        r"the parameters of f are \[1\], and not a JSON object",
    ),
    "parameters of an array": (lambda: Tool("f", "", {"type": "array"}), "no JSON schema of an object"),
    "arguments that are no object": (lambda: ToolCall("a", "f", "[]"), "the arguments of f are"),
    "arguments that are false": (
        lambda: ToolCall.of({"id": "a", "function": {"name": "f", "arguments": False}}),
        "the arguments of f are false, and not a JSON object",
    ),
    "parameters that are an empty list": (
        lambda: Tool.of({"type": "function", "function": {"name": "f", "parameters": []}}),
        r"the parameters of f are \[\], and not a JSON object",
    ),
    "a description that is zero": (
        lambda: Tool.of({"type": "function", "function": {"name": "f", "description": 0}}),
        "tools: int is not text",
    ),
    "calls that are a number": (
        lambda: Message.of({"role": "assistant", "content": "", "tool_calls": 5}),
        "tool_calls: int is no list of tool calls",
    ),
    "reasoning that is false": (
        lambda: Message.of({"role": "assistant", "content": "", "reasoning_content": False}),
        "reasoning: bool is not text",
    ),
    "a call without an id": (lambda: ToolCall("", "f"), "a call has an id and a name"),
    "a result without a call": (
        lambda: model().render([Message("user", "?"), Message("tool", "3", tool_call_id="x")]),
        "no call before the result is called 'x'",
    ),
    "a result that names no call": (lambda: Message("tool", "3"), "a tool message says which call it answers"),
    "calls of a user": (lambda: Message("user", "", tool_calls=(ToolCall("a", "f"),)), "a user message has none"),
    "a schema that nothing enforces": (
        lambda: check_tools([Tool("f", "", {"properties": {"a": {"not": {}}}}, strict=True)]),
        r"tools: f: .* at /properties/a \(without strict it is a warning\)",
    ),
    "a schema that leads elsewhere": (
        lambda: check_tools([Tool("f", "", {"properties": {"a": {"$ref": "http://x/y"}}})]),
        "tools: f: .ref 'http://x/y' is not in the schema",
    ),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD)
def test_bad_tools_calls_and_results_are_named(make, said):
    with pytest.raises((InvalidParameter, UnsupportedParameter), match=said):
        make()


def test_what_a_schema_says_and_nothing_enforces_is_a_warning_unless_it_is_strict():
    with pytest.warns(PhiplugWarning, match="not enforced"):
        check_tools([Tool("f", "", {"properties": {"a": {"not": {}}}})])


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_template_shows_the_form_by_its_texts(row):
    assert format_of(" ".join(row.shown_by)).name == row.name


SHOWN = {
    '<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call>': "hermes",
    "{{ '<tool_call>' + name }}<arg_key>{{ key }}</arg_key><arg_value>{{ value }}</arg_value></tool_call>": "glm",
    "{% set begin = ns ~ '<tool_call>' %}{{ begin ~ '<invoke name=' ~ name }}": None,
    'in <tool_call></tool_call>: <tool_calls>[{"name": <name>, "arguments": <arguments>}]</tool_calls>': "apriel",
    "<|start_of_role|>respond only with <|tool_call|> followed by a JSON list of tools": "granite-3",
    '"<|start|>assistant to=" }}{{ "functions." + call.name + "<|channel|>commentary "': "gpt-oss",
    "<function=name><parameter=key>value</parameter></function>": None,
}
"""How templates show a call, or tell the model to write one; None for forms that are not known here."""


@pytest.mark.parametrize("shown", SHOWN)
def test_a_form_is_told_from_others_that_share_its_marker(shown):
    found = format_of(shown)
    assert (found and found.name) == SHOWN[shown]


def test_a_plugins_form_comes_first():
    own = ROWS["mistral"].__class__("own", ("<tool_call>",), "<own>", before_name="", after_name=":")
    assert ChatTemplate("<tool_call>", tool_formats=(own,)).tool_format is own


def test_a_value_of_braces_may_be_of_any_kind():
    schema = {
        "properties": {
            "flag": {"type": "boolean"},
            "list": {"type": "array", "items": {"type": ["number", "null"]}},
            "mode": {"enum": ["a", 1, True]},
            "more": {},
            "nested": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
        },
        "required": ["list"],
    }
    use = ToolUse(ROWS["gemma"], (Tool("f", "", schema),), required=True)
    said = (
        '<|tool_call>call:f{flag:true,list:[1.5,null,-2],mode:<|"|>a<|"|>,more:{a:[<|"|>b\n<|"|>]},'
        'nested:{x:<|"|>{,}<|"|>}}<tool_call|>'
    )
    came = chunks(Marked(*CONTROLS["gemma"]), said, markup=Markup(tools=use))
    (call,) = calls_of(delta for chunk in came for delta in chunk.tool_calls)
    expected = {"flag": True, "list": [1.5, None, -2], "mode": "a", "more": {"a": ["b\n"]}, "nested": {"x": "{,}"}}
    assert call.values == expected


def test_the_first_of_braces_may_be_braces():
    schema = {"properties": {"a": {"type": "object", "properties": {"b": {"type": "integer"}, "c": {"const": "x"}}}}}
    use = ToolUse(ROWS["gemma"], (Tool("f", "", schema),), required=True)
    text = 'c:<|"|>x<|"|>'
    for inner, holds in (("b:1", True), (text, True), (f"b:1,{text}", True), ("", True), (",b:1", False)):
        said = f"<|tool_call>call:f{{a:{{{inner}}}}}<tool_call|>"
        assert accepts(Marked(*CONTROLS["gemma"]), Markup(tools=use), said) == holds


def test_the_keys_of_braces_may_be_left_out_where_they_are_optional():
    kinds = {key: {"type": "integer"} for key in "abcd"}
    use = ToolUse(ROWS["gemma"], (Tool("f", "", {"properties": kinds, "required": ["b", "c"]}),), required=True)
    keys = [chosen for count in range(5) for chosen in itertools.combinations("abcd", count)]
    for chosen in keys:
        said = f"<|tool_call>call:f{{{','.join(f'{key}:1' for key in chosen)}}}<tool_call|>"
        assert accepts(Marked(*CONTROLS["gemma"]), Markup(tools=use), said) == ({"b", "c"} <= set(chosen))


@pytest.mark.parametrize("name", ["deepseek-v4", "gemma", "glm", "qwen3-coder"])
def test_what_a_form_cannot_hold_is_refused_by_name(name):
    tokenizer = Marked()
    for schema, said in (
        ({"a": {"type": "string", "enum": []}}, "tools: f: enum: an empty list allows no value"),
        ({f"p{at}": {} for at in range(501)}, "tools: f: 501 properties; in this model's form of calls 500 may be"),
    ):
        use = ToolUse(ROWS[name], (Tool("f", "", {"properties": schema}),), required=True)
        with pytest.raises(InvalidParameter, match=said):
            Grammars(tokenizer, tokenizer.vocab_size).guide(None, Markup(tools=use))
    most = ToolUse(ROWS[name], (Tool("f", "", {"properties": {f"p{at}": {} for at in range(500)}}),), required=True)
    assert Grammars(tokenizer, tokenizer.vocab_size).guide(None, Markup(tools=most)).forbidden().any()


def test_a_text_may_hold_what_a_marker_begins_with():
    tokenizer = Marked(*CONTROLS["deepseek-v4"])
    said = OUTPUTS["deepseek-v4"].replace('Os"lo', "a < b </b> <c")
    came = chunks(tokenizer, f"1 < 2.{said}", markup=markup("deepseek-v4"))
    assert "".join(chunk.text for chunk in came) == "1 < 2."
    assert named(calls_of(delta for chunk in came for delta in chunk.tool_calls))[0][1]["city"] == "a < b </b> <c"


def test_arguments_in_json_may_hold_what_looks_like_markers():
    arguments = json.dumps({"city": '</tool_call>{"name": "now"} \\" <tool_call>'})
    said = f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}}}\n</tool_call>'
    came = chunks(Marked(), said, markup=markup("hermes"))
    (call,) = calls_of(delta for chunk in came for delta in chunk.tool_calls)
    assert call.values == json.loads(arguments)
    assert ARGUMENTS not in said


def test_the_mask_lets_a_control_token_be_the_marker_and_never_its_letters():
    tokenizer = Marked("[TOOL_CALLS]", "[ARGS]")
    guide = Grammars(tokenizer, tokenizer.vocab_size).guide(None, markup("mistral", required=True))
    assert np.flatnonzero(~guide.forbidden()).tolist() == [tokenizer.controls["[TOOL_CALLS]"]]
