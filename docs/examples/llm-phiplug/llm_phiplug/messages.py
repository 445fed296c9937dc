"""llm's messages and tools as phiplug's, and phiplug's chunks as llm's events. It knows nothing of models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llm.parts import AttachmentPart, ReasoningPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart

from phiplug.errors import UnsupportedParameter
from phiplug.types import Message, Tool, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import llm
    from llm.parts import Message as Theirs

    from phiplug.types import Chunk


def messages_of(theirs: Iterable[Theirs]) -> list[Message]:
    """Return a conversation; a message of several tools' results becomes several.

    Raises:
        UnsupportedParameter: it holds an image or another attachment.
    """
    return [message for each in theirs for message in _messages(each)]


def _messages(theirs: Theirs) -> Iterator[Message]:
    if any(isinstance(part, AttachmentPart) for part in theirs.parts):
        raise UnsupportedParameter("attachments", "phiplug reads text alone")
    results = [part for part in theirs.parts if isinstance(part, ToolResultPart)]
    for result in results:
        yield Message("tool", result.output, tool_call_id=result.tool_call_id or result.name, name=result.name)
    if not results:
        calls = [part for part in theirs.parts if isinstance(part, ToolCallPart)]
        yield Message(
            theirs.role,
            "".join(part.text for part in theirs.parts if isinstance(part, TextPart)),
            reasoning="".join(part.text for part in theirs.parts if isinstance(part, ReasoningPart)),
            tool_calls=tuple(ToolCall(call.tool_call_id or call.name, call.name, call.arguments) for call in calls),
        )


def tools_of(theirs: Iterable[llm.Tool]) -> list[Tool]:
    """Return the tools that an answer may call."""
    return [Tool(each.name, each.description or "", json.dumps(each.input_schema or {})) for each in theirs]


def events_of(chunk: Chunk, ids: dict[int, str]) -> Iterator[StreamEvent]:
    """Yield what a chunk brings; `ids` remembers how the calls that have begun are named."""
    if chunk.reasoning:
        yield StreamEvent(type="reasoning", chunk=chunk.reasoning)
    if chunk.text:
        yield StreamEvent(type="text", chunk=chunk.text)
    for delta in chunk.tool_calls:
        call = ids.setdefault(delta.index, delta.id)
        if delta.name:
            yield StreamEvent(type="tool_call_name", chunk=delta.name, tool_call_id=call)
        if delta.arguments:
            yield StreamEvent(type="tool_call_args", chunk=delta.arguments, tool_call_id=call)
