"""Finds the smallest set of ids that holds a given mass, or the largest ids of a given number.

No function here sorts a vocabulary. Each buckets ids by their logit after the temperature, t = (x - max) / T, which is
never above 0, and looks more closely only at the bucket that the boundary falls in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 2048  # so many are sorted at once: it is then cheaper than passes over buckets
_FEWER = 256  # the same for what a first pass has left
_EVEN = 1024  # buckets of the first pass
_TINY = 1e-30  # a range whose inverse float32 can hold
_BLOCK = 16384  # ids bucketed at a time, so that the temporaries stay in a near cache


def shortest_prefix(t: NDArray[np.float32], weights: NDArray[np.floating], target: float) -> NDArray[np.bool_]:
    """Mark the shortest prefix whose mass is at least `target`; never none of the ids.

    Args:
        t: float32, shape (n,), n >= 1, none above 0. The prefix goes from the largest down, equals by index.
        weights: shape (n,), none negative.
        target: in the unit of the weights; a target that all of them together miss keeps them all.
    """
    if len(t) <= _FEW:
        few = np.zeros(len(t), bool)
        few[_sorted_prefix(-t, weights, target)] = True
        return few
    last = _boundary(t, weights, target)
    inside: NDArray[np.bool_] = t >= t[last]
    inside[last + 1 :] &= t[last + 1 :] != t[last]
    return inside


def _boundary(t: NDArray[np.float32], weights: NDArray[np.floating], target: float) -> int:
    """Return the index of the last member of the prefix.

    All are bucketed, then those in the bucket where the mass reaches the target more finely; what is left is few, or
    all equal, which a stable sort passes over once.
    """
    rest = np.arange(0)
    for level, (digits_of, buckets) in enumerate(_LEVELS):
        digits = digits_of(t)
        mass = np.cumsum(_masses(digits, weights, buckets))
        bucket = int(np.searchsorted(mass, min(target, mass[-1])))
        target -= float(mass[bucket - 1]) if bucket else 0.0
        inside = np.flatnonzero(digits == bucket)
        rest = rest[inside] if level else inside
        t, weights = t[inside], weights[inside]
        if len(rest) <= _FEWER:
            break
    return int(rest[_sorted_prefix(-t, weights, target)[-1]])


def _even_digits(t: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Divide the range of t into even parts: enough, but for rows that crowd into one of them."""
    least = float(t.min())
    if not -np.inf < least < -_TINY:
        return np.zeros(len(t), np.uint16)
    digits: NDArray[np.uint16] = (t * np.float32((_EVEN - 1) / least)).astype(np.uint16)
    return digits


def _upper_digits(t: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (_magnitude(t) >> np.uint32(16)).astype(np.uint16)


def _lower_digits(t: NDArray[np.float32]) -> NDArray[np.uint16]:
    return _magnitude(t).astype(np.uint16)


def _magnitude(t: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bit pattern without its sign, which orders as the distance from 0 does: -0.0 is 0."""
    return t.view(np.uint32) & np.uint32(0x7FFFFFFF)


_LEVELS = ((_even_digits, _EVEN), (_upper_digits, 1 << 15), (_lower_digits, 1 << 16))


def _masses(digits: NDArray[np.uint16], weights: NDArray[np.floating], buckets: int) -> NDArray[np.float64]:
    """Return the mass of each bucket."""
    mass = np.zeros(buckets)
    for start in range(0, len(digits), _BLOCK):
        block = slice(start, start + _BLOCK)
        mass += np.bincount(digits[block].astype(np.intp), weights[block], buckets)
    return mass


def _sorted_prefix(keys: NDArray[np.float32], weights: NDArray[np.floating], target: float) -> NDArray[np.intp]:
    order = np.argsort(keys, kind="stable")
    mass = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(np.searchsorted(mass, target)) + 1]


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
