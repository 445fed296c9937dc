"""(seed, position, token ids) -> noise, and the race that the noise decides.

The noise is a counter-based hash: it has no state, so a draw depends on nothing but the seed, the position and the
row, and two rows that differ a little draw the same token as long as their probabilities allow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the increment of SplitMix64
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # Stafford's variant 13, as SplitMix64 uses it
_MASK = 2**64 - 1
_BLOCK = 8192  # ids hashed at a time, so that the uint64 temporaries stay in the first-level cache

COIN = 2**32 - 1
"""The id whose noise serves a filter that needs a coin of its own; no vocabulary reaches it."""


def noise(seed: int, position: int, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return u(seed, position, id) for each id: uniform on (0, 1), bit-exact on every machine.

    With mix = SplitMix64's finalizer and g = its increment, all modulo 2**64:
    k = mix(mix(seed + g) + position * g); h = mix(id * g + k); u = ((h >> 12) + 0.5) * 2**-52.

    Args:
        seed: in [0, 2**64).
        position: the index of the new token in the whole sequence, the first of the prompt being 0.
        ids: any shape, each in [0, 2**64).
    """
    key = np.uint64(_mix(_mix(seed + _GOLDEN) + position * _GOLDEN))
    h = ids.astype(np.uint64)
    h *= np.uint64(_GOLDEN)
    h += key
    h ^= h >> np.uint64(30)
    h *= np.uint64(_MULTIPLIERS[0])
    h ^= h >> np.uint64(27)
    h *= np.uint64(_MULTIPLIERS[1])
    h ^= h >> np.uint64(31)
    h >>= np.uint64(12)
    u = h.astype(np.float64)
    u += 0.5
    u *= 2.0**-52
    return u


def race(seed: int, position: int, ids: NDArray[np.integer], weights: NDArray[np.float64]) -> int:
    """Return the id whose z = -ln(u) / weight is smallest, the lowest id on a tie.

    Each id wins with probability weight / sum(weights): the exponential race, or Gumbel-max with one logarithm.

    Args:
        seed: in [0, 2**64).
        position: the index of the new token in the whole sequence.
        ids: ascending, at least one.
        weights: float64, same shape; an id of weight 0 cannot win.
    """
    winner, best = int(ids[0]), np.inf
    for start in range(0, len(ids), _BLOCK):
        block = slice(start, start + _BLOCK)
        with np.errstate(divide="ignore"):
            z = -np.log(noise(seed, position, ids[block])) / weights[block]
        first = int(z.argmin())
        if z[first] < best:
            winner, best = int(ids[start + first]), float(z[first])
    return winner


def _mix(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * _MULTIPLIERS[0]) & _MASK
    z = ((z ^ (z >> 27)) * _MULTIPLIERS[1]) & _MASK
    return z ^ (z >> 31)
