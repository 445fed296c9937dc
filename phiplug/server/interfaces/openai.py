"""What /v1/chat/completions and /v1/completions have in common: how a stream begins, ends, and fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from phiplug.forms.objects import Body, Head
from phiplug.server.exchange import event
from phiplug.server.service import service_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request as HttpRequest

    from phiplug.forms.answers import Answer
    from phiplug.forms.fields import Given
    from phiplug.forms.problems import Json, Problem
    from phiplug.server.exchange import Asked

_LAST = b"data: [DONE]\n\n"


def head_of(http: HttpRequest, asked: Asked, prefix: str) -> Head:
    """Describe the answer to a request; its id begins with `prefix`."""
    request_id, now = http.scope["state"]["request_id"], int(service_of(http).clock())
    return Head(f"{prefix}-{request_id}", now, asked.model.name, f"phiplug-{asked.engine.info.backend}")


@dataclass(frozen=True, slots=True)
class OpenAIForm:
    """One answer of an older interface of OpenAI.

    Attributes:
        body: the answer where it is not streamed.
        counts: a stream ends with the token counts.
    """

    CHUNK: ClassVar[str]

    body: Body
    counts: bool

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        return self.body.whole(answers)

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Send the token counts, where they are wanted, and OpenAI's last word."""
        if self.counts:
            yield event({**self.body.head.object(self.CHUNK), "choices": [], "usage": self.body.usage(answers)})
        yield _LAST

    def failed(self, problem: Problem) -> bytes:
        """Send an error, and OpenAI's last word."""
        return event(problem.openai()) + _LAST

    def _event(self, choice: Json) -> bytes:
        none = {"usage": None} if self.counts else {}
        return event({**self.body.head.object(self.CHUNK), "choices": [choice], **none})


def wants_counts(given: Given) -> bool:
    """Whether `stream_options` asks for token counts at the end of a stream."""
    options = given.get("stream_options")
    return bool(options and options.get("include_usage"))
