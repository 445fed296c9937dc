"""One row of logits -> one token, the way docs/sampling.md numbers its steps.

A `Sampler` belongs to one sequence: it keeps what history is needed and the buffers it works in. It knows no engine;
any row of float32 will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from phiplug.errors import InvalidParameter, NonFiniteLogits
from phiplug.sampling.noise import race
from phiplug.sampling.nucleus import largest, shortest_prefix
from phiplug.sampling.penalties import Window, repeat, subtract
from phiplug.sampling.row import Row
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

Runners: TypeAlias = "tuple[NDArray[np.intp], NDArray[np.float32]]"
"""Ids, ascending, and their t; an id whose t is -inf has been dropped."""

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
        self._row: Row | None = None
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
        row = self._row_for(logits)
        greedy = self._params.temperature < _GREEDY_BELOW
        if greedy and not self._has_adjustments():
            return _largest(logits)
        row.fill(logits)
        self._adjust(row.x)
        if greedy:
            return _largest(row.x)
        _require_finite(row.temper(self._temperature))
        ids, t = self._survivors(row)
        return race(self._seed, self._position, ids, t)

    def _row_for(self, logits: NDArray[np.float32]) -> Row:
        width = len(logits)
        if self._row is None or len(self._row.x) != width:
            for name, ids in (("logit_bias", self._bias_ids), ("prompt", self._repeated.ids)):
                if len(ids) and ids.max() >= width:
                    raise InvalidParameter(name, f"token {ids.max()} is not in a vocabulary of {width}")
            self._row = Row(width)
        return self._row

    def _has_adjustments(self) -> bool:
        return bool(len(self._bias_ids) or len(self._repeated.ids) or len(self._counted.ids))

    def _adjust(self, x: NDArray[np.float32]) -> None:
        """Steps 2 to 4, in place. What was not finite before is not finite after, so one check follows for both."""
        if len(self._bias_ids):
            x[self._bias_ids] += self._bias
        if len(self._repeated.ids):
            repeat(x, self._repeated.ids, np.float32(self._params.repeat_penalty))
        if len(self._counted.ids):
            frequency, presence = np.float32(self._params.frequency_penalty), np.float32(self._params.presence_penalty)
            subtract(x, self._counted.ids, self._counted.counts, frequency, presence)

    def _survivors(self, row: Row) -> Runners:
        """Steps 6 to 8."""
        params = self._params
        if 0 < params.top_k < len(row.x):
            runners = _top_k(row, params.top_k)
            if params.top_p < 1.0:
                weights = np.exp(runners[1].astype(np.float64))
                runners = _keep(*runners, shortest_prefix(runners[1], weights, params.top_p * weights.sum()))
        elif params.top_p < 1.0:
            runners = _top_p(row, params.top_p)
        elif params.min_p > 0.0:
            runners = row.above(math.log(params.min_p) - _SLACK)
        else:
            runners = row.every_id, row.t()
        return _min_p(*runners, params.min_p) if params.min_p > 0.0 else runners


def _top_k(row: Row, k: int) -> Runners:
    """Step 6."""
    ids, t = row.above(row.largest_bound(k))
    inside = largest(t, k)
    return ids[inside], t[inside]


def _top_p(row: Row, p: float) -> Runners:
    """Step 7, over the whole vocabulary.

    Ids whose weight is below (1 - p) * mass / V weigh less than (1 - p) * mass together, so the rest holds the nucleus
    whole. For a peaked row, bounds of the mass are enough to find both the rest and the nucleus.
    """
    limit = math.log((1.0 - p) * row.least_mass() / len(row.x))
    if row.is_sparse(limit):
        ids, t = row.above(limit)
        weights = np.exp(t.astype(np.float64))
        mass = float(weights.sum())
        inside = shortest_prefix(t, weights, p * mass)
        if weights[inside].sum() >= p * (mass + row.mass_below(limit)):
            return _keep(ids, t, inside)
    return _top_p_dense(row, p)


def _top_p_dense(row: Row, p: float) -> Runners:
    """Step 7 with the exponential of every logit, in float32: the sums are right to about 1e-7."""
    weights, ids, t = row.weights(), row.every_id, row.t()
    mass = float(weights.sum())
    heavy = weights >= np.float32((1.0 - p) * mass / len(weights) * (1.0 - _SLACK))
    if np.count_nonzero(heavy) < len(heavy) // 2:
        ids = np.flatnonzero(heavy)
        t, weights = t[ids], weights[ids]
    return _keep(ids, t, shortest_prefix(t, weights, p * mass))


def _min_p(ids: NDArray[np.intp], t: NDArray[np.float32], m: float) -> Runners:
    """Step 8; the largest weight is 1. The exponential is taken only where the logarithm leaves a doubt."""
    probable = t >= np.float32(math.log(m) + _SLACK)
    doubtful = np.flatnonzero(~probable & (t >= np.float32(math.log(m) - _SLACK)))
    probable[doubtful] = np.exp(t[doubtful].astype(np.float64)) >= m
    return _keep(ids, t, probable)


def _keep(ids: NDArray[np.intp], t: NDArray[np.float32], inside: NDArray[np.bool_]) -> Runners:
    """Drop the ids that are not `inside`; where they are a minority, by giving them no weight, which is cheaper."""
    if np.count_nonzero(inside) > len(inside) // 2:
        np.copyto(t, -np.inf, where=~inside)
        return ids, t
    kept = np.flatnonzero(inside)
    return ids[kept], t[kept]


def sample_rows(samplers: Sequence[Sampler], logits: NDArray[np.float32]) -> list[int]:
    """Draw one token for each sampler from its row of `logits`, exactly as each would draw alone.

    Args:
        samplers: one per row.
        logits: float32, shape (len(samplers), V); not changed.

    Raises:
        NonFiniteLogits: as `Sampler`; rows before that one have then been drawn.
    """
    return [sampler(row) for sampler, row in zip(samplers, logits, strict=True)]


def _largest(x: NDArray[np.float32]) -> int:
    """Return the lowest id of the largest logit; NaN counts as the largest."""
    token = int(x.argmax())
    _require_finite(x[token])
    return token


def _require_finite(top: np.float32) -> None:
    """Step 1: the largest logit tells, since NaN counts as the largest."""
    if not np.isfinite(top):
        what = "nothing but -inf" if top == -np.inf else "NaN" if np.isnan(top) else "+inf"
        raise NonFiniteLogits(f"the logits hold {what}, so no token can be drawn from them")
