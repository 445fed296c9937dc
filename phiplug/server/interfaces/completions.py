"""POST /v1/completions: OpenAI's interface for texts that go on, and lm-evaluation-harness's for scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from phiplug import checks
from phiplug.errors import InvalidParameter
from phiplug.server.exchange import Asked, respond
from phiplug.server.fields import Given, Table, accepted, array, flag, honoured, integer
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
from phiplug.server.service import read, service_of
from phiplug.types import MAX_LOGPROBS

if TYPE_CHECKING:
    from phiplug.server.answers import Answer
    from phiplug.server.catalog import ServedModel
    from phiplug.server.ports import Event
    from phiplug.server.problems import Json

MAX_PROMPTS = 2048
DEFAULT_TOKENS = 16  # what OpenAI generates where nothing is said

Prompt = str | tuple[int, ...]


def prompts(path: str, value: Any) -> tuple[Prompt, ...]:  # Any: what JSON holds
    """Check for a text, a list of texts, ids, or a list of lists of ids."""
    if isinstance(value, str):
        return (_prompt(path, value),)
    listed = array(path, value)
    if listed and all(isinstance(each, int) for each in listed):
        return (_prompt(path, listed),)
    if not 0 < len(listed) <= MAX_PROMPTS:
        raise InvalidParameter(path, f"{len(listed)} prompts are outside [1, {MAX_PROMPTS}]")
    return tuple(_prompt(f"{path}[{index}]", each) for index, each in enumerate(listed))


def _prompt(path: str, value: Any) -> Prompt:  # Any: as above
    found = checks.text(path, value) if isinstance(value, str) else checks.ids(path, value)
    if not found:
        raise InvalidParameter(path, "is empty")
    return found


FIELDS = Table(
    honoured("prompt", "a text, ids, or a list of texts or of lists of ids", prompts, required=True),
    *MODEL,
    honoured(
        "max_tokens",
        f"an integer from 0, {DEFAULT_TOKENS} if it is left out; 0 needs `echo` and `logprobs`",
        integer(0),
    ),
    *OPENAI,
    *FORMS,
    honoured("echo", "true repeats the prompt before the answer", flag),
    honoured(
        "logprobs",
        f"0 to {MAX_LOGPROBS}; with `echo` of the prompt too, and then not streamed",
        integer(0, MAX_LOGPROBS),
    ),
    honoured("best_of", "equal to `n`", integer(1, 128)),
    STREAM,
    STREAM_OPTIONS,
    *TRAVELLING,
    accepted("suffix", ""),
    accepted("store", False),
    accepted("service_tier", "auto", "default"),
)


async def create(http: HttpRequest) -> Response:
    """Continue texts."""
    service = service_of(http)
    given = await read(http, FIELDS)
    _check_together(given)
    model = service.catalog.model(given.get("model"))
    engine = model.engine(given.get("backend"))
    prompt_ids = [tuple(each) if not isinstance(each, str) else await model.encode(each) for each in given["prompt"]]
    requests = [request_of(given, ids, engine, _wanted(given, ids)) for ids in prompt_ids]
    asked = Asked(model, engine, requests, given.get("n", 1), given.ignored, demand_of(given).field)
    form = TextForm(
        Head.of(http, asked, "cmpl"),
        asked.choices,
        None if given.get("logprobs") is None else Spelling(model.tokenizer),
        wants_counts(given),
        prompts=tuple(prompt_ids),
        echoed=tuple(_text(model, each) if given.get("echo") else None for each in given["prompt"]),
    )
    return await respond(http, asked, form, stream=given.get("stream", False))


def _check_together(given: Given) -> None:
    if given.get("best_of", given.get("n", 1)) != given.get("n", 1):
        raise InvalidParameter("best_of", f"is not n, which is {given.get('n', 1)}", hint="leave it out")
    scores = given.get("echo") and given.get("logprobs") is not None
    if given.get("max_tokens") == 0 and not scores:
        raise InvalidParameter("max_tokens", "0 needs echo and logprobs")
    if scores and given.get("stream"):
        raise InvalidParameter("stream", "log-probabilities of a prompt are not streamed", hint="leave one of them out")


def _wanted(given: Given, ids: tuple[int, ...]) -> Wanted:
    """Say what to compute for one prompt; the first of its tokens follows nothing, so it has no probability."""
    scores = bool(given.get("echo")) and given.get("logprobs") is not None and len(ids) > 1
    least = 0 if scores else 1
    return Wanted(
        max_tokens=max(given.get("max_tokens", DEFAULT_TOKENS), least),
        logprobs=given.get("logprobs"),
        score_from=1 if scores else None,
    )


def _text(model: ServedModel, prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    for token in prompt:
        checks.integer("prompt", token, low=0, high=model.tokenizer.vocab_size - 1)
    return b"".join(map(model.tokenizer.token_bytes, prompt)).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TextForm(OpenAIForm):
    """One answer of /v1/completions.

    Attributes:
        prompts: their ids.
        echoed: their texts, or None where they are not repeated.
    """

    WHOLE = CHUNK = "text_completion"

    prompts: tuple[tuple[int, ...], ...]
    echoed: tuple[str | None, ...]
    _offsets: dict[int, int] = field(default_factory=dict)

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        choices: list[Json] = [
            {
                "index": index,
                "text": (self._echo(index) or "") + answer.text,
                "logprobs": self._logprobs(index, answer, answers[index - index % self.choices]),
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return self._body(choices, answers)

    def begin(self) -> Iterator[bytes]:
        """Repeat the prompt, where that is wanted."""
        for index in range(len(self.prompts) * self.choices):
            echo = self._echo(index)
            self._offsets[index] = len(echo or "")
            if echo:
                yield self._chunk(index, echo)

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text of a chunk, and its log-probabilities."""
        chunk, logprobs = piece.chunk, None
        if self.spelling and chunk.logprobs:
            logprobs = self.spelling.legacy(chunk.logprobs, offset=self._offsets[piece.choice])
            self._offsets[piece.choice] += sum(map(len, logprobs["tokens"]))
        if chunk.text or logprobs or chunk.finish_reason:
            yield self._chunk(piece.choice, chunk.text, logprobs, answer.finish_reason)

    def _echo(self, index: int) -> str | None:
        return self.echoed[index // self.choices]

    def _logprobs(self, index: int, answer: Answer, first: Answer) -> Json | None:
        """Write those of the answer, after those of the prompt, which the first of its choices has."""
        if self.spelling is None:
            return None
        if self._echo(index) is None:
            return self.spelling.legacy(answer.logprobs)
        return self.spelling.legacy(
            [*first.prompt_logprobs, *answer.logprobs], first=self.prompts[index // self.choices][0]
        )

    def _chunk(self, index: int, text: str, logprobs: Json | None = None, finish_reason: str | None = None) -> bytes:
        return self._event({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason})
