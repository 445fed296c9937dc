"""Steps 6 to 9 of phiplug's own rule: a tempered row -> a token.

Written for speed: the nucleus of top_p is not looked for. All ids that may belong to it race, and only the winner is
asked whether it does, which it most often does. Where it does not, all of the nucleus are ahead of it in the order of
step 7, and those race again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from phiplug.sampling.filters import probable, survivors
from phiplug.sampling.noise import NoiseBuffers, gumbel_max
from phiplug.sampling.row import SLACK, Row
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SAMPLE = 1024  # ids from which the weight at the nucleus' edge is guessed
_CAUTION = 0.7  # of the mass outside the nucleus, so that the guess seldom fails
_TINY = 1e-37  # the least weight that is told from 0


class Field(NamedTuple):
    """Those that run: all ids that may be in the nucleus, and as many more as were cheaper to keep.

    Attributes:
        ids: ascending.
        t: their tempered logits; no other id has a larger one.
        weights: exp(t), float32 or float64.
        least: a lower bound of the mass that the nucleus has to reach.
        most: an upper bound of it.
    """

    ids: NDArray[np.intp]
    t: NDArray[np.float32]
    weights: NDArray[np.floating]
    least: float
    most: float

    def only(self, inside: NDArray[np.bool_] | None) -> Field:
        """Return those that a mask marks; None marks all."""
        if inside is None:
            return self
        kept = np.flatnonzero(inside)
        return self._replace(ids=self.ids.take(kept), t=self.t.take(kept), weights=self.weights.take(kept))

    def ahead_of(self, index: int) -> NDArray[np.bool_]:
        """Mark those that step 7 puts before one of them: larger, or equal and of a lower id."""
        ahead: NDArray[np.bool_] = self.t > self.t[index]
        ahead[:index] |= self.t[:index] == self.t[index]
        return ahead


def draw(row: Row, params: SamplingParams, key: int, position: int) -> int:
    """Draw a token.

    Args:
        row: tempered.
        params: `top_k`, `top_p` and `min_p` count here.
        key: of the request, in [0, 2**64).
        position: the index of the new token in the whole sequence.
    """
    if params.top_p == 1.0 or 0 < params.top_k < len(row.x):
        ids, t = survivors(row, params)
        return int(ids[gumbel_max(key, position, ids, t, buffers=row.buffers)])
    fields = (field.only(probable(field.t, params.min_p)) for field in _fields(row, params.top_p))
    winners = (_winner(field, key, position, row.buffers) for field in fields)
    return next(token for token in winners if token is not None)


def _winner(field: Field, key: int, position: int, buffers: NoiseBuffers | None = None) -> int | None:
    """Return who wins the race of the nucleus, or None where the bounds of its mass do not tell."""
    while True:
        index = gumbel_max(key, position, field.ids, field.t, field.weights, buffers)
        ahead = field.ahead_of(index)
        mass = float((field.weights * ahead).sum())
        if mass < field.least or not ahead.any():
            return int(field.ids[index])
        if mass < field.most:
            return None
        field = field.only(ahead)


def _fields(row: Row, p: float) -> Iterator[Field]:
    """Yield what may do for the row, the cheapest first; the last one knows the mass, so it always does."""
    limit = math.log((1.0 - p) / len(row.x)) - SLACK
    if row.is_sparse(limit):
        yield _sparse_field(row, p, limit)
    yield _dense_field(row, p)


def _sparse_field(row: Row, p: float, limit: float) -> Field:
    """Return the few ids of a peaked row; most of it is not looked at.

    Ids whose weight is below (1 - p) * mass / V weigh less than (1 - p) * mass together, so the rest holds the nucleus
    whole. The largest weight is 1, so the mass is at least that.
    """
    ids, t = row.above_sparsely(limit)
    weights = np.exp(t.astype(np.float64))
    mass = float(weights.sum())
    return Field(ids, t, weights, p * mass, p * (mass + row.mass_below(limit)))


def _dense_field(row: Row, p: float) -> Field:
    """Return what the exponential of every logit tells, in float32: the sums are right to about 1e-7."""
    weights, t = row.weights(), row.t()
    mass = float(weights.sum())
    outside = (1.0 - p) * mass
    for limit in (_guess(weights, outside), outside / len(t) * (1.0 - SLACK)):
        heavy = t >= np.float32(math.log(limit))
        if np.count_nonzero(heavy) > len(heavy) // 2:  # gathering most would cost more than it saves
            break
        ids = np.flatnonzero(heavy)
        field = Field(ids, t.take(ids), weights.take(ids), p * mass, p * mass)
        if field.weights.sum() >= p * mass:  # true of the second limit, nearly always of the first
            return field
    return Field(row.every_id, t, weights, p * mass, p * mass)


def _guess(weights: NDArray[np.float32], outside: float) -> float:
    """Guess a weight such that the ids below it have somewhat less than the mass `outside`, from a sample of them."""
    sample = np.sort(weights[:: len(weights) // _SAMPLE + 1])
    below = np.cumsum(sample) * (len(weights) / len(sample))
    edge = min(int(np.searchsorted(below, _CAUTION * outside)), len(sample) - 1)
    return max(float(sample[edge]), _TINY)
