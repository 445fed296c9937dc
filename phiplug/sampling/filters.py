"""Steps 6 to 8 of phiplug's own rule: a row and its parameters -> the ids that survive.

Written for speed: no step sorts the vocabulary, and a peaked row is searched through its few high columns. What the
steps mean is in docs/sampling.md, and plainly in the reference that the tests hold these to; `stages` carries out the
dialects.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from phiplug.sampling.nucleus import largest, settled_prefix, shortest_prefix
from phiplug.sampling.row import Row
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

Runners: TypeAlias = "tuple[NDArray[np.intp], NDArray[np.float32]]"
"""Ids, ascending, and their t, of which the largest is 0; an id whose t is -inf has been dropped."""

_FEW = 2048  # ids that are sorted rather than bucketed
_SAMPLE = 1024  # ids from which the weight at the nucleus' edge is guessed
_CAUTION = 0.7  # of the mass outside the nucleus, so that the guess seldom fails
_TINY = 1e-37  # the least weight that is told from 0
_SLACK = 1e-3  # what float32 arithmetic may be off by, relatively and generously, where it only narrows a search


def survivors(row: Row, params: SamplingParams) -> Runners:
    """Apply top_k, top_p and min_p to a tempered row."""
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
    limit = math.log((1.0 - p) / len(row.x)) - _SLACK  # the largest weight is 1, so the mass is at least that
    if row.is_sparse(limit):
        ids, t = row.above_sparsely(limit)
        if len(ids) <= _FEW:
            weights = np.exp(t.astype(np.float64))
            mass = float(weights.sum())
            inside = settled_prefix(t, weights, p * mass, p * (mass + row.mass_below(limit)))
            if inside is not None:
                return ids[inside], t[inside]
    return _top_p_dense(row, p)


def _top_p_dense(row: Row, p: float) -> Runners:
    """Step 7 with the exponential of every logit, in float32: the sums are right to about 1e-7."""
    all_weights, all_t = row.weights(), row.t()
    mass = float(all_weights.sum())
    outside = (1.0 - p) * mass
    for limit in (_guess(all_weights, outside), outside / len(all_t) * (1.0 - _SLACK)):
        heavy = all_t >= np.float32(math.log(limit))
        if np.count_nonzero(heavy) > len(heavy) // 2:  # gathering most would cost more than it saves
            ids, t, weights = row.every_id, all_t, all_weights
            break
        ids = np.flatnonzero(heavy)
        t, weights = all_t.take(ids), all_weights.take(ids)  # faster than indexing
        if len(ids) and weights.sum() >= p * mass:  # true of the second limit, nearly always of the first
            break
    return _keep(ids, t, shortest_prefix(t, weights, p * mass))


def _guess(weights: NDArray[np.float32], outside: float) -> float:
    """Guess a weight such that the ids below it have somewhat less than the mass `outside`, from a sample of them."""
    sample = np.sort(weights[:: len(weights) // _SAMPLE + 1])
    below = np.cumsum(sample) * (len(weights) / len(sample))
    edge = min(int(np.searchsorted(below, _CAUTION * outside)), len(sample) - 1)
    return max(float(sample[edge]), _TINY)


def _min_p(ids: NDArray[np.intp], t: NDArray[np.float32], m: float) -> Runners:
    """Step 8; the largest weight is 1. The exponential is taken only where the logarithm leaves a doubt."""
    probable = t >= np.float32(math.log(m) + _SLACK)
    doubtful = np.flatnonzero(~probable & (t >= np.float32(math.log(m) - _SLACK)))
    probable[doubtful] = np.exp(t[doubtful].astype(np.float64)) >= m
    return _keep(ids, t, probable)


def _keep(ids: NDArray[np.intp], t: NDArray[np.float32], inside: NDArray[np.bool_]) -> Runners:
    """Drop the ids that are not `inside`; where they are few, by giving them no weight, which is cheaper."""
    if np.count_nonzero(inside) > len(inside) * 7 // 8:
        np.copyto(t, -np.inf, where=~inside)
        return ids, t
    kept = np.flatnonzero(inside)
    return ids.take(kept), t.take(kept)
