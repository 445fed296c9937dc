"""Errors as HTTP has them: a status, and a body in OpenAI's form or, below /v1/messages, in Anthropic's.

It knows what an error means to a client, and not where errors come from.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from phiplug.errors import (
    EngineUnavailable,
    InvalidParameter,
    ModelBusy,
    PhiplugError,
    PromptTooLong,
    RequestError,
    TemplateFailed,
    UnsupportedParameter,
    outcome_of,
)

_log = logging.getLogger("phiplug.server")
Json = dict[str, Any]  # Any: what JSON holds


class Refused(RequestError):
    """A request that HTTP itself refuses.

    Attributes:
        status: of HTTP.
        code: OpenAI's word for the reason, which programs look for.
        param: the field that is to blame, or None.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told.

    Attributes:
        status: of HTTP.
        type: OpenAI's class of errors.
        message: one line for people.
        code: the reason, for programs.
        param: the field that is to blame.
        retry_after: the client may try again in so many seconds.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the status asks for; a connection whose request was not read to its end is closed."""
        found = {"retry-after": str(self.retry_after)} if self.retry_after is not None else {}
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        if self.status in (408, 413):
            found["connection"] = "close"
        return found

    def openai(self) -> Json:
        """Return OpenAI's body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def anthropic(self) -> Json:
        """Return Anthropic's body; its form has no field for the parameter, so the message names it."""
        kind = _ANTHROPIC.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        named = self.param is None or self.param in self.message
        return {
            "type": "error",
            "error": {"type": kind, "message": self.message if named else f"{self.param}: {self.message}"},
        }


_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_FIELDS = {"dialect": "sampling_dialect", "ignore_stop_ids": "ignore_eos", "variables": "chat_template_kwargs"}
"""Parameters that HTTP spells otherwise."""

_CODES: dict[type, str] = {
    UnsupportedParameter: "unsupported_parameter",
    InvalidParameter: "invalid_value",
    PromptTooLong: "context_length_exceeded",
    TemplateFailed: "template_failed",
    ModelBusy: "rate_limit_exceeded",
    EngineUnavailable: "engine_unavailable",
}

_PROMPTS = {"/v1/completions": "prompt", "/v1/responses": "input", "/tokenize": "prompt", "/detokenize": "tokens"}
"""The field that holds the prompt, where it is not `messages`."""


def problem_of(error: PhiplugError, path: str) -> Problem:
    """Say what `error` means to the client that asked for `path`."""
    if isinstance(error, Refused):
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return Problem(error.status, kind, str(error), error.code, error.param)
    outcome = outcome_of(error)
    code = next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), None)
    retry_after = (
        error.retry_after if isinstance(error, EngineUnavailable) else 1 if outcome.http_status == 429 else None
    )
    param = _param(error, _PROMPTS.get(path, "messages"))
    return Problem(outcome.http_status, outcome.openai_type, str(error), code, param, retry_after)


def _param(error: PhiplugError, prompt: str) -> str | None:
    """Name the field that is to blame; `prompt` is the one that holds the prompt."""
    if isinstance(error, InvalidParameter):
        return prompt if error.name == "prompt" else _FIELDS.get(error.name, error.name)
    return prompt if isinstance(error, PromptTooLong | TemplateFailed) else None


def about(field: str, error: InvalidParameter) -> InvalidParameter:
    """Return an error that says the same of `field`, as HTTP calls the parameter."""
    return type(error)(field, error.message.removeprefix(f"{error.name}: "), hint=error.hint)


def unexpected(error: Exception) -> PhiplugError:
    """Log a fault of ours, and return what a client is told of it."""
    _log.error("an unexpected error", exc_info=error)
    return PhiplugError("the server failed", hint="its log says more")


def body_of(problem: Problem, path: str) -> Json:
    """Return the body in the form of the interface that `path` belongs to."""
    return problem.anthropic() if path.startswith("/v1/messages") else problem.openai()
