"""Lowers the logits of tokens that would carry a repetition further, by how long it has run: DRY.

The rule is llama.cpp's: a token that once followed the last n tokens has its logit lowered by
multiplier * base ** (n - allowed length), where n is the longest such run. Runs are kept from token to token, so a step
is two passes over the history in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from phiplug.dialects import WHOLE_HISTORY
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_EXPONENT = math.log(float(np.finfo(np.float32).max))  # of e, so that the penalty stays finite in float32


class Repetitions:
    """The runs of one history.

    Args:
        params: its `dry_` fields are read.
        history: the tokens so far, oldest first.
    """

    def __init__(self, params: SamplingParams, history: Iterable[int] = ()) -> None:
        self._params = params
        self._tokens = np.empty(64, np.intp)
        self._runs = np.empty(64, np.intp)  # at i: how many tokens that end at i are also the end of the history
        self._length = 0
        for token in history:
            self.add(token)

    def add(self, token: int) -> None:
        """Append a token to the history."""
        n = self._length
        if n == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
            self._runs = np.concatenate([self._runs, np.empty_like(self._runs)])
        before = np.concatenate([[0], self._runs[: max(n - 1, 0)]])[:n]
        self._runs[:n] = np.where(self._tokens[:n] == token, before + 1, 0)
        self._tokens[n], self._runs[n] = token, 0
        self._length += 1

    def penalize(self, x: NDArray[np.float32]) -> None:
        """Lower the logits of the tokens that would go on with a repetition, in place."""
        params = self._params
        reach = self._length if params.dry_last_n == WHOLE_HISTORY else min(self._length, params.dry_last_n)
        tokens = self._tokens[self._length - reach : self._length]
        runs = self._runs[self._length - reach : self._length]
        runs = np.minimum(np.minimum(runs, np.arange(1, reach + 1)), self._since_breaker(tokens))
        ends = np.flatnonzero(runs[:-1] >= params.dry_allowed_length) if reach else np.arange(0)
        longest: dict[int, int] = {}
        for end in ends.tolist():
            token = int(tokens[end + 1])
            longest[token] = max(longest.get(token, 0), int(runs[end]))
        for token, run in longest.items():
            if (token,) not in params.dry_breakers:
                x[token] -= np.float32(self._penalty(run))

    def _penalty(self, run: int) -> float:
        base, exponent = float(self._params.dry_base), float(run - self._params.dry_allowed_length)
        if base > 1.0:
            exponent = min(exponent, _LARGEST_EXPONENT / math.log(base))
        return float(self._params.dry_multiplier * math.pow(base, exponent))

    def _since_breaker(self, tokens: NDArray[np.intp]) -> int:
        """Return how many tokens follow the breaker that begins last, or all of them where there is none."""
        heads = [breaker[0] for breaker in self._params.dry_breakers]
        for place in np.flatnonzero(np.isin(tokens, heads))[::-1].tolist():
            found = [len(b) for b in self._params.dry_breakers if tuple(tokens[place : place + len(b)].tolist()) == b]
            if found:
                return len(tokens) - int(place) - max(found)
        return len(tokens)
