"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's interface, text in and text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from phiplug.errors import InvalidParameter
from phiplug.server.exchange import Asked, event, respond
from phiplug.server.fields import Given, Table, accepted, honoured, integer, mapping, refused, stops
from phiplug.server.interfaces.constraints import OUTPUT_CONFIG, STRUCTURED, demand_of
from phiplug.server.interfaces.sampling import MODEL, STREAM, Wanted, drawing, request_of
from phiplug.server.interfaces.turns import content, messages, role
from phiplug.server.service import read, service_of
from phiplug.types import Message

if TYPE_CHECKING:
    from phiplug.server.answers import Answer
    from phiplug.server.ports import Event
    from phiplug.server.problems import Json, Problem
    from phiplug.spi import Tokenizer
    from phiplug.types import Usage

_HINT = honoured("cache_control", "an object; equal beginnings of prompts are found without it", mapping)
_content = content("text", cache_control=_HINT)
MESSAGE = Table(
    honoured("role", "`user` or `assistant`; the last message is the user's", role("user", "assistant"), required=True),
    honoured("content", "a text, or text blocks, which become lines of one text", _content, required=True),
)
_PROMPT = (
    honoured("messages", "a list of messages, below", messages(MESSAGE), required=True),
    honoured("system", "a text, or text blocks", _content),
    *MODEL,
    accepted("tools", []),
    accepted("tool_choice", {"type": "none"}, {"type": "auto"}),
    accepted("thinking", {"type": "disabled"}),
)
FIELDS = Table(
    honoured("max_tokens", "an integer from 1", integer(1), required=True),
    *_PROMPT,
    *drawing(1),
    honoured("top_k", "an integer from 0; 0 is off", integer(0)),
    OUTPUT_CONFIG,
    STRUCTURED,
    honoured("stop_sequences", "at most 16 texts", stops),
    STREAM,
    honoured("metadata", "an object; nothing is done with it", mapping),
    accepted("service_tier", "auto", "standard_only"),
    refused("mcp_servers", "nothing is called from here"),
    refused("container", "nothing is run here"),
)
COUNT_FIELDS = Table(*_PROMPT)


def _messages(given: Given) -> tuple[Message, ...]:
    said: tuple[Message, ...] = given["messages"]
    if said[-1].role == "assistant":
        raise InvalidParameter("messages", "the last one is the assistant's, which is not continued here")
    return (Message("system", given["system"]), *said) if given.get("system") else said


async def create(http: HttpRequest) -> Response:
    """Answer a conversation."""
    service = service_of(http)
    given = await read(http, FIELDS)
    model = service.catalog.model(given.get("model"))
    engine = model.engine(given.get("backend"))
    given = Given({**given.values, "stop": given.get("stop_sequences", ())}, given.ignored)
    ids = await model.encode(_messages(given))
    request = request_of(given, ids, engine, Wanted(max_tokens=given["max_tokens"], templated=True))
    name = f"msg_{http.scope['state']['request_id']}"
    form = MessageForm(name, model.name, len(ids), given["stop"], model.tokenizer)
    asked = Asked(model, engine, (request,), 1, given.ignored, demand_of(given).field)
    return await respond(http, asked, form, stream=given.get("stream", False))


async def count_tokens(http: HttpRequest) -> Response:
    """Count the tokens of a conversation, as a model would be given it."""
    given = await read(http, COUNT_FIELDS)
    model = service_of(http).catalog.model(given.get("model"))
    return JSONResponse({"input_tokens": len(await model.encode(_messages(given)))})


@dataclass(frozen=True, slots=True)
class MessageForm:
    """One answer of /v1/messages.

    Attributes:
        id: of the answer.
        model: the name that is served.
        prompt_tokens: the length of the prompt.
        stops: the texts that end the answer.
        tokenizer: spells the tokens, to see which of those texts it was.
    """

    id: str
    model: str
    prompt_tokens: int
    stops: tuple[str, ...]
    tokenizer: Tokenizer

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        answer = answers[0]
        blocks = [{"type": "text", "text": answer.text}]
        return {**self._head(blocks), **self._stop(answer), "usage": _usage(answer.usage)}

    def begin(self) -> Iterator[bytes]:
        """Open the message and its one block."""
        empty = {"stop_reason": None, "stop_sequence": None}
        used = {"input_tokens": self.prompt_tokens, "output_tokens": 0}
        yield event({"type": "message_start", "message": {**self._head([]), **empty, "usage": used}}, "message_start")
        block = {"type": "text", "text": ""}
        yield event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text of a chunk."""
        del answer
        if piece.chunk.text:
            delta = {"type": "text_delta", "text": piece.chunk.text}
            yield event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Close the block and the message."""
        yield event({"type": "content_block_stop", "index": 0}, "content_block_stop")
        delta = {"type": "message_delta", "delta": self._stop(answers[0]), "usage": _usage(answers[0].usage)}
        yield event(delta, "message_delta")
        yield event({"type": "message_stop"}, "message_stop")

    def failed(self, problem: Problem) -> bytes:
        """Send an error."""
        return event(problem.anthropic(), "error")

    def _head(self, blocks: list[Json]) -> Json:
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": blocks}

    def _stop(self, answer: Answer) -> Json:
        if answer.finish_reason == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        found = self._found_stop(answer)
        return {"stop_reason": "end_turn" if found is None else "stop_sequence", "stop_sequence": found}

    def _found_stop(self, answer: Answer) -> str | None:
        """Return the text that ended the answer: it follows what was shown in the text of the tokens."""
        if not self.stops:
            return None
        drawn = b"".join(map(self.tokenizer.token_bytes, answer.tokens)).decode("utf-8", "replace")
        at = drawn.find(answer.text)
        rest = drawn[max(at, 0) + len(answer.text) :]
        return next((stop for stop in self.stops if rest.startswith(stop)), None)


def _usage(used: Usage) -> Json:
    return {
        "input_tokens": used.prompt_tokens - used.cached_tokens,
        "output_tokens": used.completion_tokens,
        "cache_read_input_tokens": used.cached_tokens,
        "cache_creation_input_tokens": 0,
    }
