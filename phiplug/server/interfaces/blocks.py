"""Turns of a conversation as Anthropic's clients write them, in blocks, to messages that a chat template knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phiplug.errors import InvalidParameter
from phiplug.forms.fields import Given, Table, accepted, array, flag, honoured, mapping, text
from phiplug.forms.problems import Refused
from phiplug.forms.turns import content, role
from phiplug.types import Message, ToolCall

HINT = honoured("cache_control", "an object; equal beginnings of prompts are found without it", mapping)
TEXTS = content("text", cache_control=HINT)

_TYPE = honoured("type", "", text, required=True)
BLOCKS = {
    "text": Table(_TYPE, honoured("text", "", text, required=True), accepted("citations", []), HINT),
    "thinking": Table(_TYPE, honoured("thinking", "", text, required=True), honoured("signature", "", text)),
    "tool_use": Table(
        _TYPE,
        honoured("id", "", text, required=True),
        honoured("name", "", text, required=True),
        honoured("input", "", mapping, required=True),
        HINT,
    ),
    "tool_result": Table(
        _TYPE,
        honoured("tool_use_id", "", text, required=True),
        honoured("content", "", TEXTS),
        honoured("is_error", "", flag),
        HINT,
    ),
}
"""What a message may consist of."""

_OF = {"user": ("text", "tool_result"), "assistant": ("text", "thinking", "tool_use")}


def _blocks(path: str, value: Any) -> tuple[tuple[str, Given], ...] | str:  # Any: what JSON holds
    """Check for a text, or a list of blocks; return those with their types."""
    if isinstance(value, str):
        return text(path, value)
    return tuple(_block(f"{path}[{at}]", mapping(f"{path}[{at}]", each)) for at, each in enumerate(array(path, value)))


def _block(path: str, value: dict[str, Any]) -> tuple[str, Given]:  # Any: as above
    kind = value.get("type")
    if kind not in BLOCKS:
        said = f"{kind!r:.60} is not served, only {', '.join(BLOCKS)}" if isinstance(kind, str) else "is missing"
        raise Refused(400, "unsupported_parameter", f"{path}.type: {said}", param=f"{path}.type")
    given = {name: each for name, each in value.items() if each is not None}  # clients send back what they do not set
    return kind, BLOCKS[kind].read(given, within=f"{path}.")


MESSAGE = Table(
    honoured("role", "`user` or `assistant`; the last message is the user's", role("user", "assistant"), required=True),
    honoured(
        "content", "a text, or blocks: `text`, `thinking`, `tool_use`, `tool_result`; texts become lines", _blocks,
        required=True,
    ),
)  # fmt: skip


def turns(path: str, value: Any) -> tuple[Message, ...]:  # Any: as above
    """Check for at least one message; each result of a tool becomes a message of its own."""
    listed = array(path, value)
    if not listed:
        raise InvalidParameter(path, "is empty")
    found: list[Message] = []
    for at, each in enumerate(listed):
        place = f"{path}[{at}]"
        given = MESSAGE.read(mapping(place, each), within=f"{place}.")
        found += _said(place, given)
    return tuple(found)


def _said(path: str, given: Given) -> Iterator[Message]:
    """Yield the messages that one stands for."""
    if isinstance(given["content"], str):
        yield Message(given["role"], given["content"])
        return
    by_kind: dict[str, list[Given]] = {kind: [] for kind in BLOCKS}
    for kind, block in given["content"]:
        if kind not in _OF[given["role"]]:
            raise InvalidParameter(f"{path}.content", f"a block of {kind} is not of the {given['role']}")
        by_kind[kind].append(block)
    for result in by_kind["tool_result"]:
        yield Message("tool", result.get("content", ""), tool_call_id=result["tool_use_id"])
    texts = "\n".join(block["text"] for block in by_kind["text"])
    if given["role"] == "assistant":
        thought = "\n".join(block["thinking"] for block in by_kind["thinking"])
        calls = tuple(ToolCall(block["id"], block["name"], block["input"]) for block in by_kind["tool_use"])
        yield Message("assistant", texts, thought, calls)
    elif by_kind["text"] or not by_kind["tool_result"]:
        yield Message("user", texts)
