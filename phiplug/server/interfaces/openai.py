"""What /v1/chat/completions and /v1/completions have in common: how an answer begins, ends, and fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from phiplug.server.answers import total_usage
from phiplug.server.exchange import event
from phiplug.server.interfaces.spelling import Spelling, usage
from phiplug.server.service import service_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request as HttpRequest

    from phiplug.server.answers import Answer
    from phiplug.server.exchange import Asked
    from phiplug.server.fields import Given
    from phiplug.server.problems import Json, Problem

_LAST = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one answer repeats.

    Attributes:
        id: of the answer.
        created: in seconds of Unix time.
        model: the name that is served.
        system_fingerprint: of what computed it.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def of(cls, http: HttpRequest, asked: Asked, prefix: str) -> Self:
        """Describe the answer to a request; its id begins with `prefix`."""
        request_id, now = http.scope["state"]["request_id"], int(service_of(http).clock())
        return cls(f"{prefix}-{request_id}", now, asked.model.name, f"phiplug-{asked.engine.info.backend}")

    def object(self, kind: str) -> Json:
        """Return the beginning of an object of this kind."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


@dataclass(frozen=True, slots=True)
class OpenAIForm:
    """One answer of an older interface of OpenAI.

    Attributes:
        head: what all of its objects repeat.
        choices: how many there are of each prompt.
        spelling: writes log-probabilities, or None where they were not asked for.
        counts: a stream ends with the token counts.
    """

    WHOLE: ClassVar[str]
    CHUNK: ClassVar[str]

    head: Head
    choices: int
    spelling: Spelling | None
    counts: bool

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Send the token counts, where they are wanted, and OpenAI's last word."""
        if self.counts:
            yield event({**self.head.object(self.CHUNK), "choices": [], "usage": self._usage(answers)})
        yield _LAST

    def failed(self, problem: Problem) -> bytes:
        """Send an error, and OpenAI's last word."""
        return event(problem.openai()) + _LAST

    def _body(self, choices: list[Json], answers: Sequence[Answer]) -> Json:
        return {**self.head.object(self.WHOLE), "choices": choices, "usage": self._usage(answers)}

    def _event(self, choice: Json) -> bytes:
        none = {"usage": None} if self.counts else {}
        return event({**self.head.object(self.CHUNK), "choices": [choice], **none})

    def _usage(self, answers: Sequence[Answer]) -> Json:
        return usage(total_usage(answers, self.choices))


def wants_counts(given: Given) -> bool:
    """Whether `stream_options` asks for token counts at the end of a stream."""
    options = given.get("stream_options")
    return bool(options and options.get("include_usage"))
