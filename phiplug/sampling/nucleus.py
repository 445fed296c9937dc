"""Tempered logits -> the smallest set that holds a given mass, or a given number of ids.

No function here sorts a vocabulary. A tempered logit t = (x - max) / T is never above 0, and the bit pattern of a
float32 without its sign orders as its magnitude does: buckets of bit patterns are ranges of t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 2048  # so many are sorted at once: it is then cheaper than passes over buckets
_FEWER = 256  # the same for what a first pass has left
_DIGITS = ((18, 14), (9, 9), (0, 9))  # a bit pattern in three parts, coarse to fine: (lowest bit, number of bits)
_SIGN_OUT = np.uint32(1)  # shifted left by it, -0.0 is 0
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

    All are bucketed by the coarse part of their bit pattern, then those in the bucket where the mass reaches the target
    by the next part; what is left is few, or all equal, which a stable sort passes over once.
    """
    bits = t.view(np.uint32)
    rest = np.arange(0)
    for level, (lowest, length) in enumerate(_DIGITS):
        mass = np.cumsum(_masses(bits, weights, lowest, length))
        bucket = int(np.searchsorted(mass, min(target, mass[-1])))
        target -= float(mass[bucket - 1]) if bucket else 0.0
        inside = np.flatnonzero(_digit(bits, lowest, length) == bucket)
        rest = rest[inside] if level else inside
        bits, weights = bits[inside], weights[inside]
        if len(rest) <= _FEWER:
            break
    return int(rest[_sorted_prefix(bits << _SIGN_OUT, weights, target)[-1]])


def _masses(bits: NDArray[np.uint32], weights: NDArray[np.floating], lowest: int, length: int) -> NDArray[np.float64]:
    """Return the mass of each bucket of one part of the bit pattern."""
    mass = np.zeros(1 << (length - (lowest + length == 32)))  # the sign is not part of it
    for start in range(0, len(bits), _BLOCK):
        block = slice(start, start + _BLOCK)
        mass += np.bincount(_digit(bits[block], lowest, length).astype(np.intp), weights[block], len(mass))
    return mass


def _digit(bits: NDArray[np.uint32], lowest: int, length: int) -> NDArray[np.uint32]:
    if lowest + length == 32:
        return (bits << _SIGN_OUT) >> np.uint32(lowest + 1)
    return (bits >> np.uint32(lowest)) & np.uint32((1 << length) - 1)


def _sorted_prefix(
    keys: NDArray[np.float32] | NDArray[np.uint32], weights: NDArray[np.floating], target: float
) -> NDArray[np.intp]:
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
