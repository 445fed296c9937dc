"""The values that travel: what a caller asks for and what comes back.

All are frozen and check themselves when they are made, so that whoever receives one need not. They know nothing of
models, files or engines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from phiplug import checks
from phiplug.errors import InvalidParameter, RequestError, UnsupportedParameter
from phiplug.markup import NO_MARKUP, Markup
from phiplug.markup import ParameterMarks as ParameterMarks  # noqa: PLC0414  what a plugin may add
from phiplug.markup import ToolFormat as ToolFormat  # noqa: PLC0414  what a plugin may add
from phiplug.messages import Message as Message  # noqa: PLC0414  part of this interface, as the next five are
from phiplug.messages import MessageLike as MessageLike  # noqa: PLC0414
from phiplug.messages import Role as Role  # noqa: PLC0414
from phiplug.messages import Tool as Tool  # noqa: PLC0414
from phiplug.messages import ToolCall as ToolCall  # noqa: PLC0414
from phiplug.messages import ToolCallDelta as ToolCallDelta  # noqa: PLC0414
from phiplug.messages import calls_of
from phiplug.parameters import MAX_SEED
from phiplug.parameters import LogitsProcessor as LogitsProcessor  # noqa: PLC0414
from phiplug.parameters import SamplingParams as SamplingParams  # noqa: PLC0414  part of this interface

FinishReason = Literal["stop", "length", "tool_calls"]

ConstraintKind = Literal["json_schema", "json", "regex", "choice", "lark", "gbnf"]
ConstraintResult = Literal["complete", "cut"]

MAX_LOGPROBS = 20  # what OpenAI's interface allows
MAX_SOURCE = 256 * 1024  # bytes of a constraint


@dataclass(frozen=True, slots=True)
class Constraint:
    """The form that an answer must have; docs/sampling.md says what each kind allows.

    Attributes:
        kind: what `source` is; "json" allows any JSON object and has no source.
        source: a JSON schema as JSON text, a regular expression that the whole answer matches, a grammar in Lark's or
            in llama.cpp's form; for "choice" a tuple of texts.
        force: take tokens without a draw where the grammar leaves one continuation.
        compact: allow no white space between the tokens of JSON.
        lenient: warn of what a schema says and the compiler cannot enforce; otherwise it is refused.
    """

    kind: ConstraintKind
    source: str | tuple[str, ...] = ""
    force: bool = True
    compact: bool = False
    lenient: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(ConstraintKind):
            raise InvalidParameter("constraint", f"{self.kind!r} is none of {', '.join(get_args(ConstraintKind))}")
        if self.kind == "choice":
            self._check_choices()
        else:
            checks.text(self.name, self.source)
            if bool(self.source) == (self.kind == "json"):
                raise InvalidParameter(self.name, "is empty" if self.kind != "json" else "has no source")
        if sum(len(text.encode()) for text in self.texts) > MAX_SOURCE:
            raise InvalidParameter(self.name, f"is longer than {MAX_SOURCE // 1024} KB")
        if self.kind == "json_schema":
            self._check_schema()

    @classmethod
    def of_grammar(cls, source: str, *, force: bool = True) -> Constraint:
        """Return the constraint of a grammar in llama.cpp's form, whose rules have `::=`, or else in Lark's."""
        return cls("gbnf" if "::=" in source else "lark", source, force)

    @property
    def name(self) -> str:
        """What errors call it: the flag of the command line, too."""
        return "grammar" if self.kind in ("lark", "gbnf") else self.kind

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of a choice, or the one source of any other kind."""
        return (self.source,) if isinstance(self.source, str) else self.source

    def _check_choices(self) -> None:
        if not isinstance(self.source, tuple) or not self.source:
            raise InvalidParameter("choice", "is a tuple of at least one text")
        for text in self.source:
            if not checks.text("choice", text):
                raise InvalidParameter("choice", "has an empty text")

    def _check_schema(self) -> None:
        try:
            schema = json.loads(self.texts[0])
        except (ValueError, RecursionError) as error:
            raise InvalidParameter("json_schema", f"is no JSON: {error}") from None
        if not isinstance(schema, dict):
            raise InvalidParameter("json_schema", f"is {json.dumps(schema)[:40]}, and not a JSON object")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt, as token ids, and how to continue it.

    Attributes:
        prompt_ids: at least one id.
        sampling: how tokens are drawn; its seed is set.
        max_tokens: at most so many tokens are generated, at least 1; 0 where the prompt is only scored.
        stop: strings that end the text and are not part of it.
        ignore_stop_ids: go on past end-of-sequence tokens, as benchmarks do.
        reuse: whether what a slot holds may stand for the beginning of the prompt.
        repeatable: the answer depends on nothing but this request and the number of threads: of what slots hold, only
            what is bit for bit the same as a fresh start is reused, and no other request may change a row.
        constraint: the form that the answer must have.
        logprobs: log-probabilities are wanted of each token, and of so many of the likeliest beside it, at most 20;
            None for none at all.
        score_from: log-probabilities are wanted of the prompt's ids from this index on, at least 1.
        may_autotune: the backend may choose its threads anew before this request, which can change the last bits.
        templated: a chat template made the prompt, so a space that the first token only brings along is left out of the
            text (never of the tokens).
        replayed: tokens that an earlier run of this request drew before it was interrupted. They take the place of the
            first draws, in passes like those of the first run, and the stream brings their chunks once more.
        markup: how the model writes what is not the text of its answer.
        logits_processors: steps of the user's own, called for each draw in their order.
    """

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    ignore_stop_ids: bool = False
    reuse: bool = True
    repeatable: bool = False
    constraint: Constraint | None = None
    logprobs: int | None = None
    score_from: int | None = None
    may_autotune: bool = False
    templated: bool = False
    replayed: tuple[int, ...] = ()
    markup: Markup = NO_MARKUP
    logits_processors: tuple[LogitsProcessor, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", checks.ids("prompt_ids", self.prompt_ids))
        object.__setattr__(self, "replayed", checks.ids("replayed", self.replayed))
        object.__setattr__(self, "stop", checks.stops(self.stop))
        processors = checks.callables("logits_processors", self.logits_processors)
        object.__setattr__(self, "logits_processors", processors)
        if not self.prompt_ids:
            raise InvalidParameter("prompt", "is empty")
        if self.sampling.seed is None:
            raise InvalidParameter("seed", "is not set", hint="SamplingParams.seeded() picks one")
        least = 1 if self.score_from is None else 0
        object.__setattr__(self, "max_tokens", checks.integer("max_tokens", self.max_tokens, low=least))
        if len(self.replayed) > self.max_tokens:
            raise InvalidParameter("replayed", f"{len(self.replayed)} tokens are more than `max_tokens` allows")
        if self.has_grammar and self.ignore_stop_ids:
            raise UnsupportedParameter("ignore_stop_ids", "a constraint, or a call of a tool, ends with a stop token")
        if self.logprobs is not None:
            checks.integer("logprobs", self.logprobs, low=0, high=MAX_LOGPROBS)
        if self.score_from is not None:
            checks.integer("score_from", self.score_from, low=1, high=len(self.prompt_ids) - 1)
            if self.logprobs is None:
                raise InvalidParameter("logprobs", "is needed for a score", hint="0 asks for the prompt's alone")

    @property
    def has_grammar(self) -> bool:
        """Whether a grammar says which tokens may come: that of a constraint, or of calls of tools."""
        return self.constraint is not None or self.markup.tools is not None

    def choice(self, index: int) -> Request:
        """Return the request for answer number `index` of several to one prompt: it has the seed + `index`."""
        seed = ((self.sampling.seed or 0) + index) % MAX_SEED
        return replace(self, sampling=replace(self.sampling, seed=seed))


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens went in and came out.

    `cached_tokens` of the prompt were not computed again; a grammar forced `forced_tokens` of the answer. Of the
    tokens that a device guessed (docs/decisions/lookahead.md), the host drew the same or others; the rest were dropped,
    because the answer ended or another request came.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    forced_tokens: int = 0
    guesses_asked: int = 0
    guesses_right: int = 0
    guesses_wrong: int = 0


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How many tokens of a prompt a model has read; `reused` ones of those needed no computing."""

    done: int
    reused: int
    total: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in seconds.

    Attributes:
        prefill_s: from the request to the first logits.
        ttft_s: from the request to the first text that is not empty, or None if there was none.
        decode_s: from the first token to the last.
        prefill_tps: prompt tokens computed per second of `prefill_s`.
        decode_tps: (tokens - 1) / decode_s, or None for fewer than two tokens.
    """

    prefill_s: float
    ttft_s: float | None
    decode_s: float
    prefill_tps: float
    decode_tps: float | None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was, by the untouched logits: a log-softmax in float64, natural logarithm.

    Attributes:
        token: its id.
        bytes: what it stands for; b"" for a control token.
        logprob: its logarithm of the probability.
        top: the likeliest tokens at its place, the likeliest first, ties by the lowest id; as many as were asked for.
    """

    token: int
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer: its text, its reasoning, its calls and the tokens behind them, all of which may be empty.

    The last chunk of a stream, and only that one, has `finish_reason`, `usage`, `timings`, and `constraint` where the
    request has one. `logprobs` has one entry for each of `tokens` where they were asked for; `prompt_logprobs` those of
    a scored prompt, as they are computed.
    """

    text: str
    tokens: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    constraint: ConstraintResult | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        text: what was generated, without the stop string and without the reasoning.
        tokens: the ids of it, without the stop id.
        prompt_ids: what the model was given.
        sampling: the parameters in force, with the seed that was used.
        logprobs: one for each of `tokens`, where they were asked for.
        prompt_logprobs: one for each scored id of the prompt.
        constraint: whether the text has the whole form that the constraint asks for, or was cut off before; None
            without a constraint.
        reasoning: what the model thought before it answered, where its form of that is known; else it is text.
        tool_calls: the calls of tools that it asks for; one that was cut off is left out.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    sampling: SamplingParams
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    constraint: ConstraintResult | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of the tokens; -inf where there is none, or none was asked for."""
        return sum(entry.logprob for entry in self.logprobs) / len(self.logprobs) if self.logprobs else -math.inf

    @classmethod
    def of(cls, request: Request, chunks: Sequence[Chunk] | Iterator[Chunk]) -> Completion:
        """Gather the chunks of a stream that ran to its end."""
        gathered = list(chunks)
        last = gathered[-1] if gathered else Chunk("")
        if not (last.finish_reason and last.usage and last.timings):
            raise RequestError("the stream was closed before its last chunk", hint="read it to the end")
        return cls(
            text="".join(chunk.text for chunk in gathered),
            tokens=tuple(token for chunk in gathered for token in chunk.tokens),
            prompt_ids=request.prompt_ids,
            finish_reason=last.finish_reason,
            usage=last.usage,
            timings=last.timings,
            sampling=request.sampling,
            logprobs=tuple(entry for chunk in gathered for entry in chunk.logprobs),
            prompt_logprobs=tuple(entry for chunk in gathered for entry in chunk.prompt_logprobs),
            constraint=last.constraint,
            reasoning="".join(chunk.reasoning for chunk in gathered),
            tool_calls=calls_of(delta for chunk in gathered for delta in chunk.tool_calls),
        )
