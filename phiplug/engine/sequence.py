"""A request on its way through the loop: its ids, of which the first `fed` are in a slot, and what has come of it.

Prefill, decoding, scoring a prompt and going on after an interruption are one rule: feed `ids[fed:]` piece by piece,
and draw where a piece reaches the end; after an interruption, draws are replaced by what was drawn before
(`Request.replayed`). It knows nothing of the other sequences.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from phiplug.engine.answer import Answer
from phiplug.engine.logprobs import prompt_logprobs, token_logprob
from phiplug.errors import InvalidParameter, NonFiniteLogits, PhiplugError, PromptTooLong
from phiplug.types import PromptProgress

if TYPE_CHECKING:
    from collections.abc import Sequence as Ids

    import numpy as np
    from numpy.typing import NDArray

    from phiplug.engine.slots import Slot
    from phiplug.spi import Draw, Logits, ModelInfo
    from phiplug.types import Chunk, TokenLogprob

SCORED = 128
"""Prompt tokens whose rows one pass returns: rows of 128k float32 take 64 MB then."""


class Sequence:
    """What the loop knows of one request.

    Attributes:
        request: what was asked.
        ids: the prompt and what was drawn.
        fed: so many of the ids are in the slot.
        slot: where, or None while it waits.
        outbox: what was produced and not read yet.
        error: why it failed, or None.
        cancelled: set by any thread; the next step reads it.
        siblings: sequences of the same prompt that draw their first token from this one's row.
    """

    def __init__(self, answer: Answer, *, chunk: int) -> None:
        """Begin a request.

        Args:
            answer: what will come of it.
            chunk: prompts are fed in pieces that end at multiples of this.
        """
        request = answer.request
        self.request = request
        self.ids = [*request.prompt_ids]
        self.fed = 0
        self.slot: Slot | None = None
        self.outbox: deque[Any] = deque()  # Any: Chunk, or Logits for a `RowSequence`
        self.error: PhiplugError | None = None
        self.cancelled = False
        self.siblings: list[Sequence] = []
        self.repeatable = request.repeatable
        self._chunk = chunk
        self._prompt = len(request.prompt_ids)
        self._scored = self._prompt if request.score_from is None else request.score_from - 1
        self._answer = answer
        self._runs: dict[int, int] = {}  # passes of several tokens after the prompt: where each begins and ends

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.cancelled or self.error is not None or self._answer.finish_reason is not None

    @property
    def is_decoding(self) -> bool:
        """Whether the next pass feeds one drawn token; what a grammar forces is fed like a piece of a prompt."""
        return self.fed >= self._prompt and self.fed not in self._runs

    @property
    def guesses(self) -> Counter[str]:
        """How many tokens a device guessed ahead, and how many of those were right or wrong."""
        return self._answer.guesses

    @property
    def progress(self) -> PromptProgress:
        """How much of the prompt is in the slot."""
        return PromptProgress(min(self.fed, self._prompt), self._answer.cached, self._prompt)

    @property
    def is_last_draw(self) -> bool:
        """Whether nothing is fed after the next draw."""
        return self._answer.is_last_draw

    def draws_after(self, count: int) -> bool:
        """Whether the pass of the next `count` ids leads to a draw of this sequence alone."""
        ends = self.fed + count == len(self.ids)
        return ends and self.request.max_tokens > 0 and not self.siblings and not self.is_over

    def goes_on_with(self, token: int) -> bool:
        """Whether the next pass feeds this drawn token, and nothing else."""
        return self.fed + 1 == len(self.ids) and self.ids[-1] == token and self.is_decoding

    def ahead(self, width: int) -> Draw | None:
        """Return how the next token will be drawn from a row of this width; None where only the host can tell."""
        return self._answer.ahead(width)

    @property
    def target(self) -> int:
        """How many ids have to be fed: all, but for the last of a prompt that is only scored."""
        return len(self.ids) if self.request.max_tokens else self._prompt - 1

    def reusable_limit(self) -> int:
        """Return how many ids may come from a slot: a row is wanted of all others, and of the last in any case."""
        return min(self.target - 1, self._scored) if self.request.reuse else 0

    def piece_end(self, start: int) -> int:
        """Return where the pass ends that begins at `start`.

        Prompts are cut at multiples of the chunk and where their score begins, so that equal prompts are computed in
        equal passes; drawn tokens are fed one by one, as they were drawn, each with what a grammar forced after it.
        """
        if start >= self._prompt:
            return self._runs.get(start, start + 1)
        if start < self._scored:
            return min((start // self._chunk + 1) * self._chunk, self._scored)
        size = min(SCORED, self._chunk)
        last = self._prompt if self.request.max_tokens else self._prompt - 1
        return min(self._scored + ((start - self._scored) // size + 1) * size, last)

    def piece(self) -> tuple[tuple[int, ...], int]:
        """Return the ids of the next pass, and of how many of them, counted from the end, the rows are wanted."""
        end = self.piece_end(self.fed)
        rows = max(0, min(end, self._prompt) - max(self.fed, self._scored))
        if end == len(self.ids):
            rows = max(rows, 1)
        return tuple(self.ids[self.fed : end]), rows

    def begin(self, slot: Slot, kept: int) -> None:
        """Take a slot that holds the first `kept` ids."""
        self.slot, self.fed = slot, kept
        self._answer.cached = min(kept, self._prompt)

    def prepare(self) -> None:
        """Do what the next draw needs and the logits do not decide, while the device computes them."""
        self._answer.prepare()

    def accept(self, rows: Logits, normalizers: NDArray[np.float64] | None) -> list[tuple[Sequence, Chunk]]:
        """Take the rows of a pass that has been fed: score the prompt, draw where the ids end.

        Args:
            rows: float32 (as many as `piece` said, V).
            normalizers: float64, log(sum(exp(row))) of each, where log-probabilities are wanted.

        Returns:
            The chunks that came of it, for this sequence and for the siblings that draw from the same row.
        """
        draws = self.fed == len(self.ids) and self.request.max_tokens > 0
        scored = self._score(rows, normalizers, len(rows) - draws) if len(rows) > draws else ()
        if draws:
            row, normalizer = rows[-1], None if normalizers is None else float(normalizers[-1])
            family, self.siblings = [self, *self.siblings], []
            drawn = [(member, member._drawn(row, normalizer, scored)) for member in family if not member.is_over]
            return [(member, chunk) for member, chunk in drawn if chunk is not None]
        if self.fed < self.target:
            return [(self, self._answer.chunk((), scored))] if scored else []
        self._answer.end_of_prompt()
        return [(self, self._answer.chunk((), scored))]

    def _drawn(self, row: Logits, normalizer: float | None, scored: tuple[TokenLogprob, ...]) -> Chunk | None:
        """Draw; what goes wrong is this one's own, and no sibling's, unless it is the row."""
        try:
            return self._draw(row, normalizer, scored)
        except NonFiniteLogits:
            raise
        except PhiplugError as error:
            self.error = error
            return None

    def _draw(self, row: Logits, normalizer: float | None, scored: tuple[TokenLogprob, ...]) -> Chunk:
        self._answer.draw(row)
        answer, top = self._answer, self.request.logprobs
        logprobs: tuple[TokenLogprob, ...] = ()
        if top is not None and normalizer is not None and answer.tokens:
            logprobs = (token_logprob(row, normalizer, answer.tokens[0], top, answer.tokenizer),)
        if answer.finish_reason is None:
            self._append(answer.tokens)
        return answer.chunk(logprobs, scored)

    def _append(self, tokens: tuple[int, ...]) -> None:
        """Append what a row has brought; more than one token is a drawn one and what a grammar forces after it."""
        start = len(self.ids)
        self.ids.extend(tokens)
        if len(tokens) > 1:
            end = len(self.ids)
            self._runs |= {at: min(at + self._chunk, end) for at in range(start, end, self._chunk)}

    def _score(self, rows: Logits, normalizers: NDArray[np.float64] | None, count: int) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities of the prompt's ids that these rows precede."""
        if normalizers is None:
            return ()
        first = self.fed - len(rows) + 1
        targets = self.request.prompt_ids[first : first + count]
        top, tokenizer = self.request.logprobs or 0, self._answer.tokenizer
        return prompt_logprobs(rows[: len(targets)], normalizers, targets, top, tokenizer)


