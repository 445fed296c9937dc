"""From a checked request to its answer: queue it, read its events, and spell them in the form of an interface.

Every endpoint that generates text goes through `respond`; what differs between them is a `Form`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from starlette.responses import JSONResponse, Response

from phiplug.forms.admission import admit, naming_the_form
from phiplug.forms.answers import Answer
from phiplug.forms.problems import Json, Problem, problem_of
from phiplug.server.answers import submit
from phiplug.server.eventstream import EventStream
from phiplug.server.ports import Work
from phiplug.server.service import service_of

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

    from phiplug.server.catalog import ServedModel
    from phiplug.server.ports import EnginePort, Event, Events
    from phiplug.server.service import Service
    from phiplug.types import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants computed.

    Attributes:
        model: which one.
        engine: on which backend.
        requests: one for each prompt.
        choices: so many answers to each.
        ignored: names of fields that were passed over.
        form_field: the field that asks for a form of the answers; errors of their constraint name it.
    """

    model: ServedModel
    engine: EnginePort
    requests: Sequence[Request]
    choices: int = 1
    ignored: tuple[str, ...] = ()
    form_field: str = ""

    @property
    def count(self) -> int:
        """How many answers there are."""
        return len(self.requests) * self.choices


class Form(Protocol):
    """How one interface spells an answer. One value spells one answer, whole or as a stream."""

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        ...

    def begin(self) -> Iterator[bytes]:
        """Yield the events of a stream that come before any text."""
        ...

    def piece(self, event: Event, answer: Answer) -> Iterator[bytes]:
        """Yield the events that a chunk brings; `answer` is its choice so far, with the chunk."""
        ...

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Yield the events that end a stream."""
        ...

    def failed(self, problem: Problem) -> bytes:
        """Return the events that end a stream in an error."""
        ...


async def respond(http: HttpRequest, asked: Asked, form: Form, *, stream: bool) -> Response:
    """Compute an answer and return it, whole or as a stream.

    Raises:
        PhiplugError: before anything was sent.
    """
    service = service_of(http)
    for request in asked.requests:
        admit(asked.engine.info.model, request)
    headers = (
        {"x-phiplug-ignored": ", ".join(asked.ignored).encode("ascii", "replace").decode()} if asked.ignored else {}
    )
    service.enter()
    try:
        with naming_the_form(asked.requests[0], asked.form_field):
            events = await submit(asked.engine, _works(http, asked))
    except BaseException:
        service.leave()
        raise
    if stream:
        return _streamed(http, asked, form, events, headers)
    try:
        with naming_the_form(asked.requests[0], asked.form_field):
            answers = await _until_gone(http, service, _gather(service, asked, events))
    finally:
        await events.aclose()
        service.leave()
    return JSONResponse(form.whole(answers), headers=headers)


def _streamed(http: HttpRequest, asked: Asked, form: Form, events: Events, headers: dict[str, str]) -> EventStream:
    service, path = service_of(http), http.url.path

    async def ended() -> None:
        await events.aclose()
        service.leave()

    response = EventStream(
        _spelt(service, asked, form, events),
        drain=service.drain,
        failed=lambda error: form.failed(problem_of(error, path)),
        pace=service.settings.pace,
        ended=ended,
    )
    response.headers.update(headers)
    return response


def _works(http: HttpRequest, asked: Asked) -> list[Work]:
    name = http.scope["state"]["request_id"]
    if len(asked.requests) == 1:
        return [Work(name, asked.requests[0], asked.choices)]
    return [Work(f"{name}.{index}", request, asked.choices) for index, request in enumerate(asked.requests)]


async def _spelt(service: Service, asked: Asked, form: Form, events: Events) -> AsyncGenerator[bytes]:
    answers = [Answer() for _ in range(asked.count)]
    for piece in form.begin():
        yield piece
    async for event in events:
        answer = answers[event.choice]
        answer.add(event.chunk)
        for piece in form.piece(event, answer):
            yield piece
    _count(service, asked, answers)
    for piece in form.end(answers):
        yield piece


async def _gather(service: Service, asked: Asked, events: Events) -> list[Answer]:
    answers = [Answer() for _ in range(asked.count)]
    async for event in events:
        answers[event.choice].add(event.chunk)
    _count(service, asked, answers)
    return answers


def _count(service: Service, asked: Asked, answers: Sequence[Answer]) -> None:
    for start in range(0, len(answers), asked.choices):
        service.metrics.finished(asked.model.name, asked.engine.info.backend, answers[start : start + asked.choices])


async def _until_gone(http: HttpRequest, service: Service, work: Coroutine[None, None, T]) -> T:
    """Finish `work`, or raise `ClientGone` as soon as the client goes, or an error when the server's time is over."""
    answering = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(http))
    try:
        async with service.drain.limit():
            await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientGone
        return answering.result()
    finally:
        answering.cancel()
        gone.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def event(data: Json, name: str | None = None) -> bytes:
    """Spell one server-sent event."""
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\ndata: {body}\n\n" if name else f"data: {body}\n\n").encode()
