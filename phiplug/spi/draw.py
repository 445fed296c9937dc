"""The draw of docs/sampling.md in array operations, for a device that guesses what the host will draw.

It is the rule of phiplug's own dialect (steps 2 to 9) in float32 and uint64, in operations that NumPy and MLX share, so
that a device's array module can carry it out. What it draws is a guess: the host, which computes in float64, decides.
The two differ only where two candidates, or the edge of the nucleus, are closer than float32 can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from phiplug.spi.splitmix import GOLDEN, LAST_SHIFT, ROUNDS, UPPER, key_at

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from phiplug.types import SamplingParams

    Array: TypeAlias = Any  # Any: of the module that is given
    Module: TypeAlias = Any  # Any: numpy, mlx.core, or one whose functions are named alike

_GREEDY = 1e-6  # temperatures below it take the largest logit
_RARE = 1e-6  # how seldom a nucleus may be left unsettled
_MOST_ROUNDS = 24
_PART = 256  # numbers that are added at a time
_NO_MASS = 1e-30  # stands for 0: what has so little cannot win
_NEVER = 1e38  # a z that cannot win


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """How one token is drawn from a row of logits: call it with a module of arrays and the row.

    Attributes:
        params: the numbers; the dialect is phiplug's own, and what it lacks (typical_p, XTC, DRY, ...) is off.
        key: of the request, in [0, 2**64).
        position: the index of the new token in the whole sequence.
        repeated: the distinct ids that `repeat_penalty` applies to, intp.
        counted: the distinct ids that were sampled before, intp, where a penalty counts them.
        counts: how often each of those was, float32.
        forbidden: bool, (V,), the ids that a constraint does not allow; None allows all.
    """

    params: SamplingParams
    key: int
    position: int
    repeated: NDArray[np.intp]
    counted: NDArray[np.intp]
    counts: NDArray[np.float32]
    forbidden: NDArray[np.bool_] | None = None

    def __call__(self, xp: Module, row: Array) -> Array:
        """Return the id of the token, an integer array without dimensions.

        Args:
            xp: the module that the row belongs to: `numpy`, `mlx.core`.
            row: (V,), of any floating type; it is not changed.
        """
        params, x = self.params, self._adjusted(xp, row)
        if params.temperature < _GREEDY or params.top_p == 0.0:
            return xp.argmax(x)
        top_k = params.top_k if 0 < params.top_k < len(x) else 0
        rounds = _rounds(params.top_p) if params.top_p < 1.0 else 0
        numbers = (params.temperature, params.top_p, params.min_p)
        counter = _word(xp, key_at(self.key, self.position))
        return _picker(xp, len(x), top_k, rounds)(x, counter, xp.array(numbers, dtype=xp.float32))

    def _adjusted(self, xp: Module, row: Array) -> Array:
        """Carry out a constraint and steps 2 to 4 on a copy, in float32."""
        params, x = self.params, row.astype(xp.float32)
        if self.forbidden is not None:
            x = xp.where(xp.array(self.forbidden), -xp.inf, x).astype(xp.float32)
        if params.logit_bias:
            ids = xp.array(list(params.logit_bias))
            x[ids] = x[ids] + xp.array(list(params.logit_bias.values()), dtype=xp.float32)
        if len(self.repeated):
            ids = xp.array(self.repeated)
            seen = x[ids]
            x[ids] = xp.where(seen > 0, seen / params.repeat_penalty, seen * params.repeat_penalty)
        if len(self.counted):
            ids = xp.array(self.counted)
            x[ids] = x[ids] - (xp.array(self.counts) * params.frequency_penalty + params.presence_penalty)
        return x


@lru_cache(maxsize=32)
def _picker(xp: Module, width: int, top_k: int, rounds: int) -> Callable[[Array, Array, Array], Array]:
    """Return a function that carries out steps 5 to 9 on (logits, counter, temperature and top_p and min_p).

    What changes from draw to draw is an array, so that MLX can compile the function once: it then makes few kernels of
    many operations.
    """
    products, ids = _products(xp, width), _ids(xp, width)

    def pick(x: Array, counter: Array, numbers: Array) -> Array:
        temperature, top_p, min_p = numbers[0], numbers[1], numbers[2]
        t = (x - xp.max(x)) / temperature
        weights = xp.exp(t)
        mass = xp.where(_largest(xp, t, top_k), weights, xp.zeros_like(weights)) if top_k else weights
        z = _minus_log_noise(xp, products + counter) / xp.maximum(mass, _NO_MASS)
        z = xp.where(weights >= min_p, z, _NEVER)
        winner, limit = xp.argmin(z), _total(xp, mass) * top_p
        for _ in range(rounds):  # step 7 without a sort: all of the nucleus is ahead of a winner that is outside of it
            ahead = (t > t[winner]) | ((t == t[winner]) & (ids < winner))
            is_inside = _total(xp, xp.where(ahead, mass, xp.zeros_like(mass))) < limit
            z = xp.where(ahead, z, _NEVER)
            winner = xp.where(is_inside, winner, xp.argmin(z))
        return winner

    return xp.compile(pick) if hasattr(xp, "compile") else pick


def _total(xp: Module, x: Array) -> Array:
    """Return the sum, by parts: MLX's CPU adds one number after another, and lost a ten-thousandth of 128k of them."""
    whole = len(x) // _PART * _PART
    if whole == 0:
        return xp.sum(x)
    total = xp.sum(xp.sum(x[:whole].reshape(-1, _PART), axis=1))
    return total if whole == len(x) else total + xp.sum(x[whole:])


