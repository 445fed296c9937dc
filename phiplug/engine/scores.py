"""Scores: how likely a model finds given tokens, after a context or in a running text.

Each is a request that asks for the rows of its own prompt, so the loop computes a common context once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.errors import InvalidParameter
from phiplug.types import Request, SamplingParams, TokenLogprob

if TYPE_CHECKING:
    from phiplug.engine.engine import Engine

_UNUSED = SamplingParams(temperature=0.0, seed=0)  # nothing is drawn


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a model finds some tokens.

    Attributes:
        tokens: their ids.
        logprobs: of each, natural logarithm, given all before it.
        total: their sum.
        greedy: whether each is the likeliest at its place, so that greedy decoding would write them.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    total: float
    greedy: bool

    @classmethod
    def of(cls, entries: Sequence[TokenLogprob]) -> Score:
        """Gather the log-probabilities of consecutive tokens, each with the likeliest token beside it."""
        logprobs = tuple(entry.logprob for entry in entries)
        tokens = tuple(entry.token for entry in entries)
        return cls(tokens, logprobs, sum(logprobs), all(entry.top[0].token == entry.token for entry in entries))

    @property
    def perplexity(self) -> float:
        """exp(-mean log-probability): among how many equally likely tokens the model hesitates, on average."""
        return _exp(-self.total / len(self.logprobs))

    @property
    def perplexity_error(self) -> float | None:
        """The standard error of `perplexity`, as if tokens were independent.

        It is the standard error of the mean, times the slope of exp there, as llama.cpp has it; None for a single
        token, and where the perplexity is infinite.
        """
        count = len(self.logprobs)
        if count < 2 or self.perplexity == math.inf:
            return None
        mean = self.total / count
        variance = math.fsum((logprob - mean) ** 2 for logprob in self.logprobs) / (count - 1)
        return self.perplexity * math.sqrt(variance / count)


def score_continuations(engine: Engine, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[Score]:
    """Score continuations, each after a context of its own or a common one, which is then computed once.

    Args:
        engine: what computes.
        pairs: ids of a context, at least one, and of what follows it, at least one; together they fit the context.

    Yields:
        The scores in the order of the pairs, while later ones are computed.

    Raises:
        InvalidParameter: a part is empty.
        PromptTooLong: a pair is too long.
    """
    requests = [_request(context, continuation) for context, continuation in pairs]
    for done in engine.completions(requests):
        yield Score.of(done.prompt_logprobs)


def score_text(
    engine: Engine, ids: Sequence[int], first: int, advance: Callable[[int], None] = lambda _: None
) -> Score:
    """Score all of a text: `ids` after the id `first`, in windows of the context's length.

    Each id is scored once, and `advance` is told of each window how many ids it had. The windows are those of
    lm-evaluation-harness (`get_rolling_token_windows` with one id of context, and a length of one less than ours, which
    counts the last target): they follow one another, and the last one reaches back as far as the context allows.
    """
    size = engine.model.info.context_length
    if not ids:
        raise InvalidParameter("text", "is empty")
    pairs: list[tuple[Sequence[int], Sequence[int]]] = [([first], ids[: size - 1])]
    for start in range(size - 1, len(ids), size - 1):
        end = min(start + size - 1, len(ids))
        reach = max(end - size, 0)
        pairs.append((ids[reach:start], ids[start:end]))
    parts = []
    for part in score_continuations(engine, pairs):
        parts.append(part)
        advance(len(part.tokens))
    return Score(
        tuple(token for part in parts for token in part.tokens),
        tuple(logprob for part in parts for logprob in part.logprobs),
        sum(part.total for part in parts),
        all(part.greedy for part in parts),
    )


def _request(context: Sequence[int], continuation: Sequence[int]) -> Request:
    for name, part in (("context", context), ("continuation", continuation)):
        if not part:
            raise InvalidParameter(name, "has no token")
    return Request(
        (*context, *continuation), _UNUSED, max_tokens=0, repeatable=True, logprobs=1, score_from=len(context)
    )


def _exp(exponent: float) -> float:
    """Return exp, and infinity where a float holds no such number."""
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf
