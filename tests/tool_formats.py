"""What models write when they call tools: for each known form the control tokens and an answer of two calls."""

from __future__ import annotations

import re
from functools import lru_cache

from phiplug.text.constraint import Grammars
from phiplug.text.tools.formats import FORMATS
from phiplug.types import Tool

WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
NOW = Tool("now", "Tells the time.")
ROWS = {row.name: row for row in FORMATS}

_DEEPSEEK = {
    name: f"<\uff5ctool\u2581{text.replace(' ', chr(0x2581))}\uff5c>"
    for name, text in {
        "begin": "calls begin",
        "end": "calls end",
        "call": "call begin",
        "called": "call end",
        "sep": "sep",
    }.items()
}
_V3 = (
    "{begin}{call}function{sep}get_weather\n```json\n{arguments}\n```{called}\n"
    "{call}function{sep}now\n```json\n{{}}\n```{called}{end}"
)
_V31 = "{begin}{call}get_weather{sep}{arguments}{called}{call}now{sep}{{}}{called}{end}"
DSML = "\uff5cDSML\uff5c"
ARGUMENTS = '{"city": "Os\\"lo", "days": 2}'

CONTROLS = {
    "mistral": ("[TOOL_CALLS]", "[ARGS]"),
    "mistral-list": ("[TOOL_CALLS]",),
    "gpt-oss": ("<|channel|>", "<|constrain|>", "<|message|>"),
    "gemma": ("<|tool_call>", "<tool_call|>", '<|"|>'),
    "functiongemma": ("<start_function_call>", "<end_function_call>", "<escape>"),
    "deepseek-v3": tuple(_DEEPSEEK.values()),
    "deepseek-v3.1": tuple(_DEEPSEEK.values()),
    "deepseek-v3.2": (DSML,),
    "deepseek-v4": (DSML,),
    "mistral-call-id": ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
    "kimi-k2": (
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    "command-r7b": ("<|START_ACTION|>", "<|END_ACTION|>"),
    "apertus": ("<|tools_prefix|>", "<|tools_suffix|>"),
    "nemotron-nano-2": ("<TOOLCALL>", "</TOOLCALL>"),
    "gigachat-3.1": ("<|function_call|>",),
    "glm": ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    "hunyuan-3": tuple(
        f"<{slash}{name}:opensource>"
        for name in ("tool_calls", "tool_call", "tool_sep", "arg_key", "arg_value")
        for slash in ("", "/")
    ),
    "minimax-m2": ("<minimax:tool_call>", "</minimax:tool_call>"),
    "minimax-m1": ("<tool_calls>", "</tool_calls>"),
    "seed-oss": ("<seed:tool_call>", "</seed:tool_call>"),
    "functionary-3.1": ("<function=",),
    "llama-3": ("<|python_tag|>",),
    "phi-4-mini": ("<|tool_call|>", "<|/tool_call|>"),
    "phi-4-mini-list": ("<|tool_call|>", "<|/tool_call|>"),
    "hermes": ("<tool_call>", "</tool_call>"),
    "apriel": ("<tool_calls>", "</tool_calls>"),
    "granite-3": ("<|tool_call|>",),
    "qwen3-coder": ("<tool_call>", "</tool_call>"),
}
"""The markers that are control tokens in some vocabulary of a model that has the form."""

_JSON = '{"name": "get_weather", "arguments": ' + ARGUMENTS + "}"
_NOW = '{"name": "now", "arguments": {}}'
_DSML_CALLS = (
    f'<{DSML}{{calls}}>\n<{DSML}invoke name="get_weather">\n'
    f'<{DSML}parameter name="city" string="true">Os"lo</{DSML}parameter>\n'
    f'<{DSML}parameter name="days" string="false">2</{DSML}parameter>\n</{DSML}invoke>\n'
    f'<{DSML}invoke name="now">\n</{DSML}invoke>\n</{DSML}{{calls}}>'
)
_KIMI_CALL = "<|tool_call_begin|>functions.{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
_COHERE_CALL = '    {{"tool_call_id": "{}", "tool_name": "{}", "parameters": {}}}'
_HY = (
    '<tool_calls>\n<tool_call>get_weather<tool_sep>\n<arg_key>city</arg_key>\n<arg_value>Os"lo</arg_value>\n<arg_key>days</arg_key>\n'
    "<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now<tool_sep>\n</tool_call>\n</tool_calls>"
)
OUTPUTS = {
    "seed-oss": '<seed:tool_call>\n<function=get_weather>\n<parameter=city>Os"lo</parameter>\n'
    "<parameter=days>2</parameter>\n</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>",
    "functionary-3.1": f"<function=get_weather>{ARGUMENTS}</function><function=now>{{}}</function>",
    "glm": '<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Os"lo</arg_value>\n<arg_key>days</arg_key>\n'
    "<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now</tool_call>",
    "hunyuan-3": _HY.replace(">", ":opensource>"),
    "minimax-m1": f"<tool_calls>\n{_JSON}\n{_NOW}\n</tool_calls>",
    "minimax-m2": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Os"lo</parameter>\n'
    '<parameter name="days">2</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>',
    "deepseek-v3.2": _DSML_CALLS.format(calls="function_calls"),
    "deepseek-v4": _DSML_CALLS.format(calls="tool_calls"),
    "kimi-k2": f"<|tool_calls_section_begin|>{_KIMI_CALL.format('get_weather:0', ARGUMENTS)}"
    f"{_KIMI_CALL.format('now:1', '{}')}<|tool_calls_section_end|>",
    "command-r7b": f"<|START_ACTION|>[\n{_COHERE_CALL.format(0, 'get_weather', ARGUMENTS)},\n"
    f"{_COHERE_CALL.format(1, 'now', '{}')}\n]<|END_ACTION|>",
    "apertus": f'<|tools_prefix|>[{{"get_weather": {ARGUMENTS}}}, {{"now": {{}}}}]<|tools_suffix|>',
    "nemotron-nano-2": f"<TOOLCALL>[{_JSON}, {_NOW}]</TOOLCALL>",
    "gigachat-3.1": f"<|function_call|>{_JSON}",
    "mistral-call-id": f"[TOOL_CALLS]get_weather[CALL_ID]abc12345d[ARGS]{ARGUMENTS}"
    "[TOOL_CALLS]now[CALL_ID]abc12345e[ARGS]{}",
    "hermes": f"<tool_call>\n{_JSON}\n</tool_call>\n<tool_call>\n{_NOW}\n</tool_call>",
    "qwen3-coder": '<tool_call>\n<function=get_weather>\n<parameter=city>\nOs"lo\n</parameter>\n<parameter=days>\n2\n'
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "apriel": f"<tool_calls>[{_JSON}, {_NOW}]</tool_calls>",
    "granite-3": f"<|tool_call|>[{_JSON}, {_NOW}]",
    "llama-3": f"{_JSON}; {_NOW}".replace("arguments", "parameters"),
    "mistral": f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}",
    "mistral-list": f"[TOOL_CALLS] [{_JSON}, {_NOW}]",
    "phi-4-mini": f"<|tool_call|>{_JSON}<|/tool_call|><|tool_call|>{_NOW}<|/tool_call|>",
    "phi-4-mini-list": f"<|tool_call|>[{_JSON}, {_NOW}]<|/tool_call|>",
    "deepseek-v3": _V3.format(**_DEEPSEEK, arguments=ARGUMENTS),
    "deepseek-v3.1": _V31.format(**_DEEPSEEK, arguments=ARGUMENTS),
    "gemma": '<|tool_call>call:get_weather{city:<|"|>Os"lo<|"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>',
    "functiongemma": '<start_function_call>call:get_weather{city:<escape>Os"lo<escape>,days:2}<end_function_call>'
    "<start_function_call>call:now{}<end_function_call>",
    "gpt-oss": f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}",
}
"""An answer of each form: the weather in Os"lo for two days and, where a second call may follow, the time."""


