"""From rows of logits to tokens to text, for one request, until it ends.

It chains the stages (sampler, grammar, speller) and keeps the request's clock. It knows nothing of slots, of passes, or
of the other requests of a batch.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from phiplug.engine.detokenize import brings_space
from phiplug.engine.spelling import Spelled, Speller
from phiplug.errors import PhiplugError
from phiplug.sampling import Row, Sampler
from phiplug.types import Chunk, ConstraintResult, FinishReason, Request, Timings, TokenLogprob, Usage

if TYPE_CHECKING:
    from phiplug.spi import Draw, Logits, Tokenizer
    from phiplug.text.constraint import Guide


class Answer:
    """The text that grows from a request: `draw` a token from each row, then ask for the `chunk` that it brought.

    A grammar may add tokens to the drawn one: what it forces, it takes without a row.

    Attributes:
        request: what was asked.
        tokenizer: spells the tokens.
        tokens: the ids that the last row brought, without the one that stops the answer.
        finish_reason: why it ended, or None while it goes on.
        cached: how many ids of the prompt needed no computing.
        guesses: how many tokens a device guessed ahead ("asked"), and how many were "right" or "wrong"; the rest were
            dropped, because the answer ended or somebody came.
    """

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        *,
        limit: int,
        started: float,
        row: Row | None = None,
        guide: Guide | None = None,
    ) -> None:
        """Begin.

        Args:
            request: what was asked; its `replayed` tokens are drawn before any others.
            tokenizer: spells the tokens and knows which of them stop.
            limit: at most so many tokens are drawn.
            started: when the request came in, in seconds of `time.perf_counter`.
            row: memory to draw in, which the answers of one thread may share.
            guide: follows the grammar of the request's constraint.
        """
        self.request = request
        self.tokens: tuple[int, ...] = ()
        self.finish_reason: FinishReason | None = None
        self.cached = 0
        self.guesses: Counter[str] = Counter()
        self.tokenizer = tokenizer
        self._stop_ids = _stop_ids(request, tokenizer)
        self._limit = limit
        self._sampler = Sampler(request.sampling, request.prompt_ids, row=row, processors=request.logits_processors)
        self._replayed = deque(request.replayed)
        self._guide = guide
        self._forced: deque[int] = deque()
        drops_space = request.templated and guide is None and brings_space(tokenizer)
        self._speller = Speller(request, tokenizer, drop_space=drops_space)
        self._count = self._forced_count = 0
        self._spelled = Spelled()
        self._clock = _Clock(started)

    def prepare(self) -> None:
        """Find out what the grammar allows next, while the device still computes the row."""
        if self._guide is not None and not self._forced:
            self._guide.prepare()

    @property
    def is_last_draw(self) -> bool:
        """Whether the limit ends the answer with the next token."""
        return self._count + 1 >= self._limit

    def ahead(self, width: int) -> Draw | None:
        """Return how the next token will be drawn from a row of this width; None where only the host can tell."""
        if self._forced or self._replayed:
            return None
        try:
            forbidden = None if self._guide is None else self._guide.forbidden()
        except PhiplugError:  # the draw raises it again
            return None
        return self._sampler.ahead(width, forbidden)

    def draw(self, row: Logits) -> None:
        """Draw a token from one row of logits, float32 (V,), and turn it into text, and what a grammar forces after it.

        With log-probabilities, which need a row for each token, a forced token waits for its own.

        Raises:
            NonFiniteLogits: the row leaves no token to choose.
            GrammarStuck: the grammar leaves none.
            LogitsProcessorFailed: a step of the user's own does.
        """
        self._clock.logits_came()
        self.tokens, self._spelled = (), Spelled()
        token = self._forced.popleft() if self._forced else self._next_token(row)
        if token in self._stop_ids:
            self._end("stop")
            return
        self._take(token)
        while self._forced and self.finish_reason is None and self.request.logprobs is None:
            self._take(self._forced.popleft())

    def end_of_prompt(self) -> None:
        """End a request that asked for no token of its own."""
        self._clock.logits_came()
        self.finish_reason = "length"

    def chunk(self, logprobs: tuple[TokenLogprob, ...] = (), prompt_logprobs: tuple[TokenLogprob, ...] = ()) -> Chunk:
        """Return what the last row brought."""
        spelled = self._spelled
        if spelled.text or spelled.reasoning or spelled.calls:
            self._clock.text_shown()
        chunk = Chunk(
            spelled.text,
            self.tokens,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            reasoning=spelled.reasoning,
            tool_calls=spelled.calls,
        )
        if self.finish_reason is None:
            return chunk
        usage = Usage(
            len(self.request.prompt_ids),
            self._count,
            self.cached,
            self._forced_count - len(self._forced),
            **{f"guesses_{how}": self.guesses[how] for how in ("asked", "right", "wrong")},
        )
        timings = self._clock.timings(computed=usage.prompt_tokens - self.cached, tokens=self._count)
        return replace(
            chunk, finish_reason=self.finish_reason, usage=usage, timings=timings, constraint=self._constraint()
        )

    def _next_token(self, row: Logits) -> int:
        """Draw a token, or repeat what an earlier run of the request drew at this place; then see what it forces."""
        if self._replayed:
            token = self._replayed.popleft()
            self._sampler.remember(token)
        elif self._guide is None:
            token = self._sampler(row)
        else:
            token = self._sampler(row, self._guide.forbidden())
        if self._guide is not None and token not in self._stop_ids:
            self._guide.accept(token)
            self._force(self._guide.forced())
        return token

    def _force(self, tokens: tuple[int, ...]) -> None:
        """Queue what the grammar leaves no choice about; an earlier run drew nothing there either."""
        for token in tokens:
            self._sampler.remember(token)
            if self._replayed:
                self._replayed.popleft()
        self._forced.extend(tokens)
        self._forced_count += len(tokens)

    def _take(self, token: int) -> None:
        """Make a token part of the answer, and end where it, the limit or the grammar ends it."""
        self._count += 1
        self._clock.token_drawn()
        self.tokens += (token,)
        self._spelled += self._speller.feed(token)
        if self._speller.stopped:
            self.finish_reason = "stop"
        elif self._guide is not None and not self._forced and self._guide.must_end:
            self._end("stop")
        elif self._count >= self._limit:
            self._end("length")

    def _constraint(self) -> ConstraintResult | None:
        """Return whether the text has the whole form that was asked for; a stop string cuts it."""
        if self._guide is None or self.request.constraint is None:
            return None
        return "complete" if self._guide.is_complete and not self._forced and not self._speller.stopped else "cut"

    def _end(self, reason: FinishReason) -> None:
        """End for a reason that is no stop string: what was held back is text after all."""
        self._spelled += self._speller.flush()
        if self._speller.stopped or reason == "stop":
            reason = "tool_calls" if self._speller.has_calls and not self._speller.stopped else "stop"
        self.finish_reason = reason


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
