"""POST /v1/chat/completions: OpenAI's interface for conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from phiplug.errors import InvalidParameter
from phiplug.server.exchange import Asked, respond
from phiplug.server.fields import Given, Table, accepted, flag, honoured, integer, refused
from phiplug.server.interfaces.constraints import FORMS, demand_of
from phiplug.server.interfaces.openai import Head, OpenAIForm, wants_counts
from phiplug.server.interfaces.sampling import (
    MODEL,
    OPENAI,
    STREAM,
    STREAM_OPTIONS,
    TRAVELLING,
    Wanted,
    request_of,
)
from phiplug.server.interfaces.spelling import Spelling
from phiplug.server.interfaces.tools import OPENAI_TOOLS, openai_call, openai_deltas, prompt_options
from phiplug.server.interfaces.turns import OPENAI_MESSAGE, TEMPLATE_KWARGS, messages
from phiplug.server.service import read, service_of
from phiplug.types import MAX_LOGPROBS

if TYPE_CHECKING:
    from phiplug.server.answers import Answer
    from phiplug.server.ports import Event
    from phiplug.server.problems import Json

_LATER = "is not served yet"

FIELDS = Table(
    honoured("messages", "a list of messages, below", messages(OPENAI_MESSAGE), required=True),
    *MODEL,
    honoured("max_tokens", "an integer from 1; to the context's end if it is left out", integer(1)),
    honoured("max_completion_tokens", "the same; where both are there they are equal", integer(1)),
    *OPENAI,
    *FORMS,
    honoured("logprobs", "true gives each token's log-probability", flag),
    honoured(
        "top_logprobs", f"0 to {MAX_LOGPROBS} of the likeliest tokens; needs `logprobs`", integer(0, MAX_LOGPROBS)
    ),
    TEMPLATE_KWARGS,
    STREAM,
    STREAM_OPTIONS,
    *TRAVELLING,
    *OPENAI_TOOLS,
    accepted("functions", []),
    accepted("function_call", "none", "auto"),
    accepted("store", False),
    accepted("service_tier", "auto", "default"),
    accepted("modalities", ["text"]),
    refused("reasoning_effort", _LATER),
    refused("verbosity", _LATER),
    refused("audio", "no sound is made here"),
    refused("prediction", _LATER),
    refused("web_search_options", "nothing is looked up here"),
    refused("chat_template", "the template is the server's, and never a request's"),
)


async def create(http: HttpRequest) -> Response:
    """Answer a conversation."""
    service = service_of(http)
    given = await read(http, FIELDS)
    model = service.catalog.model(given.get("model"))
    engine = model.engine(given.get("backend"))
    ids, markup = await model.prepare(given["messages"], prompt_options(given))
    wanted = Wanted(max_tokens=_max_tokens(given), logprobs=_logprobs(given), templated=True, markup=markup)
    request = request_of(given, ids, engine, wanted)
    asked = Asked(model, engine, (request,), given.get("n", 1), given.ignored, demand_of(given).field)
    form = ChatForm(
        Head.of(http, asked, "chatcmpl"),
        asked.choices,
        None if wanted.logprobs is None else Spelling(model.tokenizer),
        wants_counts(given),
    )
    return await respond(http, asked, form, stream=given.get("stream", False))


def _max_tokens(given: Given) -> int | None:
    """Return how long the answer may be; LangChain sends the newer name alone."""
    older, newer = given.get("max_tokens"), given.get("max_completion_tokens")
    if older is not None and newer is not None and older != newer:
        raise InvalidParameter("max_completion_tokens", f"is {newer}, and max_tokens is {older}")
    found: int | None = older if newer is None else newer
    return found


def _logprobs(given: Given) -> int | None:
    if given.get("logprobs"):
        return int(given.get("top_logprobs", 0))
    if given.get("top_logprobs"):
        raise InvalidParameter("top_logprobs", "needs logprobs", hint="set logprobs to true")
    return None


def _message(answer: Answer) -> Json:
    """Return an answer as a message; its reasoning and its calls are there where there are such."""
    said: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.calls:
        said |= {"content": answer.text or None, "tool_calls": list(map(openai_call, answer.calls))}
    return said | ({"reasoning_content": answer.reasoning} if answer.reasoning else {})


@dataclass(frozen=True, slots=True)
class ChatForm(OpenAIForm):
    """One answer of /v1/chat/completions."""

    WHOLE = "chat.completion"
    CHUNK = "chat.completion.chunk"

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        choices: list[Json] = [
            {
                "index": index,
                "message": _message(answer),
                "logprobs": self.spelling.chat(answer.logprobs) if self.spelling else None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return self._body(choices, answers)

    def begin(self) -> Iterator[bytes]:
        """Say who speaks, for each choice."""
        for index in range(self.choices):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text of a chunk with its log-probabilities, its reasoning, and its pieces of calls."""
        chunk = piece.chunk
        logprobs = self.spelling.chat(chunk.logprobs) if self.spelling and chunk.logprobs else None
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
