"""Noise that belongs to a request, a position and a token id, and the Gumbel-max draw that it decides.

The noise is a counter-based hash: it has no state, so a draw depends on nothing but the key, the position and the
row, and two rows that differ a little draw the same token as long as their probabilities allow it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the increment of SplitMix64
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # Stafford's variant 13, as SplitMix64 uses it
_G = np.uint64(_GOLDEN)
_ROUNDS = tuple((np.uint64(shift), np.uint64(m)) for shift, m in zip((30, 27), _MULTIPLIERS, strict=True))
_LAST_SHIFT = np.uint64(31)
_UPPER = np.uint64(12)
_MASK = 2**64 - 1
_FIRST = 512  # so many run the gumbel_max at once
_BLOCK = 16384  # beyond that, ids hashed at a time, so that the temporaries stay in a near cache
_SLOWEST = 37.0  # the id of weight 1 has -ln(u) <= 53 ln(2)
_ONE = np.uint64(0x3FF << 52)  # the bits of 1.0: or-ed with 52 random bits they make a float64 in [1, 2)
_SLACK = 1 + 1e-5  # covers what a weight in float32 is off by
_FINE = 2.0**-52  # covers the rounding of 1 - u, and weights too small for float32: no 1 - u is below 2**-53
_PER_NAT = np.float32(2**23 / math.log(2))  # steps of a float32's bit pattern per factor e
_UNIT = np.float32((127 << 23) + 1000)  # the bit pattern of 1.0, and more than rounding can take away

COIN = 2**32 - 1
"""The id whose noise serves a filter that needs a coin of its own; no vocabulary reaches it."""


def request_key(seed: int, prompt: Sequence[int]) -> int:
    """Return the key of a request's draws, in [0, 2**64): one seed gives each prompt noise of its own.

    With mix = SplitMix64's finalizer and g = its increment, all modulo 2**64:
    P = sum over i of mix(mix((i + 1) * g) + prompt[i]); key = mix(mix(seed + g) + P).

    Args:
        seed: in [0, 2**64).
        prompt: its ids; P is 0 for none.
    """
    places = np.arange(1, len(prompt) + 1, dtype=np.uint64)
    hashes = _mixed(_mixed(places * _G) + np.asarray(prompt, dtype=np.uint64))
    return _mix(_mix(seed + _GOLDEN) + int(hashes.sum(dtype=np.uint64)))


def noise(key: int, position: int, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return u(key, position, id) for each id: uniform on (0, 1), bit-exact on every machine.

    With mix = SplitMix64's finalizer and g = its increment, all modulo 2**64:
    k = mix(key + position * g); h = mix(id * g + k); u = ((h >> 12) + 0.5) * 2**-52.

    Args:
        key: of the request, in [0, 2**64); see `request_key`.
        position: the index of the new token in the whole sequence, the first of the prompt being 0.
        ids: any shape, each in [0, 2**64).
    """
    u = _counter(key, position, ids).astype(np.float64)
    u += 0.5
    u *= 2.0**-52
    return u


def gumbel_max(
    key: int,
    position: int,
    ids: NDArray[np.intp],
    t: NDArray[np.float32],
    weights: NDArray[np.floating] | None = None,
) -> int:
    """Return the index of the id whose z = -ln(u) / exp(t) is smallest, the first on a tie.

    Each id wins with probability exp(t) / sum(exp(t)): the Gumbel-max trick with one logarithm, for z is the
    exponential of minus the Gumbel-perturbed logit. Since -ln(u) >= 1 - u, an id with 1 - u above best * exp(t) has
    lost already, so that a logarithm and an exponential in float64 are taken for few.

    Args:
        key: of the request, in [0, 2**64).
        position: the index of the new token in the whole sequence.
        ids: ascending, at least one; a single one needs no gumbel_max.
        t: float32, shape of `ids`, none above 0; an id whose exp(t) is 0 in float64 cannot win.
        weights: exp(t), to within 1e-5, where somebody has it already.
    """
    if len(ids) == 1:
        return 0
    winner, best = _finish(key, position, ids[:_FIRST], t[:_FIRST])
    for start in range(_FIRST, len(ids), _BLOCK):
        block = slice(start, start + _BLOCK)
        reach = _exp_bound(t[block]) if weights is None else weights[block]
        runners = _contenders(key, position, ids[block], reach, min(best, _SLOWEST))
        if len(runners):
            index, z = _finish(key, position, ids[block][runners], t[block][runners])
            if z < best:
                winner, best = start + int(runners[index]), z
    return winner


def _contenders(
    key: int, position: int, ids: NDArray[np.intp], reach: NDArray[np.floating], best: float
) -> NDArray[np.intp]:
    """Return the indices of all ids that may beat `best`, and of a few that will not; their weight is below `reach`."""
    h = _counter(key, position, ids)
    h |= _ONE
    missing = h.view(np.float64)
    np.subtract(2.0, missing, out=missing)  # 1 - u, rounded up by 2**-53
    limit = reach * np.float64(best * _SLACK)
    limit += _FINE
    return np.flatnonzero(missing <= limit)


def _exp_bound(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an upper bound of exp(t), at most 7% above it: straight lines between the powers of two.

    The bit pattern of a float32, read as an integer, is such an interpolation of its logarithm (Schraudolph 1999).
    """
    pattern = t * _PER_NAT
    pattern += _UNIT
    np.maximum(pattern, 0, out=pattern)
    return pattern.astype(np.int32).view(np.float32)


def _finish(key: int, position: int, ids: NDArray[np.intp], t: NDArray[np.float32]) -> tuple[int, float]:
    """Return the index of the id that arrives first among these, and its z."""
    z = -np.log(noise(key, position, ids)) / np.exp(t.astype(np.float64))
    first = int(z.argmin())
    return first, float(z[first])


def _counter(key: int, position: int, ids: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the upper 52 bits of the hash."""
    h = ids.astype(np.uint64)
    h *= _G
    h += np.uint64(_mix(key + position * _GOLDEN))
    h = _mixed(h)
    h >>= _UPPER
    return h


def _mixed(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply SplitMix64's finalizer to each element, in place."""
    for shift, multiplier in _ROUNDS:
        h ^= h >> shift
        h *= multiplier
    h ^= h >> _LAST_SHIFT
    return h


def _mix(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * _MULTIPLIERS[0]) & _MASK
    z = ((z ^ (z >> 27)) * _MULTIPLIERS[1]) & _MASK
    return z ^ (z >> 31)
