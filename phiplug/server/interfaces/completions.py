"""POST /v1/completions: OpenAI's interface for texts that go on, and lm-evaluation-harness's for scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from phiplug.forms.completions import FIELDS, TextBody, check_together, echoed, text_requests
from phiplug.forms.constraints import demand_of
from phiplug.forms.spelling import Spelling
from phiplug.server.exchange import Asked, respond
from phiplug.server.interfaces.openai import OpenAIForm, head_of, wants_counts
from phiplug.server.service import read, service_of

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json
    from phiplug.server.ports import Event


async def create(http: HttpRequest) -> Response:
    """Continue texts."""
    service = service_of(http)
    given = await read(http, FIELDS)
    check_together(given)
    model = service.catalog.model(given.get("model"))
    engine = model.engine(given.get("backend"))
    prompt_ids = [tuple(each) if not isinstance(each, str) else await model.encode(each) for each in given["prompt"]]
    requests = text_requests(given, prompt_ids, engine.info.model)
    asked = Asked(model, engine, requests, given.get("n", 1), given.ignored, demand_of(given).field)
    body = TextBody(
        head_of(http, asked, "cmpl"),
        asked.choices,
        None if given.get("logprobs") is None else Spelling(model.tokenizer),
        prompts=tuple(prompt_ids),
        echoed=echoed(given, model.tokenizer),
    )
    return await respond(http, asked, TextForm(body, wants_counts(given)), stream=given.get("stream", False))


@dataclass(frozen=True, slots=True)
class TextForm(OpenAIForm):
    """One answer of /v1/completions."""

    CHUNK = "text_completion"

    body: TextBody
    _offsets: dict[int, int] = field(default_factory=dict)

    def begin(self) -> Iterator[bytes]:
        """Repeat the prompt, where that is wanted."""
        for index in range(len(self.body.prompts) * self.body.choices):
            echo = self.body.echo(index)
            self._offsets[index] = len(echo or "")
            if echo:
                yield self._chunk(index, echo)

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text of a chunk, and its log-probabilities."""
        chunk, logprobs = piece.chunk, None
        if self.body.spelling and chunk.logprobs:
            logprobs = self.body.spelling.legacy(chunk.logprobs, offset=self._offsets[piece.choice])
            self._offsets[piece.choice] += sum(map(len, logprobs["tokens"]))
        if chunk.text or logprobs or chunk.finish_reason:
            yield self._chunk(piece.choice, chunk.text, logprobs, answer.finish_reason)

    def _chunk(self, index: int, text: str, logprobs: Json | None = None, finish_reason: str | None = None) -> bytes:
        return self._event({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason})
