"""One row of logits -> one token, the way docs/sampling.md numbers its steps.

A `Sampler` belongs to one sequence: it keeps what history is needed and the buffers it works in. It knows no engine;
any row of float32 will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phiplug.errors import InvalidParameter, NonFiniteLogits
from phiplug.sampling.noise import race
from phiplug.sampling.nucleus import largest, shortest_prefix
from phiplug.sampling.penalties import Window, repeat, subtract
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREEDY_BELOW = 1e-6  # temperature
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_SLACK = 1e-3  # what float32 arithmetic may be off by, relatively and generously, where it only narrows a search


class Sampler:
    """Draws the tokens of one sequence.

    Args:
        params: how; its seed is set.
        prompt: the ids before the first draw.
        sampled: ids drawn before, when a sequence that was cut off goes on.

    Raises:
        InvalidParameter: `params` has no seed.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int], sampled: Sequence[int] = ()) -> None:
        if params.seed is None:
            raise InvalidParameter("seed", "is not set", hint="use SamplingParams.seeded()")
        self._params = params
        self._seed = params.seed
        self._position = len(prompt) + len(sampled)
        self._width = 0
        self._temperature = np.float32(min(params.temperature, _MAX_FLOAT32))
        with np.errstate(over="ignore"):  # a bias that float32 cannot hold is infinite: it forbids, or is refused
            self._bias = np.fromiter(params.logit_bias.values(), np.float32, len(params.logit_bias))
        self._bias_ids = np.fromiter(params.logit_bias, np.intp, len(params.logit_bias))
        remembered = [*prompt, *sampled] if params.penalize_prompt else sampled
        self._repeated = Window(params.repeat_last_n if params.repeat_penalty != 1.0 else 0, remembered)
        counting = params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
        self._counted = Window(-1 if counting else 0, sampled)

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Draw the next token from its logits and remember it.

        Args:
            logits: float32, shape (V,); not changed.

        Raises:
            NonFiniteLogits: the row, before or after bias and penalties, has NaN, +inf, or nothing but -inf.
            InvalidParameter: a biased or remembered id is not below V.
        """
        with np.errstate(all="ignore"):  # what overflows is found by the check for finiteness
            token = self._draw(logits)
        self._position += 1
        self._repeated.add(token)
        self._counted.add(token)
        return token

    def _draw(self, logits: NDArray[np.float32]) -> int:
        if len(logits) != self._width:
            self._resize(len(logits))
        top = _argmax(logits)
        row = logits
        if len(self._bias) or len(self._repeated.ids) or len(self._counted.ids):
            row = self._adjust(logits)
            top = _argmax(row)
        if self._params.temperature < _GREEDY_BELOW:
            return top
        t = np.subtract(row, row[top], out=self._t)
        t /= self._temperature
        ids, weights = self._filter(t)
        return race(self._seed, self._position, ids, weights)

    def _resize(self, width: int) -> None:
        for name, ids in (
            ("logit_bias", self._bias_ids),
            ("prompt", self._repeated.ids),
            ("prompt", self._counted.ids),
        ):
            if len(ids) and ids.max() >= width:
                raise InvalidParameter(name, f"token {ids.max()} is not in a vocabulary of {width}")
        self._width = width
        self._t = np.empty(width, np.float32)

    def _adjust(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Steps 2 to 4, on a copy."""
        row = self._t
        row[:] = logits
        row[self._bias_ids] += self._bias
        repeat(row, self._repeated.ids, np.float32(self._params.repeat_penalty))
        frequency, presence = np.float32(self._params.frequency_penalty), np.float32(self._params.presence_penalty)
        subtract(row, self._counted.ids, self._counted.counts, frequency, presence)
        return row

    def _filter(self, t: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Steps 6 to 8: the ids that survive, ascending, and their weights."""
        params = self._params
        mass = None
        if 0 < params.top_k < len(t):
            ids = largest(t, params.top_k)
        elif params.top_p < 1.0:
            ids, mass = self._worth_a_look(t)
        else:
            ids = np.arange(len(t))
        kept = t[ids]
        weights = np.exp(kept.astype(np.float64))
        if params.top_p < 1.0:
            target = params.top_p * (weights.sum() if mass is None else mass + weights.sum())
            inside = shortest_prefix(-kept, weights, target)
            ids, weights = ids[inside], weights[inside]
        if params.min_p > 0.0:
            probable = weights >= params.min_p
            ids, weights = ids[probable], weights[probable]
        return ids, weights

    def _worth_a_look(self, t: NDArray[np.float32]) -> tuple[NDArray[np.intp], float]:
        """Return the ids that may be in the nucleus, and the mass of all others.

        Ids whose weight is below (1 - p) * mass / V weigh less than (1 - p) * mass together, so the rest holds the
        nucleus whole.
        """
        e = np.exp(t)
        limit = (1.0 - self._params.top_p) * float(e.sum()) / len(t) * (1.0 - _SLACK)
        ids = np.flatnonzero(e >= np.float32(limit))
        e[ids] = 0.0
        return ids, float(e.sum())


def sample_rows(samplers: Sequence[Sampler], logits: NDArray[np.float32]) -> list[int]:
    """Draw one token for each sampler from its row of `logits`, exactly as each would draw alone.

    Args:
        samplers: one per row.
        logits: float32, shape (len(samplers), V); not changed.

    Raises:
        NonFiniteLogits: as `Sampler`; rows before that one have then been drawn.
    """
    return [sampler(row) for sampler, row in zip(samplers, logits, strict=True)]


def _argmax(row: NDArray[np.float32]) -> int:
    """Return the lowest index of the largest logit; step 1 comes with it, since NaN counts as the largest."""
    top = int(row.argmax())
    largest_logit = row[top]
    if not np.isfinite(largest_logit):
        what = "nothing but -inf" if largest_logit == -np.inf else str(largest_logit).replace("inf", "+inf")
        raise NonFiniteLogits(f"the logits hold {what}: token {top} of {len(row)}")
    return top
