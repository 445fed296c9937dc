"""Distances from the most probable token -> the smallest set that holds a given mass, or a given number of ids.

No function here sorts a vocabulary. The distance of an id is max(t) - t in float32, so it is never negative, and the
bit pattern of a non-negative float32 orders as the number does: buckets of bit patterns are ranges of distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 2048  # so many are sorted at once: it is then cheaper than a pass over buckets
_SHIFT = np.uint32(16)  # a bucket is the upper half of the pattern: sign, exponent, 7 bits of the fraction
_LOWER = np.uint32(0xFFFF)


def shortest_prefix(distance: NDArray[np.float32], weights: NDArray[np.float64], target: float) -> NDArray[np.intp]:
    """Return the indices, ascending, of the shortest prefix whose mass is at least `target`; never none of them.

    Args:
        distance: float32, shape (n,), n >= 1, none negative or NaN. The prefix goes from the least distance up, equal
            distances by index.
        weights: float64, shape (n,), none negative.
        target: in the unit of the weights; a target that all of them together miss keeps them all.
    """
    if len(distance) <= _FEW:
        return _prefix_by_sorting(distance, weights, target)
    bits = np.abs(distance).view(np.uint32)  # abs: the pattern of -0.0 is not that of 0
    whole, inside, target = _split(bits >> _SHIFT, weights, target)
    if len(inside) > _FEW:
        whole_low, tied, target = _split(bits[inside] & _LOWER, weights[inside], target)
        whole = np.concatenate([whole, inside[whole_low]])
        inside = inside[tied]
    last = inside[_prefix_by_sorting(distance[inside], weights[inside], target)]
    return np.sort(np.concatenate([whole, last]))


def _prefix_by_sorting(distance: NDArray[np.float32], weights: NDArray[np.float64], target: float) -> NDArray[np.intp]:
    order = np.argsort(distance, kind="stable")
    mass = np.cumsum(weights[order])
    return np.sort(order[: int(np.searchsorted(mass, target)) + 1])


def _split(
    keys: NDArray[np.uint32], weights: NDArray[np.float64], target: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], float]:
    """Find the bucket in which the mass reaches `target`.

    Returns:
        The indices before that bucket, those in it, and what of the target is left for it.
    """
    mass = np.cumsum(np.bincount(keys, weights))
    bucket = min(int(np.searchsorted(mass, target)), len(mass) - 1)
    before = float(mass[bucket - 1]) if bucket else 0.0
    return np.flatnonzero(keys < bucket), np.flatnonzero(keys == bucket), target - before


def largest(t: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the indices, ascending, of the k largest of `t`, the lowest index first on a tie.

    Args:
        t: float32, shape (n,), no NaN.
        k: at least 1; all indices come back when k >= n.
    """
    if k >= len(t):
        return np.arange(len(t))
    limit = np.partition(t, len(t) - k)[len(t) - k]
    above = np.flatnonzero(t > limit)
    tied = np.flatnonzero(t == limit)[: k - len(above)]
    return np.sort(np.concatenate([above, tied]))
