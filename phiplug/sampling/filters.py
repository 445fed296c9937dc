"""Finds the candidates that top_k, top_p and min_p leave of a row: steps 6 to 8 of phiplug's own rule.

What the steps mean is in docs/sampling.md, and plainly in the reference that the tests hold these to; `stages` carries
out the dialects, and `draw` does without these candidates where it can.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from phiplug.sampling.nucleus import largest, shortest_prefix
from phiplug.sampling.row import SLACK, Row
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

Filtered: TypeAlias = "tuple[NDArray[np.intp], NDArray[np.float32]]"
"""Ids, ascending, and their t, of which the largest is 0; one whose t is -inf cannot win."""


def candidates(row: Row, params: SamplingParams) -> Filtered:
    """Apply top_k, top_p and min_p to a row that the temperature has been applied to."""
    if 0 < params.top_k < len(row.x):
        kept = _top_k(row, params.top_k)
        if params.top_p < 1.0:
            kept = _top_p(*kept, np.exp(kept[1].astype(np.float64)), params.top_p)
    elif params.top_p < 1.0:
        kept = _top_p(row.every_id, row.t(), row.weights(), params.top_p)
    elif params.min_p > 0.0:
        kept = row.above(math.log(params.min_p) - SLACK)
    else:
        kept = row.every_id, row.t()
    inside = probable(kept[1], params.min_p)
    return kept if inside is None else (kept[0][inside], kept[1][inside])


def probable(t: NDArray[np.float32], m: float) -> NDArray[np.bool_] | None:
    """Carry out step 8: mark the ids whose weight is at least m, or return None for all. The largest weight is 1.

    Only where the logarithm leaves a doubt does it take the exponential.
    """
    if m == 0.0:
        return None
    inside: NDArray[np.bool_] = t >= np.float32(math.log(m) + SLACK)
    doubtful = np.flatnonzero(~inside & (t >= np.float32(math.log(m) - SLACK)))
    inside[doubtful] = np.exp(t[doubtful].astype(np.float64)) >= m
    return inside


def _top_k(row: Row, k: int) -> Filtered:
    """Carry out step 6."""
    ids, t = row.above(row.largest_bound(k))
    inside = largest(t, k)
    return ids[inside], t[inside]


def _top_p(ids: NDArray[np.intp], t: NDArray[np.float32], weights: NDArray[np.floating], p: float) -> Filtered:
    """Carry out step 7."""
    inside = shortest_prefix(t, weights, p * float(weights.sum()))
    return ids[inside], t[inside]
