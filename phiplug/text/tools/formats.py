"""The forms in which models call tools: data, one row each, and which of them a chat template shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from phiplug.errors import UnsupportedParameter
from phiplug.markup import ToolFormat

_CALLS_BEGIN = "<\uff5ctool\u2581calls\u2581begin\uff5c>"  # DeepSeek's tokens have a wide bar and a low block in them
_CALLS_END = "<\uff5ctool\u2581calls\u2581end\uff5c>"
_CALL_BEGIN = "<\uff5ctool\u2581call\u2581begin\uff5c>"
_CALL_END = "<\uff5ctool\u2581call\u2581end\uff5c>"
_CALL_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"

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
    ToolFormat(
        "qwen3-coder",
        ("<tool_call>", "<function=", "<parameter="),
        "<tool_call>",
        before_name=" <function=",
        after_name="> ",
        after_arguments=" </function>",
        end=" </tool_call>",
        arguments="parameters",
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
    ToolFormat("mistral", ("[TOOL_CALLS]", "[ARGS]"), "[TOOL_CALLS]", before_name="", after_name="[ARGS]"),
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
