"""Tools, calls and results as chat templates read them: OpenAI's form, and by the names that some templates have."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from phiplug.errors import InvalidParameter
from phiplug.messages import Message, Tool

_REASONING = ("reasoning", "thinking")  # beside `reasoning_content`


def as_turn(message: Message) -> dict[str, object]:
    """Return a message as most templates read it: the arguments of calls as objects."""
    turn = message.as_dict()
    if message.reasoning:
        turn |= dict.fromkeys(_REASONING, message.reasoning)
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.values}}
            for call in message.tool_calls
        ]
    return turn


def tool_variables(tools: Sequence[Tool], read: Collection[str]) -> dict[str, object]:
    """Return the variables that show tools to a template that reads these names.

    SmolLM3's reads `xml_tools`, a list of functions; firefunction's reads `functions`, JSON text.
    """
    written = [tool.as_dict() for tool in tools]
    if "tools" not in read and "xml_tools" in read:
        return {"xml_tools": [each["function"] for each in written]}
    if "tools" not in read and "functions" in read:
        return {"functions": json.dumps([each["function"] for each in written], ensure_ascii=False)}
    return {"tools": written}


def answered(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a conversation in which each result of a tool has the name of the tool.

    Raises:
        InvalidParameter: a result answers no call that was asked for before it.
    """
    names: dict[str, str] = {}
    found = []
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        if message.role != "tool":
            found.append(message)
            continue
        if message.tool_call_id not in names:
            raise InvalidParameter("tool_call_id", f"no call before the result is called {message.tool_call_id!r:.80}")
        found.append(replace(message, name=message.name or names[message.tool_call_id]))
    return tuple(found)
