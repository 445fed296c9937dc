"""The messages of a conversation, the tools that an answer may call, and the calls, as callers have them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from phiplug import checks
from phiplug.errors import InvalidParameter, UnsupportedParameter

Role = Literal["system", "user", "assistant", "tool"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that an answer may ask its reader to call. phiplug calls nothing itself.

    Attributes:
        name: 1 to 64 letters, digits, `_`, `.` and `-`.
        description: for the model to read.
        parameters: a JSON schema of an object, as a mapping or as JSON text; kept as JSON text.
        strict: refuse a schema that says what the grammar cannot enforce; otherwise that is a warning.
    """

    name: str
    description: str = ""
    parameters: str | Mapping[str, object] = "{}"
    strict: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            reason = f"{self.name!r:.80} is no name: 1 to 64 letters, digits, _, . and -"
            raise InvalidParameter("tools", reason)
        checks.text("tools", self.description)
        checks.flag("tools", self.strict)
        schema = _object("tools", f"the parameters of {self.name}", self.parameters)
        if schema.get("type", "object") != "object":
            raise InvalidParameter("tools", f"the parameters of {self.name} are no JSON schema of an object")
        object.__setattr__(self, "parameters", json.dumps(schema, ensure_ascii=False))

    @property
    def schema(self) -> dict[str, Any]:  # Any: what JSON holds
        """The JSON schema of the arguments."""
        return _object("tools", self.name, self.parameters)

    @classmethod
    def of(cls, value: object) -> Tool:
        """Take a tool as it is, or in OpenAI's form: {"type": "function", "function": {"name": ..., ...}}.

        Raises:
            InvalidParameter: it is neither, or not sound.
            UnsupportedParameter: it has an entry that would be ignored.
        """
        if isinstance(value, cls):
            return value
        function = value.get("function") if isinstance(value, Mapping) and value.get("type") == "function" else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise InvalidParameter("tools", f"{value!r:.80} is no tool", hint=_TOOL_HINT)
        extra = [str(key) for key in function if key not in _TOOL_ENTRIES]
        if extra:
            raise UnsupportedParameter("tools", f"nothing reads the entry {extra[0]!r} of {function['name']!r:.80}")
        given = {key: entry for key, entry in function.items() if entry is not None}
        return cls(
            function["name"],
            given.get("description", ""),
            given.get("parameters", "{}"),
            given.get("strict", False),
        )

    def as_dict(self) -> dict[str, object]:
        """Return the tool in OpenAI's form, which chat templates read."""
        return {"type": "function", "function": self.as_function()}

    def as_function(self) -> dict[str, object]:
        """Return what is within OpenAI's form."""
        return {"name": self.name, "description": self.description, "parameters": self.schema}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an answer asks for.

    Attributes:
        id: names the call in the message that answers it.
        name: of the tool.
        arguments: a JSON object, as a mapping or as JSON text; kept as JSON text.
    """

    id: str
    name: str
    arguments: str | Mapping[str, object] = "{}"

    def __post_init__(self) -> None:
        if not checks.text("tool_calls", self.id) or not checks.text("tool_calls", self.name):
            raise InvalidParameter("tool_calls", "a call has an id and a name")
        values = _object("tool_calls", f"the arguments of {self.name}", self.arguments)
        if not isinstance(self.arguments, str):
            object.__setattr__(self, "arguments", json.dumps(values, ensure_ascii=False))

    @property
    def values(self) -> dict[str, Any]:  # Any: what JSON holds
        """The arguments by their names."""
        return _object("tool_calls", self.name, self.arguments)

    @classmethod
    def of(cls, value: object) -> ToolCall:
        """Take a call as it is, or in OpenAI's form; raises as `Tool.of` does."""
        if isinstance(value, cls):
            return value
        function = value.get("function") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(function, Mapping) or not {"id"} <= value.keys():
            raise InvalidParameter("tool_calls", f"{value!r:.80} is no call", hint=_CALL_HINT)
        arguments = function.get("arguments")
        return cls(value["id"], cast("str", function.get("name")), "{}" if arguments in (None, "") else arguments)

    def as_dict(self) -> dict[str, object]:
        """Return the call in OpenAI's form, its arguments as JSON text."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call, as it comes.

    Attributes:
        index: which of the calls of the answer, from 0.
        id: of the call, in its first piece.
        name: of the tool, in its first piece.
        arguments: more of the JSON text of the arguments.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        content: what is said; what a tool returned.
        reasoning: what the assistant thought before; most templates show it for the last turns alone, or never.
        tool_calls: what the assistant asked to be called.
        tool_call_id: which call a tool's message answers.
        name: of the tool that answers; "" takes it from the call.
    """

    role: Role
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidParameter("role", f"{self.role!r} is none of {', '.join(get_args(Role))}")
        for each in ("content", "reasoning", "tool_call_id", "name"):
            checks.text(each, getattr(self, each))
        object.__setattr__(self, "tool_calls", tuple(map(ToolCall.of, _listed("tool_calls", self.tool_calls))))
        for each, role in (("reasoning", "assistant"), ("tool_calls", "assistant"), ("tool_call_id", "tool")):
            if getattr(self, each) and self.role != role:
                raise InvalidParameter(each, f"a {self.role} message has none")
        if self.role == "tool" and not self.tool_call_id:
            raise InvalidParameter("tool_call_id", "a tool message says which call it answers")

    @classmethod
    def of(cls, value: object) -> Message:
        """Take a message as it is, or in OpenAI's form: a dict with a role and a text as its content.

        Raises:
            InvalidParameter: it is neither, or it has an entry that would be ignored.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping) or "role" not in value or not {"content", "tool_calls"} & value.keys():
            raise InvalidParameter("messages", f"{type(value).__name__} is no message", hint=_MESSAGE_HINT)
        given = {key: entry for key, entry in value.items() if entry is not None}
        extra = [str(key) for key, entry in given.items() if entry and key not in _ENTRIES]
        if extra:
            raise UnsupportedParameter("messages", f"nothing reads the entry {extra[0]!r} of a message")
        content = value.get("content")
        return cls(
            role=value["role"],
            content="" if content is None and given.get("tool_calls") else cast("str", content),
            reasoning=given.get("reasoning_content", ""),
            tool_calls=given.get("tool_calls", ()),
            tool_call_id=given.get("tool_call_id", ""),
            name=given.get("name", ""),
        )

    def as_dict(self) -> dict[str, object]:
        """Return the message in OpenAI's form."""
        more = {
            "reasoning_content": self.reasoning,
            "tool_calls": [call.as_dict() for call in self.tool_calls],
            "tool_call_id": self.tool_call_id,
            "name": self.name,
        }
        return {"role": self.role, "content": self.content} | {key: entry for key, entry in more.items() if entry}


