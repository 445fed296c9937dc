"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's interface for text, reasoning and calls of tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from phiplug.errors import InvalidParameter
from phiplug.forms.constraints import OUTPUT_CONFIG, STRUCTURED, demand_of
from phiplug.forms.fields import Given, Table, accepted, honoured, integer, mapping, refused, stops
from phiplug.forms.sampling import MODEL, STREAM, Wanted, drawing, request_of
from phiplug.forms.tools import ANTHROPIC_TOOLS, prompt_options
from phiplug.messages import calls_of
from phiplug.server.exchange import Asked, event, respond
from phiplug.server.interfaces.blocks import TEXTS, turns
from phiplug.server.service import read, service_of
from phiplug.types import Message

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json, Problem
    from phiplug.server.ports import Event
    from phiplug.spi import Tokenizer
    from phiplug.types import Usage

_PROMPT = (
    honoured("messages", "a list of messages, below", turns, required=True),
    honoured("system", "a text, or text blocks", TEXTS),
    *MODEL,
    *ANTHROPIC_TOOLS,
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
    ids, markup = await model.prepare(_messages(given), prompt_options(given))
    request = request_of(
        given, ids, engine.info.model, Wanted(max_tokens=given["max_tokens"], templated=True, markup=markup)
    )
    name = f"msg_{http.scope['state']['request_id']}"
    form = MessageForm(name, model.name, len(ids), given["stop"], model.tokenizer)
    asked = Asked(model, engine, (request,), 1, given.ignored, demand_of(given).field)
    return await respond(http, asked, form, stream=given.get("stream", False))


async def count_tokens(http: HttpRequest) -> Response:
    """Count the tokens of a conversation, as a model would be given it."""
    given = await read(http, COUNT_FIELDS)
    model = service_of(http).catalog.model(given.get("model"))
    ids, _ = await model.prepare(_messages(given), prompt_options(given))
    return JSONResponse({"input_tokens": len(ids)})


@dataclass(slots=True)
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
    _open: tuple[str, int] | None = field(default=None)  # which block of a stream is open: its kind, and which call
    _index: int = field(default=-1)

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        answer = answers[0]
        return {**self._head(_blocks(answer)), **self._stop(answer), "usage": _usage(answer.usage)}

    def begin(self) -> Iterator[bytes]:
        """Open the message."""
        empty = {"stop_reason": None, "stop_sequence": None}
        used = {"input_tokens": self.prompt_tokens, "output_tokens": 0}
        yield event({"type": "message_start", "message": {**self._head([]), **empty, "usage": used}}, "message_start")

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the reasoning, the text and the pieces of calls of a chunk, each in its block."""
        del answer
        chunk = piece.chunk
        if chunk.reasoning:
            yield from self._switch("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": chunk.reasoning})
        if chunk.text:
            yield from self._switch("text", {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": chunk.text})
        for call in chunk.tool_calls:
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            yield from self._switch("tool_use", block, call.index)
            if call.arguments:
                yield self._delta({"type": "input_json_delta", "partial_json": call.arguments})

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Close the last block and the message; one without a block gets an empty text."""
        if self._open is None:
            yield from self._switch("text", {"type": "text", "text": ""})
        yield event({"type": "content_block_stop", "index": self._index}, "content_block_stop")
        delta = {"type": "message_delta", "delta": self._stop(answers[0]), "usage": _usage(answers[0].usage)}
        yield event(delta, "message_delta")
        yield event({"type": "message_stop"}, "message_stop")

    def _switch(self, kind: str, block: Json, call: int = 0) -> Iterator[bytes]:
        """Close the open block and open this one, unless it is open already."""
        if self._open == (kind, call):
            return
        if self._open is not None:
            yield event({"type": "content_block_stop", "index": self._index}, "content_block_stop")
        self._open, self._index = (kind, call), self._index + 1
        yield event(
            {"type": "content_block_start", "index": self._index, "content_block": block}, "content_block_start"
        )

    def _delta(self, delta: Json) -> bytes:
        return event({"type": "content_block_delta", "index": self._index, "delta": delta}, "content_block_delta")

    def failed(self, problem: Problem) -> bytes:
        """Send an error."""
        return event(problem.anthropic(), "error")

    def _head(self, blocks: list[Json]) -> Json:
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": blocks}

    def _stop(self, answer: Answer) -> Json:
        if answer.finish_reason == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if answer.finish_reason == "tool_calls":
            return {"stop_reason": "tool_use", "stop_sequence": None}
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


def _blocks(answer: Answer) -> list[Json]:
    """Return the blocks of an answer; the input of a call that was cut off is left out."""
    found: list[Json] = []
    if answer.reasoning:
        found.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    calls = calls_of(answer.calls)
    if answer.text or not calls:
        found.append({"type": "text", "text": answer.text})
    return found + [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.values} for call in calls]


def _usage(used: Usage) -> Json:
    return {
        "input_tokens": used.prompt_tokens - used.cached_tokens,
        "output_tokens": used.completion_tokens,
        "cache_read_input_tokens": used.cached_tokens,
        "cache_creation_input_tokens": 0,
    }
