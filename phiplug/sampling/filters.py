"""Steps 6 to 8 of phiplug's own rule: a row and its parameters -> the ids that survive.

What the steps mean is in docs/sampling.md, and plainly in the reference that the tests hold these to; `stages` carries
out the dialects, and `draw` does without the survivors where it can.
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

Runners: TypeAlias = "tuple[NDArray[np.intp], NDArray[np.float32]]"
"""Ids, ascending, and their t, of which the largest is 0; one whose t is -inf cannot win."""


def survivors(row: Row, params: SamplingParams) -> Runners:
    """Apply top_k, top_p and min_p to a tempered row."""
    if 0 < params.top_k < len(row.x):
        runners = _top_k(row, params.top_k)
        if params.top_p < 1.0:
            runners = _top_p(*runners, np.exp(runners[1].astype(np.float64)), params.top_p)
    elif params.top_p < 1.0:
        runners = _top_p(row.every_id, row.t(), row.weights(), params.top_p)
    elif params.min_p > 0.0:
        runners = row.above(math.log(params.min_p) - SLACK)
    else:
        runners = row.every_id, row.t()
    inside = probable(runners[1], params.min_p)
    return runners if inside is None else (runners[0][inside], runners[1][inside])


def probable(t: NDArray[np.float32], m: float) -> NDArray[np.bool_] | None:
    """Step 8: mark those whose weight is at least m; None for all. The largest weight is 1.

    The exponential is taken only where the logarithm leaves a doubt.
    """
    if m == 0.0:
        return None
    inside: NDArray[np.bool_] = t >= np.float32(math.log(m) + SLACK)
    doubtful = np.flatnonzero(~inside & (t >= np.float32(math.log(m) - SLACK)))
    inside[doubtful] = np.exp(t[doubtful].astype(np.float64)) >= m
    return inside


def _top_k(row: Row, k: int) -> Runners:
    """Step 6."""
    ids, t = row.above(row.largest_bound(k))
    inside = largest(t, k)
    return ids[inside], t[inside]


def _top_p(ids: NDArray[np.intp], t: NDArray[np.float32], weights: NDArray[np.floating], p: float) -> Runners:
    """Step 7."""
    inside = shortest_prefix(t, weights, p * float(weights.sum()))
    return ids[inside], t[inside]
