"""Every error that phiplug raises on purpose: what the user did, in one line, with what to do about it.

The tree:

    PhiplugError(message, hint=None)
      ModelError        ModelNotFound · ModelCorrupt · ModelUnsupported · DownloadFailed
      PluginError       PluginLoadError · BackendNotFound · BackendAmbiguous · BackendUnavailable · ContractMismatch
      RequestError      InvalidParameter(name) · UnsupportedParameter(name) · PromptTooLong · TemplateFailed · ModelBusy
      GenerationError   BackendFailed · NonFiniteLogits · GrammarStuck · LogitsProcessorFailed(name) · OutOfMemory ·
                        EngineDied
      EngineUnavailable(retry_after)
      NotInstalled
      LogFailed

`outcome_of` says what an error means outside Python: an exit code, an HTTP status and an OpenAI error type. This
file knows nothing of who raises what.
"""

from __future__ import annotations

from dataclasses import dataclass

from phiplug.printable import printable


class PhiplugError(Exception):
    """The root: catch this to catch everything that phiplug raises on purpose.

    Attributes:
        hint: what the user can do about it, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What happened, without the hint, on one line."""
        return printable(str(self.args[0]))

    def __str__(self) -> str:
        return f"{self.message} ({printable(self.hint)})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, dict(self.__dict__))


def _restored(cls: type[PhiplugError], args: tuple[str, ...], state: dict[str, object]) -> PhiplugError:
    """Return an error that another process has pickled; its class need not take the arguments of the root."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ModelError(PhiplugError):
    """Something about the model's files."""


class ModelNotFound(ModelError):
    """The reference leads to no file."""


class ModelCorrupt(ModelError):
    """The file is damaged, cut off, or not what its name says."""


class ModelUnsupported(ModelError):
    """The file is sound, but nothing here can run it."""


class DownloadFailed(ModelError):
    """The hub, the network or the disk would not let the file arrive whole."""


class PluginError(PhiplugError):
    """Something about a plugin or the choice of a backend."""


class PluginLoadError(PluginError):
    """A plugin could not be imported or registered."""


class BackendNotFound(PluginError):
    """No plugin registers a backend of that name."""


class BackendAmbiguous(PluginError):
    """Two plugins claim the same backend name."""


class BackendUnavailable(PluginError):
    """The backend is known, but its engine is missing or does not work here."""


class ContractMismatch(PluginError):
    """The plugin was written for another version of the contract, or breaks it."""


class RequestError(PhiplugError):
    """Something about what was asked for."""


class InvalidParameter(RequestError):
    """A parameter is outside its range.

    Attributes:
        name: the parameter, as Python spells it.
    """

    def __init__(self, name: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{name}: {message}", hint=hint)
        self.name = name


class UnsupportedParameter(InvalidParameter):
    """A parameter is sound, but this backend, model or dialect cannot honour it."""


class PromptTooLong(RequestError):
    """The prompt does not fit the context.

    Attributes:
        prompt_tokens: how long the prompt is.
        context_length: how long a sequence may be.
    """

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        super().__init__(
            f"the prompt is {prompt_tokens} tokens long and the context holds {context_length}",
            hint="shorten the prompt or raise `ctx_size`",
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


class TemplateFailed(RequestError):
    """The chat template is missing, invalid, or refused the messages."""


class ModelBusy(RequestError):
    """Too many requests wait for the model already."""


class GenerationError(PhiplugError):
    """Something went wrong while tokens were being computed."""


class BackendFailed(GenerationError):
    """The engine reported a failure during a pass."""


class NonFiniteLogits(GenerationError):
    """A row of logits holds NaN or +inf, or leaves no token to choose."""


class GrammarStuck(GenerationError):
    """The grammar of a constraint allows no token after what was generated."""


class LogitsProcessorFailed(GenerationError):
    """A logits processor of the user's raised, or left logits that no token can be drawn from.

    Attributes:
        name: of the processor.
    """

    def __init__(self, name: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"the logits processor {name} {message}", hint=hint)
        self.name = name


class OutOfMemory(GenerationError):
    """The engine could not get the memory that it needs."""


class EngineDied(GenerationError):
    """The process that computes ended, and this request could not go on in another one."""


class EngineUnavailable(PhiplugError):
    """The process that computes ended too often; it is tried again later.

    Attributes:
        retry_after: in so many seconds.
    """

    def __init__(self, message: str, *, retry_after: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class NotInstalled(PhiplugError):
    """An optional part of phiplug is asked for, and what it needs is not installed."""


class LogFailed(PhiplugError):
    """The log of answers cannot be read or written."""


class PhiplugWarning(UserWarning):
    """The root of phiplug's warnings: something was done, but perhaps not what was meant."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an error means outside Python."""

    exit_code: int
    http_status: int
    openai_type: str


_OUTCOMES: dict[type[PhiplugError], Outcome] = {
    PhiplugError: Outcome(1, 500, "server_error"),
    ModelError: Outcome(1, 500, "server_error"),
    ModelNotFound: Outcome(1, 404, "invalid_request_error"),
    ModelCorrupt: Outcome(1, 500, "server_error"),
    ModelUnsupported: Outcome(1, 400, "invalid_request_error"),
    DownloadFailed: Outcome(1, 502, "server_error"),
    PluginError: Outcome(1, 500, "server_error"),
    PluginLoadError: Outcome(1, 500, "server_error"),
    BackendNotFound: Outcome(2, 400, "invalid_request_error"),
    BackendAmbiguous: Outcome(2, 400, "invalid_request_error"),
    BackendUnavailable: Outcome(1, 503, "server_error"),
    ContractMismatch: Outcome(1, 500, "server_error"),
    RequestError: Outcome(2, 400, "invalid_request_error"),
    InvalidParameter: Outcome(2, 400, "invalid_request_error"),
    UnsupportedParameter: Outcome(2, 400, "invalid_request_error"),
    PromptTooLong: Outcome(2, 400, "invalid_request_error"),
    TemplateFailed: Outcome(2, 400, "invalid_request_error"),
    ModelBusy: Outcome(1, 429, "rate_limit_error"),
    GenerationError: Outcome(1, 500, "server_error"),
    BackendFailed: Outcome(1, 500, "server_error"),
    NonFiniteLogits: Outcome(1, 500, "server_error"),
    GrammarStuck: Outcome(1, 500, "server_error"),
    LogitsProcessorFailed: Outcome(1, 500, "server_error"),
    OutOfMemory: Outcome(1, 503, "server_error"),
    EngineDied: Outcome(1, 500, "server_error"),
    EngineUnavailable: Outcome(1, 503, "server_error"),
    NotInstalled: Outcome(1, 500, "server_error"),
    LogFailed: Outcome(1, 500, "server_error"),
}


def outcome_of(error: PhiplugError) -> Outcome:
    """Look up what `error` means outside Python; a class that a plugin derived counts as its nearest ancestor."""
    return next(_OUTCOMES[cls] for cls in type(error).__mro__ if cls in _OUTCOMES)