class RowSequence(Sequence):
    """A text whose rows of logits are handed out as they are, a copy of each pass."""

    def accept(self, rows: Logits, _: NDArray[np.float64] | None) -> list[tuple[Sequence, Any]]:
        """Hand out the rows, float32 (tokens of the pass, V)."""
        if self.fed == self.target:
            self._answer.end_of_prompt()
        return [(self, rows.copy())]

    @property
    def is_last_draw(self) -> bool:
        """There is no draw at all."""
        return False

    def ahead(self, _: int) -> None:
        """Nothing is drawn."""

    @property
    def target(self) -> int:
        """All ids: the row after the last one is wanted too."""
        return self._prompt

    def reusable_limit(self) -> int:
        """Nothing: every row is wanted."""
        return 0

    def piece_end(self, start: int) -> int:
        """Return the end of the next chunk."""
        return min(start + self._chunk, self._prompt)

    def piece(self) -> tuple[tuple[int, ...], int]:
        """Return the ids of the next pass; the rows of all of them are wanted."""
        ids = tuple(self.ids[self.fed : self.piece_end(self.fed)])
        return ids, len(ids)


def admit(ids: Ids[int], info: ModelInfo) -> None:
    """Refuse a prompt that a model with this `info` cannot compute; see `Scheduler.admit`."""
    if len(ids) > info.context_length:
        raise PromptTooLong(len(ids), info.context_length)
    if min(ids) < 0 or max(ids) >= info.vocab_size:
        raise InvalidParameter("prompt", f"has an id outside the model's vocabulary of {info.vocab_size}")
