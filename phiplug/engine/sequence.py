"""One answer in the making: rows of logits -> tokens -> text, until it ends.

It chains the stages (sampler, detokenizer, stop filter) for one request and keeps its clock. It knows nothing of
slots, passes or the other answers of a batch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from phiplug.engine.detokenize import Detokenizer, brings_space
from phiplug.engine.stopping import StopFilter
from phiplug.sampling import Sampler
from phiplug.types import Chunk, FinishReason, Request, Timings, Usage

if TYPE_CHECKING:
    from phiplug.spi import Logits, Tokenizer


class Answer:
    """The state of one answer: feed it rows with `take`, and after each ask for its `chunk`.

    Attributes:
        token: the id that was drawn last.
        finish_reason: why it ended, or None while it goes on.
        cached: how many ids of the prompt needed no computing.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, *, limit: int, started: float) -> None:
        """Begin an answer of at most `limit` tokens to a request that came in at `started` (perf_counter seconds)."""
        self.request = request
        self.token = -1
        self.finish_reason: FinishReason | None = None
        self.cached = 0
        self._tokenizer = tokenizer
        self._stop_ids = frozenset() if request.ignore_stop_ids else tokenizer.stop_ids
        self._limit = limit
        self._sampler = Sampler(request.sampling, request.prompt_ids)
        self._detokenizer = Detokenizer(drop_space=request.templated and brings_space(tokenizer))
        self._stop = StopFilter(request.stop)
        self._count = 0
        self._text = ""
        self._tokens: tuple[int, ...] = ()
        self._clock = _Clock(started)

    def take(self, row: Logits) -> None:
        """Draw a token from one row of logits, float32 (V,), and turn it into text."""
        self._clock.logits_came()
        self.token = self._sampler(row)
        if self.token in self._stop_ids:
            self._end("stop", tokens=())
            return
        self._count += 1
        self._clock.token_drawn()
        self._tokens = (self.token,)
        self._text = self._stop.feed(self._detokenizer.feed(self._tokenizer.token_bytes(self.token)))
        if self._stop.stopped:
            self.finish_reason = "stop"
        elif self._count >= self._limit:
            self._end("length", tokens=self._tokens)

    def chunk(self) -> Chunk:
        """Return what the last row brought."""
        if self._text:
            self._clock.text_shown()
        if self.finish_reason is None:
            return Chunk(self._text, self._tokens)
        usage = Usage(len(self.request.prompt_ids), self._count, self.cached)
        timings = self._clock.timings(computed=usage.prompt_tokens - self.cached, tokens=self._count)
        return Chunk(self._text, self._tokens, self.finish_reason, usage, timings)

    def _end(self, reason: FinishReason, *, tokens: tuple[int, ...]) -> None:
        """End for a reason that is no stop string: what was held back is text after all."""
        held_back = self._stop.feed(self._detokenizer.flush()) + self._stop.flush()
        self._text = (self._text if tokens else "") + held_back
        self._tokens = tokens
        self.finish_reason = "stop" if self._stop.stopped else reason


class _Clock:
    """When things happened to one answer, in seconds of perf_counter."""

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
            prefill_tps=computed / prefill_s,
            decode_tps=(tokens - 1) / decode_s if tokens > 1 else None,
        )
