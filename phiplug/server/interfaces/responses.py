"""POST /v1/responses: OpenAI's newer interface, text in and text out; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from phiplug import checks
from phiplug.server.exchange import Asked, event, respond
from phiplug.server.fields import Given, Table, accepted, array, honoured, integer, mapping, nested, refused, text
from phiplug.server.interfaces.constraints import STRUCTURED, TEXT, Demand, demand_of
from phiplug.server.interfaces.sampling import MODEL, OURS, STREAM, TRAVELLING, Wanted, drawing, request_of
from phiplug.server.interfaces.turns import content, message, role
from phiplug.server.service import read, service_of
from phiplug.types import Message

if TYPE_CHECKING:
    from phiplug.server.answers import Answer
    from phiplug.server.ports import Event
    from phiplug.server.problems import Json, Problem
    from phiplug.types import Usage

ITEM = Table(
    accepted("type", "message"),
    honoured("role", "", role("system", "developer", "user", "assistant"), required=True),
    honoured(
        "content", "", content("input_text", "output_text", annotations=accepted("annotations", [])), required=True
    ),
    honoured("id", "", text),
    accepted("status", "completed"),
)


def items(path: str, value: Any) -> tuple[Message, ...]:  # Any: what JSON holds
    """Check for a text, which is the user's, or a list of messages."""
    if isinstance(value, str):
        return (Message("user", checks.text(path, value)),)
    listed = [
        ITEM.read(mapping(f"{path}[{at}]", each), within=f"{path}[{at}].") for at, each in enumerate(array(path, value))
    ]
    return tuple(message(each["role"], each["content"]) for each in listed)


FIELDS = Table(
    honoured("input", "a text, or a list of messages with text parts", items, required=True),
    honoured("instructions", "a text: a system message before the others", text),
    *MODEL,
    honoured("max_output_tokens", "an integer from 1; to the context's end if it is left out", integer(1)),
    *drawing(),
    *OURS,
    STREAM,
    honoured("stream_options", "`include_obfuscation` false", nested(Table(accepted("include_obfuscation", False)))),
    *TRAVELLING,
    TEXT,
    STRUCTURED,
    accepted("store", False),
    accepted("background", False),
    accepted("tools", []),
    accepted("tool_choice", "none", "auto"),
    accepted("parallel_tool_calls", True, False),
    accepted("include", []),
    accepted("truncation", "disabled"),
    accepted("service_tier", "auto", "default"),
    accepted("top_logprobs", 0),
    refused("previous_response_id", "no answer is stored, so none can be gone back to"),
    refused("conversation", "no conversation is stored"),
    refused("prompt", "no prompt is stored"),
    refused("reasoning", "is not served yet"),
)


async def create(http: HttpRequest) -> Response:
    """Answer a conversation."""
    service = service_of(http)
    given = await read(http, FIELDS)
    model = service.catalog.model(given.get("model"))
    engine = model.engine(given.get("backend"))
    said: tuple[Message, ...] = given["input"]
    if given.get("instructions"):
        said = (Message("system", given["instructions"]), *said)
    wanted = Wanted(max_tokens=given.get("max_output_tokens"), templated=True)
    request = request_of(given, await model.encode(said), engine, wanted)
    form = ResponseForm(http.scope["state"]["request_id"], int(service.clock()), model.name, given)
    asked = Asked(model, engine, (request,), 1, given.ignored, demand_of(given).field)
    return await respond(http, asked, form, stream=given.get("stream", False))


@dataclass(slots=True)
class ResponseForm:
    """One answer of /v1/responses.

    Attributes:
        name: what the ids of the answer and its parts end with.
        created: in seconds of Unix time.
        model: the name that is served.
        given: the fields of the request; some are repeated in the answer.
    """

    name: str
    created: int
    model: str
    given: Given
    _sent: int = field(default=0)

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        answer = answers[0]
        status = "incomplete" if answer.finish_reason == "length" else "completed"
        return self._response(status, [self._item(status, answer.text)], answer.usage)

    def begin(self) -> Iterator[bytes]:
        """Open the answer, its one item and that item's one part."""
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response("in_progress", [], None))
        item = {**self._item("in_progress", ""), "content": []}
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._place(), part=_part(""))

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text of a chunk."""
        del answer
        if piece.chunk.text:
            yield self._event("response.output_text.delta", **self._place(), delta=piece.chunk.text, logprobs=[])

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Close the part, the item and the answer."""
        body, said = self.whole(answers), answers[0].text
        yield self._event("response.output_text.done", **self._place(), text=said, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=_part(said))
        yield self._event("response.output_item.done", output_index=0, item=body["output"][0])
        yield self._event(f"response.{body['status']}", response=body)

    def failed(self, problem: Problem) -> bytes:
        """Send an error."""
        error = {"code": problem.code or problem.type, "message": problem.message}
        return self._event("response.failed", response={**self._response("failed", [], None), "error": error})

    def _event(self, kind: str, **data: Any) -> bytes:  # Any: what JSON holds
        self._sent += 1
        return event({"type": kind, "sequence_number": self._sent - 1, **data}, kind)

    def _place(self) -> Json:
        return {"item_id": f"msg_{self.name}", "output_index": 0, "content_index": 0}

    def _item(self, status: str, said: str) -> Json:
        return {
            "id": f"msg_{self.name}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [_part(said)],
        }

    def _response(self, status: str, output: list[Json], used: Usage | None) -> Json:
        given = self.given
        asked = given.get("text")
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{self.name}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "instructions": given.get("instructions"),
            "max_output_tokens": given.get("max_output_tokens"),
            "metadata": given.get("metadata", {}),
            "model": self.model,
            "output": output,
            "parallel_tool_calls": given.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "store": False,
            "temperature": given.get("temperature", 1.0),
            "text": {"format": asked.written if isinstance(asked, Demand) else {"type": "text"}},
            "tool_choice": given.get("tool_choice", "auto"),
            "tools": [],
            "top_p": given.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None if used is None else _usage(used),
        }


def _part(said: str) -> Json:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def _usage(used: Usage) -> Json:
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }
