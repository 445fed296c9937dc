"""From rows of logits to tokens to text, for one request, until it ends.

It chains the stages (sampler, detokenizer, stop filter) and keeps the request's clock. It knows nothing of slots, of
passes, or of the other requests of a batch.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from phiplug.engine.detokenize import Detokenizer, brings_space
from phiplug.engine.stopping import StopFilter
from phiplug.sampling import Row, Sampler
from phiplug.types import Chunk, FinishReason, Request, Timings, TokenLogprob, Usage

if TYPE_CHECKING:
    from phiplug.spi import Logits, Tokenizer


class Answer:
    """The text that grows from a request: `draw` a token from each row, then ask for the `chunk` that it brought.

    Attributes:
        token: the id that was drawn last.
        finish_reason: why it ended, or None while it goes on.
        cached: how many ids of the prompt needed no computing.
    """

    def __init__(
        self, request: Request, tokenizer: Tokenizer, *, limit: int, started: float, row: Row | None = None
    ) -> None:
        """Begin.

        Args:
            request: what was asked; its `replayed` tokens are drawn before any others.
            tokenizer: spells the tokens and knows which of them stop.
            limit: at most so many tokens are drawn.
            started: when the request came in, in seconds of `time.perf_counter`.
            row: memory to draw in, which the answers of one thread may share.
        """
        self.request = request
        self.token = -1
        self.finish_reason: FinishReason | None = None
        self.cached = 0
        self._tokenizer = tokenizer
        self._stop_ids = _stop_ids(request, tokenizer)
        self._limit = limit
        self._sampler = Sampler(request.sampling, request.prompt_ids, row=row)
        self._replayed = deque(request.replayed)
        self._detokenizer = Detokenizer(drop_space=request.templated and brings_space(tokenizer))
        self._stop = StopFilter(request.stop)
        self._count = 0
        self._text = ""
        self._tokens: tuple[int, ...] = ()
        self._clock = _Clock(started)

    @property
    def has_token(self) -> bool:
        """Whether the last row brought a token of the answer, and not the one that stops it."""
        return bool(self._tokens)

    def draw(self, row: Logits) -> None:
        """Draw a token from one row of logits, float32 (V,), and turn it into text.

        Raises:
            NonFiniteLogits: the row leaves no token to choose.
        """
        self._clock.logits_came()
        self.token = self._next_token(row)
        if self.token in self._stop_ids:
            self._end("stop", tokens=())
            return
        self._count += 1
        self._clock.token_drawn()
        self._tokens = (self.token,)
        self._text = self._spell(self.token)
        if self._stop.stopped:
            self.finish_reason = "stop"
        elif self._count >= self._limit:
            self._end("length", tokens=self._tokens)

    def end_of_prompt(self) -> None:
        """End a request that asked for no token of its own."""
        self._clock.logits_came()
        self.finish_reason = "length"

    def chunk(self, logprobs: tuple[TokenLogprob, ...] = (), prompt_logprobs: tuple[TokenLogprob, ...] = ()) -> Chunk:
        """Return what the last row brought."""
        if self._text:
            self._clock.text_shown()
        if self.finish_reason is None:
            return Chunk(self._text, self._tokens, logprobs=logprobs, prompt_logprobs=prompt_logprobs)
        usage = Usage(len(self.request.prompt_ids), self._count, self.cached)
        timings = self._clock.timings(computed=usage.prompt_tokens - self.cached, tokens=self._count)
        return Chunk(self._text, self._tokens, self.finish_reason, usage, timings, logprobs, prompt_logprobs)

    def _next_token(self, row: Logits) -> int:
        """Draw a token, or repeat what an earlier run of the request drew at this place."""
        if not self._replayed:
            return self._sampler(row)
        token = self._replayed.popleft()
        self._sampler.remember(token)
        return token

    def _spell(self, token: int) -> str:
        return self._stop.feed(self._detokenizer.feed(self._tokenizer.token_bytes(token)))

    def _end(self, reason: FinishReason, *, tokens: tuple[int, ...]) -> None:
        """End for a reason that is no stop string: what was held back is text after all."""
        held_back = self._stop.feed(self._detokenizer.flush()) + self._stop.flush()
        self._text = (self._text if tokens else "") + held_back
        self._tokens = tokens
        self.finish_reason = "stop" if self._stop.stopped else reason


def _stop_ids(request: Request, tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids that end an answer: the model's, and the control tokens that the request names by their texts.

    A control token brings no text, so no stop string could find it.
    """
    named = [tokenizer.encode(stop) for stop in request.stop if tokenizer.control_tokens_in(stop) == [stop]]
    own = frozenset() if request.ignore_stop_ids else tokenizer.stop_ids
    return own | {ids[0] for ids in named if len(ids) == 1}


class _Clock:
    """When things happened to one request, in seconds of perf_counter."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._first_logits: float | None = None
        self._first_text: float | None = None
        self._first_token = self._last_token = started

    def logits_came(self) -> None:
        if self._first_logits is None:
            self._first_logits = time.perf_counter()

    def token_drawn(self) -> None:
        self._last_token = time.perf_counter()
        if self._first_token == self._started:
            self._first_token = self._last_token

    def text_shown(self) -> None:
        if self._first_text is None:
            self._first_text = time.perf_counter()

    def timings(self, *, computed: int, tokens: int) -> Timings:
        prefill_s = (self._first_logits or self._started) - self._started
        decode_s = self._last_token - self._first_token
        return Timings(
            prefill_s=prefill_s,
            ttft_s=None if self._first_text is None else self._first_text - self._started,
            decode_s=decode_s,
            prefill_tps=computed / prefill_s if prefill_s else 0.0,
            decode_tps=(tokens - 1) / decode_s if tokens > 1 and decode_s else None,
        )
