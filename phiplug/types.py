"""The values that travel: what a caller asks for and what comes back.

All are frozen and check themselves when they are made, so that whoever receives one need not. They know nothing of
models, files or engines.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from phiplug.errors import InvalidParameter

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length"]
Reuse = Literal["all", "chunks", "none"]

MAX_SEED = 2**64  # seeds are uint64; semantics: docs/sampling.md, step 9


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant", "tool"):
            raise InvalidParameter("role", f"{self.role!r} is none of system, user, assistant, tool")
        require_text("content", self.content)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is drawn from logits; docs/sampling.md says what each number does, in which order.

    Attributes:
        temperature: divides the logits; below 1e-6 the largest logit wins.
        top_p: the nucleus mass in [0, 1]; 1 is off, 0 keeps one token.
        top_k: how many tokens survive; 0 is off.
        min_p: the least probability, relative to the largest, in [0, 1]; 0 is off.
        repeat_penalty: > 0, applied once to each id of the window; 1 is off.
        repeat_last_n: how many ids the window holds; 0 is off, -1 is the whole history.
        penalize_prompt: whether the prompt counts as history for `repeat_penalty`.
        frequency_penalty: subtracted once per occurrence among the sampled tokens.
        presence_penalty: subtracted once for each id among the sampled tokens.
        logit_bias: added to the logits of these ids, before everything else.
        seed: in [0, 2**64), or None for one that `seeded` picks.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    penalize_prompt: bool = False
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    seed: int | None = None

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, low=0.0)
        require_number("top_p", self.top_p, low=0.0, high=1.0)
        require_integer("top_k", self.top_k, low=0)
        require_number("min_p", self.min_p, low=0.0, high=1.0)
        require_number("repeat_penalty", self.repeat_penalty, above=0.0)
        require_integer("repeat_last_n", self.repeat_last_n, low=-1)
        require_number("frequency_penalty", self.frequency_penalty)
        require_number("presence_penalty", self.presence_penalty)
        for token, bias in self.logit_bias.items():
            require_integer("logit_bias", token, low=0)
            require_number("logit_bias", bias)
        if self.seed is not None:
            require_integer("seed", self.seed, low=0, high=MAX_SEED - 1)

    def seeded(self) -> SamplingParams:
        """Return these parameters with a seed: their own, or a random one."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(64))


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt, as token ids, and how to continue it.

    Attributes:
        prompt_ids: at least one id.
        sampling: how tokens are drawn; its seed is set.
        max_tokens: at most so many tokens are generated, at least 1.
        stop: strings that end the text and are not part of it.
        ignore_stop_ids: go on past end-of-sequence tokens, as benchmarks do.
        reuse: how much of an earlier sequence's cache may stand for the beginning of the prompt. "all": whatever
            matches, which is fastest. "chunks": only whole chunks that were prefilled as chunks, so that the logits
            are bit for bit those of a fresh start. "none": nothing, as benchmarks ask.
        retunable: the backend may choose its threads anew before this request, which can change the last bits.
    """

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    ignore_stop_ids: bool = False
    reuse: Reuse = "all"
    retunable: bool = False

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise InvalidParameter("prompt", "is empty")
        if self.sampling.seed is None:
            raise InvalidParameter("seed", "is not set", hint="use SamplingParams.seeded()")
        require_integer("max_tokens", self.max_tokens, low=1)
        for stop in self.stop:
            require_text("stop", stop)
            if not stop:
                raise InvalidParameter("stop", "an empty string would stop at once")


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens went in and came out; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


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
class Chunk:
    """A piece of the answer: its text and the tokens behind it, either of which may be empty.

    The last chunk of a stream, and only that one, has `finish_reason`, `usage` and `timings`.
    """

    text: str
    tokens: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        text: what was generated, without the stop string.
        tokens: the ids of it, without the stop id.
        prompt_ids: what the model was given.
        sampling: the parameters in force, with the seed that was used.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    sampling: SamplingParams

    @classmethod
    def of(cls, request: Request, chunks: Sequence[Chunk] | Iterator[Chunk]) -> Completion:
        """Gather the chunks of a stream that ran to its end."""
        gathered = list(chunks)
        last = gathered[-1]
        if not (last.finish_reason and last.usage and last.timings):
            raise ValueError("the stream was cut off before its last chunk")
        return cls(
            text="".join(chunk.text for chunk in gathered),
            tokens=tuple(token for chunk in gathered for token in chunk.tokens),
            prompt_ids=request.prompt_ids,
            finish_reason=last.finish_reason,
            usage=last.usage,
            timings=last.timings,
            sampling=request.sampling,
        )


def require_number(
    name: str, value: float, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> None:
    """Raise `InvalidParameter` unless `value` is a finite number, low <= value <= high and value > above."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidParameter(name, f"{value!r} is not a number")
    if not math.isfinite(value):
        raise InvalidParameter(name, f"{value} is not a finite number")
    if value <= above:
        raise InvalidParameter(name, f"{value} must be above {above:g}")
    if not low <= value <= high:
        raise InvalidParameter(name, f"{value} is outside {_interval(low, high)}")


def require_integer(name: str, value: int, *, low: int, high: int | None = None) -> None:
    """Raise `InvalidParameter` unless `value` is an integer, low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, f"{value!r} is not an integer")
    if value < low or (high is not None and value > high):
        raise InvalidParameter(name, f"{value} is outside {_interval(low, math.inf if high is None else high)}")


def require_text(name: str, value: str) -> None:
    """Raise `InvalidParameter` unless `value` is text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidParameter(name, f"{type(value).__name__} is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter(
            name,
            f"character {error.start} is a lone surrogate (U+{ord(value[error.start]):04X}), which no encoding can hold",
        ) from None


def _interval(low: float, high: float) -> str:
    if high == math.inf:
        return f"[{low}, ...)"
    if low == -math.inf:
        return f"(..., {high}]"
    return f"[{low}, {high}]"
