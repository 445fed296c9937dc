"""POST /v1/responses: OpenAI's newer interface, for text and calls of tools; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from phiplug import checks
from phiplug.forms.constraints import STRUCTURED, TEXT, Demand, demand_of
from phiplug.forms.fields import Given, Table, accepted, array, honoured, integer, mapping, nested, refused, text
from phiplug.forms.sampling import MODEL, OURS, STREAM, TRAVELLING, Wanted, drawing, request_of
from phiplug.forms.tools import RESPONSES_TOOLS, prompt_options
from phiplug.forms.turns import content, message, role
from phiplug.server.exchange import Asked, event, respond
from phiplug.server.service import read, service_of
from phiplug.types import Message, ToolCall

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json, Problem
    from phiplug.server.ports import Event
    from phiplug.types import ToolCallDelta, Usage

_MORE = (honoured("id", "", text), accepted("status", "completed"))
ITEM = Table(
    accepted("type", "message"),
    honoured("role", "", role("system", "developer", "user", "assistant"), required=True),
    honoured(
        "content", "", content("input_text", "output_text", annotations=accepted("annotations", [])), required=True
    ),
    *_MORE,
)
_KIND = honoured("type", "", text, required=True)
_CALL_ID = honoured("call_id", "", text, required=True)
CALL = Table(_KIND, _CALL_ID, honoured("name", "", text, required=True), honoured("arguments", "", text), *_MORE)
OUTPUT = Table(_KIND, _CALL_ID, honoured("output", "", content("input_text"), required=True), *_MORE)


def items(path: str, value: Any) -> tuple[Message, ...]:  # Any: what JSON holds
    """Check for a text, which is the user's, or a list of messages, calls and what they returned."""
    if isinstance(value, str):
        return (Message("user", checks.text(path, value)),)
    found: list[Message] = []
    for at, each in enumerate(array(path, value)):
        said = _item(f"{path}[{at}]", mapping(f"{path}[{at}]", each))
        if said.tool_calls and found and found[-1].role == "assistant":  # text and calls of one answer are one message
            found[-1] = replace(found[-1], tool_calls=(*found[-1].tool_calls, *said.tool_calls))
        else:
            found.append(said)
    return tuple(found)


def _item(path: str, value: Json) -> Message:
    within = f"{path}."
    if value.get("type") == "function_call":
        given = CALL.read(value, within=within)
        return Message("assistant", "", tool_calls=(ToolCall(given["call_id"], given["name"], given["arguments"]),))
    if value.get("type") == "function_call_output":
        given = OUTPUT.read(value, within=within)
        return Message("tool", given["output"], tool_call_id=given["call_id"])
    given = ITEM.read(value, within=within)
    return message(given["role"], given["content"])


FIELDS = Table(
    honoured(
        "input", "a text, or a list of messages with text parts, calls and what they returned", items, required=True
    ),
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
    *RESPONSES_TOOLS,
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
    ids, markup = await model.prepare(said, prompt_options(given))
    wanted = Wanted(max_tokens=given.get("max_output_tokens"), templated=True, markup=markup)
    request = request_of(given, ids, engine.info.model, wanted)
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
    _opened: str | None = field(default=None)  # "message", or "call " and its index
    _at: int = field(default=-1)  # which item of the output that is

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the body of an answer that is not streamed."""
        answer = answers[0]
        status = "incomplete" if answer.finish_reason == "length" else "completed"
        return self._response(status, self._output(status, answer), answer.usage)

    def begin(self) -> Iterator[bytes]:
        """Open the answer."""
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response("in_progress", [], None))

    def piece(self, piece: Event, answer: Answer) -> Iterator[bytes]:
        """Send the text and the pieces of calls of a chunk, each in its item; the items open as they come."""
        if piece.chunk.text:
            yield from self._open(answer, "message")
            yield self._event("response.output_text.delta", **self._place(), delta=piece.chunk.text, logprobs=[])
        for delta in piece.chunk.tool_calls:
            yield from self._open(answer, f"call {delta.index}")
            if delta.arguments:
                place = {"item_id": f"fc_{answer.calls[delta.index].id}", "output_index": self._at}
                yield self._event("response.function_call_arguments.delta", **place, delta=delta.arguments)

    def end(self, answers: Sequence[Answer]) -> Iterator[bytes]:
        """Close the last item and the answer."""
        body = self.whole(answers)
        if self._opened is None:
            yield from self._open(answers[0], "message")
        yield from self._close(answers[0], body["status"])
        yield self._event(f"response.{body['status']}", response=body)

    def _open(self, answer: Answer, opened: str) -> Iterator[bytes]:
        """Close the open item and open this one, unless it is open already."""
        if opened == self._opened:
            return
        if self._opened is not None:
            yield from self._close(answer, "completed")
        self._opened, self._at = opened, self._at + 1
        if opened == "message":
            item = {**self._message("in_progress", ""), "content": []}
            yield self._event("response.output_item.added", output_index=self._at, item=item)
            yield self._event("response.content_part.added", **self._place(), part=_part(""))
        else:
            item = {**_call("in_progress", answer.calls[int(opened[5:])]), "arguments": ""}
            yield self._event("response.output_item.added", output_index=self._at, item=item)

    def _close(self, answer: Answer, status: str) -> Iterator[bytes]:
        """Close the open item."""
        if self._opened == "message":
            item = self._message(status, answer.text)
            yield self._event("response.output_text.done", **self._place(), text=answer.text, logprobs=[])
            yield self._event("response.content_part.done", **self._place(), part=_part(answer.text))
        else:
            call = answer.calls[int((self._opened or "")[5:])]
            item = _call(status, call)
            place = {"item_id": item["id"], "output_index": self._at}
            yield self._event("response.function_call_arguments.done", **place, arguments=call.arguments)
        yield self._event("response.output_item.done", output_index=self._at, item=item)

    def _output(self, status: str, answer: Answer) -> list[Json]:
        """Return the items of an answer, in the order in which a stream opens them."""
        said = [self._message(status, answer.text)] if answer.text or not answer.calls else []
        return said + [_call(status, call) for call in answer.calls]

    def failed(self, problem: Problem) -> bytes:
        """Send an error."""
        error = {"code": problem.code or problem.type, "message": problem.message}
        return self._event("response.failed", response={**self._response("failed", [], None), "error": error})

    def _event(self, kind: str, **data: Any) -> bytes:  # Any: what JSON holds
        self._sent += 1
        return event({"type": kind, "sequence_number": self._sent - 1, **data}, kind)

    def _place(self) -> Json:
        return {"item_id": f"msg_{self.name}", "output_index": self._at, "content_index": 0}

    def _message(self, status: str, said: str) -> Json:
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
            "tools": [{"type": "function", **tool.as_function()} for tool in given.get("tools", ())],
            "top_p": given.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None if used is None else _usage(used),
        }


def _call(status: str, call: ToolCallDelta) -> Json:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
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
