"""Noise that belongs to a request, a position and a token id, and the Gumbel-max draw that it decides.

The noise is a counter-based hash: it has no state, so a draw depends on nothing but the key, the position and the
row, and two rows that differ a little draw the same token as long as their probabilities allow it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from phiplug.spi.splitmix import GOLDEN, LAST_SHIFT, MASK, ROUNDS, UPPER, key_at, mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_G = np.uint64(GOLDEN)
_ROUNDS = tuple((np.uint64(shift), np.uint64(multiplier)) for shift, multiplier in ROUNDS)
_LAST_SHIFT, _UPPER = np.uint64(LAST_SHIFT), np.uint64(UPPER)
_FEW = 512  # the z of so many are simply computed
_SAMPLE = 1024  # ids from which the mass is estimated
_LIKELY = 8.0  # the smallest z is above 8 / mass once in exp(8) = 2981 draws
_MOST = 37.0  # no smallest z is larger: the id of weight 1 has -ln(u) <= 53 ln(2)
_BLOCK = 16384  # ids hashed at a time, so that the buffers stay in a near cache
_BITS = 25  # of 1 - u that are compared first, as integers: 2**25 * 1.07 * _MOST is below 2**31
_BELOW = np.uint64(64 - _BITS)
_MULTIPLIERS_TO_MINUS = (_ROUNDS[0][1], np.uint64(2**64 - ROUNDS[1][1]))  # they give minus the hash
_SCALE = 2.0**_BITS * 1.02  # with a slack for float32 arithmetic, and 1/64 for `_missing`
_PER_NAT = np.float32(2**23 / math.log(2))  # steps of a float32's bit pattern per factor e
_UNIT = 127 << 23  # the bit pattern of 1.0

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
    return mix(mix(seed + GOLDEN) + int(hashes.sum(dtype=np.uint64)))


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


class NoiseBuffers:
    """Memory that draws from rows of one width work in, one draw at a time.

    Attributes:
        inside: bool, for a whole row.
        hashes: uint64, for a block of ids, as all that follow.
        shifted: uint64.
        products: uint64, i * g for the i-th of a block.
        bounds: float32.
        limits: int32.
        missing: int32.
    """

    def __init__(self, width: int) -> None:
        """Prepare for draws from at most `width` ids."""
        block = min(width, _BLOCK)
        self.inside = np.empty(width, bool)
        self.hashes, self.shifted = np.empty(block, np.uint64), np.empty(block, np.uint64)
        self.bounds = np.empty(block, np.float32)
        self.limits, self.missing = np.empty(block, np.int32), np.empty(block, np.int32)
        self.products = np.arange(block, dtype=np.uint64) * _G


def gumbel_max(
    key: int,
    position: int,
    ids: NDArray[np.intp],
    t: NDArray[np.float32],
    weights: NDArray[np.floating] | None = None,
    buffers: NoiseBuffers | None = None,
) -> int:
    """Return the index of the id whose z = -ln(u) / exp(t) is smallest, the first on a tie.

    Each id wins with probability exp(t) / sum(exp(t)): the Gumbel-max trick with one logarithm, for z is the
    exponential of minus the Gumbel-perturbed logit. The smallest z is exponential of rate sum(exp(t)), so a bound that
    it seldom exceeds is known beforehand; and since -ln(u) >= 1 - u, an id with 1 - u above bound * exp(t) has a z
    above the bound. So logarithms and exponentials in float64 are taken for about ten ids.

    Args:
        key: of the request, in [0, 2**64).
        position: the index of the new token in the whole sequence.
        ids: ascending, at least one; a single one needs no noise.
        t: float32, shape of `ids`, the largest 0; an id whose exp(t) is 0 in float64 cannot win.
        weights: exp(t), to within 1e-5, where somebody has it already.
        buffers: memory to work in, for at least as many ids; some is allocated where none is given.
    """
    if len(ids) == 1:
        return 0
    if len(ids) <= _FEW:
        return _smallest(key, position, ids, t)[0]
    buffers = buffers or NoiseBuffers(len(ids))
    counter = key_at(key, position)
    bound, z = _LIKELY / _mass(t, weights), math.inf
    while True:
        near = _near(bound, counter, ids, t, weights, buffers)
        if len(near):
            index, z = _smallest(key, position, ids[near], t[near])
            if z <= bound:
                return int(near[index])
        bound = min(z, bound * _LIKELY, _MOST)


def _mass(t: NDArray[np.float32], weights: NDArray[np.floating] | None) -> float:
    """Estimate the sum of exp(t), which is at least 1, from a sample; the draw is right whatever the estimate."""
    step = len(t) // _SAMPLE + 1
    sample = np.exp(t[::step]) if weights is None else weights[::step]
    return max(1.0, step * float(sample.sum()))


def _near(
    bound: float,
    counter: int,
    ids: NDArray[np.intp],
    t: NDArray[np.float32],
    weights: NDArray[np.floating] | None,
    buffers: NoiseBuffers,
) -> NDArray[np.intp]:
    """Return the indices of all ids whose z may be at most `bound`."""
    inside = buffers.inside[: len(ids)]
    with np.errstate(invalid="ignore"):  # what an int32 cannot hold belongs to ids that are too light to win
        for start in range(0, len(ids), _BLOCK):
            block = slice(start, start + _BLOCK)
            if weights is None:
                limits = _limits_of_logits(t[block], bound, buffers)
            else:
                limits = _limits_of_weights(weights[block], bound, buffers)
            missing = _missing(counter, ids[block], buffers)
            np.less_equal(missing, limits, out=inside[block])
    return inside.nonzero()[0]


def _limits_of_weights(weights: NDArray[np.floating], bound: float, buffers: NoiseBuffers) -> NDArray[np.int32]:
    """Return an integer for each id that 2**25 * (1 - u), however rounded, exceeds only where z is above `bound`."""
    bounds, limits = buffers.bounds[: len(weights)], buffers.limits[: len(weights)]
    np.multiply(weights, bound * _SCALE, out=bounds, casting="same_kind")
    np.copyto(limits, bounds, casting="unsafe")
    return limits


def _limits_of_logits(t: NDArray[np.float32], bound: float, buffers: NoiseBuffers) -> NDArray[np.int32]:
    """Return such integers from t alone, up to 7% larger.

    The bit pattern of a float32, read as an integer, interpolates its logarithm by straight lines between the powers
    of two (Schraudolph 1999), so the pattern of an upper bound of exp is linear in t.
    """
    bounds, limits, patterns = buffers.bounds[: len(t)], buffers.limits[: len(t)], buffers.missing[: len(t)]
    np.multiply(t, _PER_NAT, out=bounds)
    np.add(bounds, np.float32(_UNIT + math.log2(bound * _SCALE) * 2**23), out=bounds)
    np.copyto(patterns, bounds, casting="unsafe")
    np.copyto(limits, patterns.view(np.float32), casting="unsafe")
    return limits


def _missing(counter: int, ids: NDArray[np.intp], buffers: NoiseBuffers) -> NDArray[np.int32]:
    """Return 2**25 * (1 - u) for each id of a block, rounded to one of the integers beside it.

    The hash ends by an exclusive or with itself, shifted by 31. That leaves its upper bits as they are, so it is left
    out; and minus the hash has the upper bits of 1 - u.
    """
    size, first = len(ids), int(ids[0])
    hashes, shifted, missing = buffers.hashes[:size], buffers.shifted[:size], buffers.missing[:size]
    if int(ids[-1]) - first == size - 1:  # id * g is first * g + i * g, so the products are known
        np.add(buffers.products[:size], np.uint64((counter + first * GOLDEN) & MASK), out=hashes)
    else:
        np.copyto(hashes, ids, casting="unsafe")
        np.multiply(hashes, _G, out=hashes)
        np.add(hashes, np.uint64(counter), out=hashes)
    for (shift, _), multiplier in zip(_ROUNDS, _MULTIPLIERS_TO_MINUS, strict=True):
        np.right_shift(hashes, shift, out=shifted)
        np.bitwise_xor(hashes, shifted, out=hashes)
        np.multiply(hashes, multiplier, out=hashes)
    return np.right_shift(hashes, _BELOW, out=missing, casting="unsafe")


def _smallest(key: int, position: int, ids: NDArray[np.intp], t: NDArray[np.float32]) -> tuple[int, float]:
    """Return the index of the id of the smallest z, and its z."""
    z = -np.log(noise(key, position, ids)) / np.exp(t.astype(np.float64))
    first = int(z.argmin())
    return first, float(z[first])


def _counter(key: int, position: int, ids: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the upper 52 bits of the hash."""
    h = ids.astype(np.uint64)
    h *= _G
    h += np.uint64(key_at(key, position))
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