_ENTRIES = frozenset({"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name"})
_TOOL_ENTRIES = frozenset({"name", "description", "parameters", "strict"})
_MESSAGE_HINT = 'a message is Message("user", "...") or {"role": "user", "content": "..."}'
_TOOL_HINT = 'a tool is Tool("name", "...", {...}) or {"type": "function", "function": {"name": "...", ...}}'
_CALL_HINT = 'a call is ToolCall("id", "name", {...}) or {"id": "...", "function": {"name": "...", "arguments": "{}"}}'

MessageLike: TypeAlias = Message | Mapping[str, object]
"""What `Message.of` takes."""

ToolLike: TypeAlias = Tool | Mapping[str, object]
"""What `Tool.of` takes."""


def joined(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    """Join the pieces of each call into one."""
    found: dict[int, ToolCallDelta] = {}
    for each in deltas:
        first = found.get(each.index, ToolCallDelta(each.index))
        found[each.index] = ToolCallDelta(
            each.index, first.id or each.id, first.name or each.name, first.arguments + each.arguments
        )
    return tuple(found.values())


def calls_of(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Return the whole calls that came in pieces; one that was cut off is left out."""
    calls = []
    for each in joined(deltas):
        with contextlib.suppress(InvalidParameter):
            calls.append(ToolCall(each.id, each.name, each.arguments))
    return tuple(calls)


def tools_of(value: Iterable[object]) -> tuple[Tool, ...]:
    """Check tools, no two of which have one name."""
    tools = tuple(map(Tool.of, _listed("tools", value)))
    names = [tool.name for tool in tools]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise InvalidParameter("tools", f"two are called {twice}")
    return tools


def _listed(parameter: str, value: object) -> Iterable[object]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidParameter(parameter, f"{type(value).__name__} is no list of {parameter.replace('_', ' ')}")
    return value


def _object(parameter: str, what: str, value: object) -> dict[str, Any]:  # Any: what JSON holds
    """Return a mapping, or what a text says in JSON, as plain JSON types."""
    try:
        found = json.loads(value if isinstance(value, str) else json.dumps(value, default=dict))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidParameter(parameter, f"{what} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidParameter(parameter, f"{what} are {json.dumps(found):.40}, and not a JSON object")
    return found
