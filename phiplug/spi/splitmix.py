"""SplitMix64's finalizer on single integers, and the numbers that it is made of (Steele, Lea and Flood 2014)."""

from __future__ import annotations

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 / golden ratio, the increment of SplitMix64."""

ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""Stafford's variant 13, as SplitMix64 uses it: shifts, each with the multiplier that follows it."""

LAST_SHIFT = 31
UPPER = 12
"""The hash without so many of its lowest bits is the noise: 52 bits, which float64 holds."""

MASK = 2**64 - 1


def mix(z: int) -> int:
    """Mix an integer, modulo 2**64."""
    z &= MASK
    for shift, multiplier in ROUNDS:
        z = ((z ^ (z >> shift)) * multiplier) & MASK
    return z ^ (z >> LAST_SHIFT)


def key_at(key: int, position: int) -> int:
    """Return k of docs/sampling.md: what a position's draw adds to each id's product.

    Args:
        key: of the request, in [0, 2**64).
        position: the index of the new token in the whole sequence.
    """
    return mix(key + position * GOLDEN)
