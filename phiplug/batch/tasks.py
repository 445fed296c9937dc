"""From a line to what it asks for: OpenAI's batch form, or a plain body. What is wrong becomes the task's error.

It knows the interfaces' fields by `phiplug.forms`, and nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from phiplug import checks
from phiplug.batch.seeds import key_of
from phiplug.errors import InvalidParameter, PhiplugError
from phiplug.forms.fields import Table, accepted, honoured, mapping, text
from phiplug.forms.parsing import parse_object
from phiplug.forms.problems import Refused

if TYPE_CHECKING:
    from phiplug.batch.source import Line
    from phiplug.forms.problems import Json

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
LONGEST_ID = 512  # characters

ENVELOPE = Table(
    honoured("custom_id", "a text of 1 to 512 characters, unlike any other", text, required=True),
    accepted("method", "POST"),
    honoured("url", f"{CHAT} or {TEXT}", text, required=True),
    honoured("body", "the body of the request", mapping, required=True),
)
"""OpenAI's form of a line."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a line asks for.

    Attributes:
        line: its number.
        digest: of its bytes.
        custom_id: its id, or None where it has no usable one.
        url: whose fields the body has.
        body: of the request; empty where there is an error.
        error: why nothing can be computed, or None.
        size: of the line, in bytes.
    """

    line: int
    digest: str
    custom_id: str | None = None
    url: str = CHAT
    body: Json | None = None
    error: PhiplugError | None = None
    size: int = 0

    @property
    def key(self) -> bytes:
        """What tells it from all other lines, also in a later run: its id, or its number, hashed."""
        return hashed(key_of(self.custom_id, self.line))


def hashed(key: str) -> bytes:
    """Return 12 bytes for a line's key, so that a million of them take little memory."""
    return blake2b(key.encode(), digest_size=12).digest()


class TaskReader:
    """Turns lines into tasks; an id that came before is refused, with the line that has it."""

    def __init__(self, *, raw: bool = False) -> None:
        """Read plain lines too; with `raw` their prompts are texts to continue, not messages of a user."""
        self._raw = raw
        self._lines: dict[bytes, int] = {}

    def read(self, lines: Iterable[Line]) -> Iterator[Task]:
        """Yield a task for each line."""
        return map(self.task, lines)

    def task(self, line: Line) -> Task:
        """Return what a line asks for."""
        custom_id = None
        try:
            written = _parsed(line)
            custom_id = self._id(written, line.number)
            url, body = self._asked(written)
        except PhiplugError as error:
            return Task(line.number, line.digest, custom_id, error=error, size=len(line.data))
        return Task(line.number, line.digest, custom_id, url, body, size=len(line.data))

    def _id(self, written: Json, number: int) -> str | None:
        """Return the id of a line, or None for a plain one that has none."""
        found = written.get("custom_id")
        if found is None:
            return None
        custom_id = checks.text("custom_id", found)
        if not 1 <= len(custom_id) <= LONGEST_ID:
            message = f"its {len(custom_id)} characters are outside [1, {LONGEST_ID}]"
            raise InvalidParameter("custom_id", message)
        first = self._lines.setdefault(hashed(key_of(custom_id, number)), number)
        if first != number:
            message = f"custom_id: {custom_id[:80]!r} is that of line {first} already"
            raise Refused(400, "duplicate_custom_id", message, param="custom_id")
        return custom_id

    def _asked(self, written: Json) -> tuple[str, Json]:
        if written.keys() & {"method", "url", "body"}:
            given = ENVELOPE.read(written)
            if given["url"] not in (CHAT, TEXT):
                message = f"url: {given['url'][:80]!r} is not served, only {CHAT} and {TEXT}"
                raise Refused(400, "invalid_url", message, param="url")
            return given["url"], given["body"]
        body = {name: value for name, value in written.items() if name != "custom_id"}
        prompt = body.get("prompt")
        if (prompt is None) == (body.get("messages") is None):
            raise Refused(400, "missing_required_parameter", "a line has either prompt or messages", param="prompt")
        if prompt is None:
            return CHAT, body
        if self._raw:
            return TEXT, body
        del body["prompt"]
        return CHAT, body | {"messages": [{"role": "user", "content": _said(prompt)}]}


def _parsed(line: Line) -> Json:
    if line.problem:
        raise Refused(400, "invalid_line", line.problem)
    if not line.data.strip():
        raise Refused(400, "empty_line", "the line is empty")
    return parse_object(line.data, "the line")


def _said(prompt: Any) -> str:  # Any: what JSON holds
    said = checks.text("prompt", prompt)
    if not said:
        raise InvalidParameter("prompt", "is empty")
    return said
