"""What /v1/chat/completions takes and gives: OpenAI's form of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.errors import InvalidParameter
from phiplug.forms.constraints import FORMS
from phiplug.forms.fields import Given, Table, accepted, flag, honoured, integer, refused
from phiplug.forms.objects import Body
from phiplug.forms.sampling import MODEL, OPENAI, STREAM, STREAM_OPTIONS, TRAVELLING, Wanted, request_of
from phiplug.forms.tools import OPENAI_TOOLS, openai_call
from phiplug.forms.turns import OPENAI_MESSAGE, TEMPLATE_KWARGS, messages
from phiplug.types import MAX_LOGPROBS

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json
    from phiplug.markup import Markup
    from phiplug.spi import ModelInfo
    from phiplug.types import Request

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


def chat_request(given: Given, ids: tuple[int, ...], markup: Markup, info: ModelInfo) -> Request:
    """Make the request of a conversation whose prompt has these ids and whose answer may hold `markup`.

    Raises:
        InvalidParameter: the fields do not go together.
    """
    wanted = Wanted(max_tokens=_max_tokens(given), logprobs=_logprobs(given), templated=True, markup=markup)
    return request_of(given, ids, info, wanted)


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
class ChatBody(Body):
    """One answer of /v1/chat/completions."""

    KIND = "chat.completion"

    def choice(self, index: int, answers: Sequence[Answer]) -> Json:
        """Return the object of the answer number `index`."""
        answer = answers[index]
        return {
            "index": index,
            "message": _message(answer),
            "logprobs": self.spelling.chat(answer.logprobs) if self.spelling else None,
            "finish_reason": answer.finish_reason,
        }
