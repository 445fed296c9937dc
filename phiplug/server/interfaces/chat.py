"""POST /v1/chat/completions: OpenAI's interface for conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from phiplug.forms.chat import FIELDS, ChatBody, chat_request
from phiplug.forms.constraints import demand_of
from phiplug.forms.spelling import Spelling
from phiplug.forms.tools import openai_deltas, prompt_options
from phiplug.server.exchange import Asked, respond
from phiplug.server.interfaces.openai import OpenAIForm, head_of, wants_counts
from phiplug.server.service import read, service_of

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json
    from phiplug.server.ports import Event


async def create(http: HttpRequest) -> Response:
    """Answer a conversation."""
    service = service_of(http)
    given = await read(http, FIELDS)
    model = service.catalog.model(given.get("model"))
    engine = model.engine(given.get("backend"))
    ids, markup = await model.prepare(given["messages"], prompt_options(given))
    request = chat_request(given, ids, markup, engine.info.model)
    asked = Asked(model, engine, (request,), given.get("n", 1), given.ignored, demand_of(given).field)
    spelling = None if request.logprobs is None else Spelling(model.tokenizer)
    form = ChatForm(ChatBody(head_of(http, asked, "chatcmpl"), asked.choices, spelling), wants_counts(given))
    return await respond(http, asked, form, stream=given.get("stream", False))


@dataclass(frozen=True, slots=True)
class ChatForm(OpenAIForm):
    """One answer of /v1/chat/completions."""

    CHUNK = "chat.completion.chunk"

    def begin(self) -> Iterator[bytes]:
        """Say who speaks, for each choice."""
        for index in range(self.body.choices):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text of a chunk with its log-probabilities, its reasoning, and its pieces of calls."""
        chunk = piece.chunk
        logprobs = self.body.spelling.chat(chunk.logprobs) if self.body.spelling and chunk.logprobs else None
        if chunk.reasoning:
            yield self._chunk(piece.choice, {"reasoning_content": chunk.reasoning})
        if chunk.text or logprobs:
            yield self._chunk(piece.choice, {"content": chunk.text}, logprobs)
        if chunk.tool_calls:
            yield self._chunk(piece.choice, {"tool_calls": openai_deltas(chunk.tool_calls)})
        if chunk.finish_reason:
            yield self._chunk(piece.choice, {}, finish_reason=answer.finish_reason)

    def _chunk(self, index: int, delta: Json, logprobs: Json | None = None, finish_reason: str | None = None) -> bytes:
        return self._event({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason})