@lru_cache
def _rounds(p: float) -> int:
    """Return how many winners have to be checked, so that the last one is in the nucleus but for one draw in a million.

    The mass of those ahead of a winner tells whether it is in the nucleus; if not, the next one is drawn from them.
    Half of what lies outside goes each time, on average.
    """
    outside, unsettled = 1.0 - p, 1.0
    for rounds in range(_MOST_ROUNDS):
        if unsettled < _RARE:
            return rounds
        unsettled *= outside / (p + outside)
        outside /= 2
    return _MOST_ROUNDS


def _largest(xp: Module, t: Array, k: int) -> Array:
    """Carry out step 6: mark the k largest, the lowest ids of those that tie."""
    edge = -xp.partition(-t, k - 1)[k - 1]
    above, tied = t > edge, t == edge
    return above | (tied & (xp.cumsum(tied.astype(xp.int32)) <= k - xp.sum(above)))


def _minus_log_noise(xp: Module, h: Array) -> Array:
    """Return -ln(u) for each id, float32; by 1 - u where that is the smaller, which float32 holds more exactly.

    Args:
        xp: the module.
        h: uint64, id * g + k for each id.
    """
    for shift, multiplier in ROUNDS:
        h = (h ^ (h >> shift)) * _word(xp, multiplier)
    h = (h ^ (h >> LAST_SHIFT)) >> UPPER
    u = (h.astype(xp.float32) + 0.5) * 2.0**-52
    rest = ((_word(xp, 2**52 - 1) - h).astype(xp.float32) + 0.5) * 2.0**-52
    return xp.where(rest < 0.5, -xp.log1p(-xp.minimum(rest, 0.5)), -xp.log(u))


@lru_cache(maxsize=64)
def _word(xp: Module, value: int) -> Array:
    """Return a uint64; a Python integer of 64 bits is too long for MLX."""
    import numpy as np

    return xp.array(np.uint64(value))


@lru_cache(maxsize=8)
def _products(xp: Module, width: int) -> Array:
    """Return id * g for each id, modulo 2**64."""
    import numpy as np

    return xp.array(np.arange(width, dtype=np.uint64) * np.uint64(GOLDEN))


@lru_cache(maxsize=8)
def _ids(xp: Module, width: int) -> Array:
    import numpy as np

    return xp.array(np.arange(width, dtype=np.uint32))
