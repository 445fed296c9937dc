"""Turns of a conversation, as OpenAI's and Anthropic's clients write them, to messages that a chat template knows."""

from __future__ import annotations

from typing import Any, cast

from phiplug.errors import InvalidParameter
from phiplug.forms.fields import Check, Field, Table, accepted, array, honoured, mapping, refused, text
from phiplug.forms.problems import Refused
from phiplug.forms.tools import calls
from phiplug.types import Message, Role


def role(*known: str) -> Check:
    """Check for one of the roles that may speak here."""

    def check(path: str, value: Any) -> str:  # Any: what JSON holds
        if value not in known:
            raise InvalidParameter(path, f"is none of {', '.join(known)}")
        return cast(str, value)

    return check


def content(*kinds: str, **more: Field) -> Check:
    """Check for a text, or a list of parts of these kinds, which become one text with a line for each part.

    `more` has fields that a part may have beside its text.
    """
    part = Table(honoured("type", "", text, required=True), honoured("text", "", text, required=True), *more.values())

    def check(path: str, value: Any) -> str:  # Any: as above
        if isinstance(value, str):
            return text(path, value)
        return "\n".join(one(f"{path}[{index}]", each) for index, each in enumerate(array(path, value)))

    def one(path: str, value: Any) -> str:  # Any: as above
        kind = mapping(path, value).get("type")
        if kind not in kinds:
            message = (
                f"{path}.type: {text(path, kind)[:60]!r} is not served, only {', '.join(kinds)}"
                if isinstance(kind, str)
                else f"{path}.type is missing"
            )
            raise Refused(400, "unsupported_parameter", message, param=f"{path}.type")
        return cast(str, part.read(value, within=f"{path}.")["text"])

    return check


OPENAI_MESSAGE = Table(
    honoured(
        "role",
        "`system`, `developer` (the same), `user`, `assistant` or `tool`",
        role("system", "developer", "user", "assistant", "tool"),
        required=True,
    ),
    honoured(
        "content", "a text, or text parts, which become lines of one text; not needed beside calls", content("text")
    ),
    honoured("tool_calls", "the assistant's calls of functions", calls),
    honoured("tool_call_id", "which call a tool's message answers", text),
    honoured("reasoning_content", "what the assistant thought", text),
    accepted("annotations", []),
    accepted("refusal", ""),
    refused("name", "no chat template reads it"),
)
"""A message of /v1/chat/completions."""

TEMPLATE_KWARGS = honoured(
    "chat_template_kwargs", 'ours: variables that the chat template reads, as in {"enable_thinking": false}', mapping
)


def messages(table: Table) -> Check:
    """Check for at least one message, each with the fields of `table`."""

    def check(path: str, value: Any) -> tuple[Message, ...]:  # Any: what JSON holds
        listed = array(path, value)
        if not listed:
            raise InvalidParameter(path, "is empty")
        return tuple(_read(table, at, each) for at, each in _numbered(path, listed))

    return check


def _read(table: Table, path: str, value: Any) -> Message:  # Any: as above
    """Read one message; what it lacks is named with its path."""
    given = table.read(mapping(path, value), within=f"{path}.")
    if given.get("content") is None and not given.get("tool_calls"):
        raise Refused(400, "missing_required_parameter", f"{path}.content is missing", param=f"{path}.content")
    more = {"reasoning": given.get("reasoning_content", ""), **given.pick("tool_calls", "tool_call_id")}
    try:
        return message(given["role"], given.get("content", ""), **more)
    except InvalidParameter as error:
        reason = error.message.removeprefix(f"{error.name}: ")
        raise InvalidParameter(f"{path}.{error.name}", reason) from None


def message(who: str, said: str, **more: Any) -> Message:  # Any: fields of `Message`, which checks them
    """Build a message; a developer's is the system's."""
    return Message(cast(Role, "system" if who == "developer" else who), said, **more)


def _numbered(path: str, listed: list[Any]) -> list[tuple[str, Any]]:  # Any: as above
    return [(f"{path}[{index}]", each) for index, each in enumerate(listed)]