def calls_in(name):
    """Return the names and the arguments of the calls of `OUTPUTS[name]`."""
    weather = ("get_weather", {"city": 'Os"lo', "days": 2})
    return [weather] if ROWS[name].is_single else [weather, ("now", {})]


@lru_cache(maxsize=1)
def _grammars(tokenizer):
    return Grammars(tokenizer, tokenizer.vocab_size)


def accepts(tokenizer, given, said):
    """Return whether a text, token by token, is an answer that the grammar of a markup allows."""
    guide = _grammars(tokenizer).guide(None, given)
    for token in _in_an_answer(tokenizer, said):
        if guide.forbidden()[token]:
            return False
        guide.accept(token)
    return guide.is_complete


def _in_an_answer(tokenizer, said):
    """The ids of a text, without the space that SentencePiece puts before it."""
    ids = tokenizer.encode(said)
    if not tokenizer.token_bytes(ids[0]).startswith(b" "):
        return ids
    before = tokenizer.encode("\x02")
    return tokenizer.encode("\x02" + said)[len(before) :]


_DAYS = (
    ', "days": 2',
    ",days:2",
    r"<[^<>]*parameter[^<>]*days[^<>]*>\s*2\s*</[^<>]*>\n",
    r"<arg_key[^<>]*>days</arg_key[^<>]*>\n<arg_value[^<>]*>2</arg_value[^<>]*>\n",
)
"""The argument that is optional, in every form."""


def _without_days(said):
    for days in _DAYS:
        said = re.sub(days, "", said)
    return said


def _with_text_for_days(said):
    for days in _DAYS:
        said = re.sub(days, lambda found: found[0].replace("2", "x"), said)
    return said


VERDICTS = {
    "as recorded": (lambda said: said, True),
    "without what is optional": (_without_days, True),
    "prose": (lambda _: "It will be sunny.", False),
    "a wrong name": (lambda said: said.replace("get_weather", "set_weather"), False),
    "a wrong key": (lambda said: said.replace("city", "town"), False),
    "a wrong type": (_with_text_for_days, False),
}
"""How an answer of two calls is changed, and whether it is one then."""
