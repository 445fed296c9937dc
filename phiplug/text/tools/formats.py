"""The forms in which models call tools: data, one row each, and which of them a chat template shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from phiplug.errors import UnsupportedParameter
from phiplug.markup import ID, ParameterMarks, ToolFormat

_CALLS_BEGIN = "<\uff5ctool\u2581calls\u2581begin\uff5c>"  # DeepSeek's tokens have a wide bar and a low block in them
_CALLS_END = "<\uff5ctool\u2581calls\u2581end\uff5c>"
_CALL_BEGIN = "<\uff5ctool\u2581call\u2581begin\uff5c>"
_CALL_END = "<\uff5ctool\u2581call\u2581end\uff5c>"
_CALL_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
_DSML = "\uff5cDSML\uff5c"

_HERMES = ToolFormat(
    "hermes",
    ("<tool_call>", '"arguments'),  # GLM and MiniMax write keys and values of their own after the same marker
    "<tool_call>",
    before_name=' { "name" : "',
    after_name='" , "arguments" : ',
    after_arguments=" }",
    end=" </tool_call>",
)
_GEMMA = ToolFormat(
    "gemma",
    ("<|tool_call>", "<tool_call|>"),
    "<|tool_call>call:",
    before_name="",
    after_name="",
    end="<tool_call|>",
    arguments="braces",
    quote='<|"|>',
)
_DEEPSEEK = ToolFormat(
    "deepseek-v3.1",
    (_CALLS_BEGIN,),
    _CALLS_BEGIN,
    before_name=_CALL_BEGIN,
    after_name=_CALL_SEPARATOR,
    after_arguments=_CALL_END,
    between="",
    end=_CALLS_END,
)

_QWEN3_CODER = ToolFormat(
    "qwen3-coder",
    ("<tool_call>", "<function=", "<parameter="),
    "<tool_call>",
    before_name=" <function=",
    after_name="> ",
    after_arguments=" </function>",
    end=" </tool_call>",
    arguments="parameters",
)
_MINIMAX_M2 = ToolFormat(
    "minimax-m2",
    ("<minimax:tool_call>", "<invoke name="),
    "<minimax:tool_call>",
    before_name=' <invoke name="',
    after_name='"> ',
    after_arguments=" </invoke>",
    between=" ",
    end=" </minimax:tool_call>",
    arguments="parameters",
    parameter=ParameterMarks('<parameter name="', '">', "</parameter>"),
)
_DEEPSEEK_V4 = replace(
    _MINIMAX_M2,
    name="deepseek-v4",
    shown_by=(_DSML, "tool_calls>"),
    begin=f"<{_DSML}tool_calls>",
    before_name=f' <{_DSML}invoke name="',
    after_arguments=f" </{_DSML}invoke>",
    end=f" </{_DSML}tool_calls>",
    parameter=ParameterMarks(
        f'<{_DSML}parameter name="',
        '" string="false">',
        f"</{_DSML}parameter>",
        after_text_key='" string="true">',
    ),
)
_GLM = ToolFormat(
    "glm",
    ("<tool_call>", "<arg_key>", "<arg_value>"),
    "<tool_call>",
    before_name="",
    after_name=" ",
    end=" </tool_call>",
    arguments="parameters",
    parameter=ParameterMarks("<arg_key>", "</arg_key> <arg_value>", "</arg_value>"),
)
_MISTRAL = ToolFormat("mistral", ("[TOOL_CALLS]", "[ARGS]"), "[TOOL_CALLS]", before_name="", after_name="[ARGS]")

FORMATS = (
    ToolFormat(
        "gpt-oss",
        ("<|channel|>commentary", "functions."),
        "<|channel|>commentary to=functions.",
        before_name="",
        after_name=" <|constrain|>json<|message|>",
        is_single=True,
    ),
    _GEMMA,
    replace(
        _GEMMA,
        name="functiongemma",
        shown_by=("<start_function_call>", "<end_function_call>"),
        begin="<start_function_call>call:",
        end="<end_function_call>",
        quote="<escape>",
    ),
    _QWEN3_CODER,
    replace(
        _QWEN3_CODER,
        name="seed-oss",
        shown_by=("<seed:tool_call>", "<function=", "<parameter="),
        begin="<seed:tool_call>",
        end=" </seed:tool_call>",
        parameter=ParameterMarks("<parameter=", ">", "</parameter>"),
    ),
    ToolFormat(
        "functionary-3.1",
        ("<function=", "{start_tag}={function_name}"),
        "<function=",
        before_name="",
        after_name=">",
        end="</function>",
    ),
    _GLM,
    replace(
        _GLM,
        name="hunyuan-3",
        shown_by=("<tool_calls{}>", "<arg_key{}>", ":opensource"),
        begin="<tool_calls:opensource>",
        before_name=" <tool_call:opensource>",
        after_name="<tool_sep:opensource> ",
        after_arguments=" </tool_call:opensource>",
        between=" ",
        end=" </tool_calls:opensource>",
        parameter=ParameterMarks(
            "<arg_key:opensource>",
            "</arg_key:opensource> <arg_value:opensource>",
            "</arg_value:opensource>",
        ),
    ),
    _MINIMAX_M2,
    replace(
        _DEEPSEEK_V4,
        name="deepseek-v3.2",
        shown_by=(_DSML, "function_calls>"),
        begin=f"<{_DSML}function_calls>",
        end=f" </{_DSML}function_calls>",
    ),
    _DEEPSEEK_V4,
    ToolFormat(
        "kimi-k2",
        ("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
        "<|tool_calls_section_begin|>",
        before_name=" <|tool_call_begin|> functions.",
        after_name=f":{ID} <|tool_call_argument_begin|> ",
        after_arguments=" <|tool_call_end|>",
        between=" ",
        end=" <|tool_calls_section_end|>",
    ),
    ToolFormat(
        "command-r7b",
        ("<|START_ACTION|>", '"tool_call_id"', '"tool_name"'),
        "<|START_ACTION|>",
        open=" [",
        before_name=f' {{ "tool_call_id" : "{ID}" , "tool_name" : "',
        after_name='" , "parameters" : ',
        after_arguments=" }",
        between=" , ",
        end=" ]<|END_ACTION|>",
    ),
    ToolFormat(
        "apertus",
        ("<|tools_prefix|>", "<|tools_suffix|>"),
        "<|tools_prefix|>",
        open=" [",
        before_name=' { "',
        after_name='" : ',
        after_arguments=" }",
        between=" , ",
        end=" ]<|tools_suffix|>",
    ),
    replace(
        _HERMES,
        name="nemotron-nano-2",
        shown_by=("<TOOLCALL>[", '"arguments'),
        begin="<TOOLCALL>",
        open=" [",
        between=" , ",
        end=" ]</TOOLCALL>",
    ),
    replace(
        _HERMES,
        name="gigachat-3.1",
        shown_by=("<|function_call|>", '"arguments'),
        begin="<|function_call|>",
        end="",
        is_single=True,
    ),
    replace(
        _HERMES,
        name="minimax-m1",
        shown_by=('<tool_calls>\\n{"name"',),
        begin="<tool_calls>",
        between=" ",
        end=" </tool_calls>",
    ),
    replace(
        _HERMES,
        name="apriel",
        shown_by=("<tool_calls>[", '"arguments'),
        begin="<tool_calls>",
        open=" [",
        between=" , ",
        end=" ]</tool_calls>",
    ),
    _HERMES,
    replace(
        _HERMES,
        name="granite-3",
        shown_by=("<|tool_call|>", "<|start_of_role|>"),
        begin="<|tool_call|>",
        open=" [",
        between=" , ",
        end=" ]",
    ),
    replace(
        _HERMES,
        name="phi-4-mini-list",
        shown_by=("<|tool_call|>[",),
        begin="<|tool_call|>",
        open=" [",
        between=" , ",
        end=" ]<|/tool_call|>",
    ),
    replace(_HERMES, name="phi-4-mini", shown_by=("<|tool_call|>",), begin="<|tool_call|>", end=" <|/tool_call|>"),
    replace(
        _DEEPSEEK,
        name="deepseek-v3",
        shown_by=(_CALLS_BEGIN, "```json"),
        before_name=f"{_CALL_BEGIN}function{_CALL_SEPARATOR}",
        after_name=" ```json ",
        after_arguments=f" ```{_CALL_END}",
        between=" ",
    ),
    _DEEPSEEK,
    replace(
        _MISTRAL,
        name="mistral-call-id",
        shown_by=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
        after_name=f"[CALL_ID]{ID}[ARGS]",
    ),
    _MISTRAL,
    replace(
        _HERMES,
        name="mistral-list",
        shown_by=("[TOOL_CALLS]",),
        begin="[TOOL_CALLS]",
        open=" [",
        between=" , ",
        end=" ]",
    ),
    replace(
        _HERMES,
        name="llama-3",
        shown_by=('{"name": function name, "parameters"',),
        begin="<|python_tag|>",
        after_name='" , "parameters" : ',
        between=" ; ",
        end="",
        is_bare=True,
    ),
)
"""The known forms. The first one that a template shows counts, so a form stands before those that share its texts."""

_MARKER = re.compile(r"[<\[][^\s<>\[\]'\"{}]{0,30}(?:tool|function|call)[^\s<>\[\]'\"{}]{0,30}[>\]=]", re.IGNORECASE)


def format_of(template: str, more: Sequence[ToolFormat] = ()) -> ToolFormat | None:
    """Return the form that a chat template's source shows, or None; `more` are rows of plugins, which come first."""
    return next((row for row in (*more, *FORMATS) if all(text in template for text in row.shown_by)), None)


def unknown_format(template: str) -> UnsupportedParameter:
    """Return the error that names what a template shows in the place of a known form."""
    marker = _MARKER.search(template)
    shown = f"the form of calls that its chat template shows with {marker[0]!r}" if marker else "its chat template"
    reason = f"{shown} is not one that is known here" if marker else f"{shown} shows no form of calls that is known"
    return UnsupportedParameter("tools", reason, hint="a plugin may add it: phiplug_tool_formats")
