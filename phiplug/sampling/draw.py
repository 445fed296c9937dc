"""Draws a token from logits that the temperature has been applied to: steps 6 to 9 of phiplug's own rule.

It is written for speed, so it does not look for the nucleus of top_p. It makes a Gumbel-max draw among all ids that may
belong to the nucleus and checks only the winner, which most often does belong. Where it does not, every id of the
nucleus is ahead of it in the order of step 7, and the next draw is among those.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from phiplug.sampling.filters import candidates, probable
from phiplug.sampling.noise import NoiseBuffers, gumbel_max
from phiplug.sampling.row import SLACK, Row
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SAMPLE = 1024  # ids from which the weight at the nucleus' edge is guessed
_CAUTION = 0.7  # of the mass outside the nucleus, so that the guess seldom fails
_TINY = 1e-37  # the least weight that is told from 0


class NucleusBounds(NamedTuple):
    """The ids that may be in the nucleus, with as many more as were cheaper to keep, and bounds of its mass.

    Attributes:
        ids: ascending.
        t: their logits after the temperature; no other id has a larger one.
        weights: exp(t), float32 or float64.
        least: a lower bound of the mass that the nucleus has to reach.
        most: an upper bound of that mass.
    """

    ids: NDArray[np.intp]
    t: NDArray[np.float32]
    weights: NDArray[np.floating]
    least: float
    most: float

    def only(self, inside: NDArray[np.bool_] | None) -> NucleusBounds:
        """Keep the ids that a mask marks; None marks all."""
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
        row: the temperature has been applied to it.
        params: `top_k`, `top_p` and `min_p` count here.
        key: of the request, in [0, 2**64).
        position: the index of the new token in the whole sequence.
    """
    if params.top_p == 1.0 or 0 < params.top_k < len(row.x):
        ids, t = candidates(row, params)
        return int(ids[gumbel_max(key, position, ids, t, buffers=row.buffers)])
    guesses = (bounds.only(probable(bounds.t, params.min_p)) for bounds in _bounds(row, params.top_p))
    winners = (_winner(bounds, key, position, row.buffers) for bounds in guesses)
    return next(token for token in winners if token is not None)


def _winner(bounds: NucleusBounds, key: int, position: int, buffers: NoiseBuffers | None = None) -> int | None:
    """Draw a token from the nucleus, or return None where the bounds of its mass leave the winner in doubt."""
    while True:
        index = gumbel_max(key, position, bounds.ids, bounds.t, bounds.weights, buffers)
        ahead = bounds.ahead_of(index)
        mass = float((bounds.weights * ahead).sum())
        if mass < bounds.least or not ahead.any():
            return int(bounds.ids[index])
        if mass < bounds.most:
            return None
        bounds = bounds.only(ahead)


def _bounds(row: Row, p: float) -> Iterator[NucleusBounds]:
    """Yield bounds that may suffice, the cheapest first; the last one knows the mass, so it always suffices."""
    limit = math.log((1.0 - p) / len(row.x)) - SLACK
    if row.is_sparse(limit):
        yield _sparse_bounds(row, p, limit)
    yield _dense_bounds(row, p)


def _sparse_bounds(row: Row, p: float, limit: float) -> NucleusBounds:
    """Return the few likely ids of a peaked row without reading most of it.

    Ids whose weight is below (1 - p) * mass / V weigh less than (1 - p) * mass together, so the rest holds the nucleus
    whole. The largest weight is 1, so the mass is at least that.
    """
    ids, t = row.above_sparsely(limit)
    weights = np.exp(t.astype(np.float64))
    mass = float(weights.sum())
    return NucleusBounds(ids, t, weights, p * mass, p * (mass + row.mass_below(limit)))


def _dense_bounds(row: Row, p: float) -> NucleusBounds:
    """Return bounds from the exponential of every logit, in float32, whose sums are right to about 1e-7."""
    weights, t = row.weights(), row.t()
    mass = float(weights.sum())
    outside = (1.0 - p) * mass
    for limit in (_guess(weights, outside), outside / len(t) * (1.0 - SLACK)):
        heavy = t >= np.float32(math.log(limit))
        if np.count_nonzero(heavy) > len(heavy) // 2:  # gathering most would cost more than it saves
            break
        ids = np.flatnonzero(heavy)
        bounds = NucleusBounds(ids, t.take(ids), weights.take(ids), p * mass, p * mass)
        if bounds.weights.sum() >= p * mass:  # the second limit always reaches it, the first nearly always
            return bounds
    return NucleusBounds(row.every_id, t, weights, p * mass, p * mass)


def _guess(weights: NDArray[np.float32], outside: float) -> float:
    """Guess a weight such that the ids below it have somewhat less than the mass `outside`, from a sample of them."""
    sample = np.sort(weights[:: len(weights) // _SAMPLE + 1])
    below = np.cumsum(sample) * (len(weights) / len(sample))
    edge = min(int(np.searchsorted(below, _CAUTION * outside)), len(sample) - 1)
    return max(float(sample[edge]), _TINY)
