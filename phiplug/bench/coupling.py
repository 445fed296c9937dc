"""Says how often the one draw of docs/sampling.md picks other tokens from one engine's logits than from another's.

The expectation is exact and takes no random numbers: an id is picked on both sides when its exponential clock is the
first of all, and the clocks of the two sides run on the same noise. It knows rows of logits and nothing of engines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from phiplug.sampling import Sampler
from phiplug.sampling.noise import noise, request_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.types import SamplingParams

    Row = NDArray[np.float32]
    Shares = NDArray[np.float64]

SEED = 0  # of the draws whose margins are taken
MAX_FLOOR = 0.1  # an engine that differs from itself more often is judged as if it did not
ROUNDING = 1e-9  # a smaller distance is float64's, and none
ARITHMETIC = 0.03
"""The least floor: so often two sound engines draw differently whose activations have eight bits and 24.

llama.cpp never differs from itself where its rows do not depend on one another, and does so from float32 arithmetic on
the same file, by 0.029 over 520 positions: docs/decisions/parity.md.
"""


@dataclass(frozen=True, slots=True)
class Coupling:
    """How two engines' draws with one seed relate, over the same positions and at one setting of the sampler.

    Attributes:
        temperature: of the setting.
        top_p: of the setting.
        positions: how many were compared.
        total_variation: the mean over positions of TV = 1/2 sum |p - q|; no way of drawing could differ less often.
        disagreement: the expected share of positions at which the two draw different tokens.
        standard_error: of `disagreement`, its positions taken as independent.
        bound: the mean of 2 TV / (1 + TV), which no coupling without communication can promise to stay below:
            Daliri, Musco, Suresh 2024, arXiv 2408.07978.
        differing: the share of positions at which a draw with seed 0 did differ.
        margin_mean: the mean margin of the second's token on the first's logits; see `margin`.
        margin_p99: its 99th percentile.
    """

    temperature: float
    top_p: float
    positions: int
    total_variation: float
    disagreement: float
    standard_error: float
    bound: float
    differing: float
    margin_mean: float
    margin_p99: float

    @property
    def over_variation(self) -> float | None:
        """The disagreement over TV: 1 for the best way of drawing that there could be; None where TV is 0."""
        return self.disagreement / self.total_variation if self.total_variation else None

    @property
    def first_difference(self) -> float | None:
        """How many tokens are expected up to the first that differs; None where none is."""
        return 1 / self.disagreement if self.disagreement else None


def allowed(standard_error: float, floor: float, floor_error: float) -> float:
    """Return the largest share of differing draws at which two engines are taken to do the same work.

    That is the floor and three standard errors, or twice the floor, whichever is more. The floor is at least
    `ARITHMETIC`.

    Args:
        standard_error: of the share that is judged.
        floor: the larger of the shares at which each of the two differs from itself.
        floor_error: its standard error.
    """
    floor = min(max(floor, ARITHMETIC), MAX_FLOOR)
    return max(2 * floor, floor + 3 * math.hypot(standard_error, floor_error))


class Distance(NamedTuple):
    """Of two distributions: their total variation, and how probably one draw picks two ids."""

    total_variation: float
    disagreement: float


def distance(p: Shares, q: Shares) -> Distance:
    """Return how far two distributions are apart, both of shape (V,) and with sum 1.

    P(equal) = sum over i of 1 / sum over j of max(p_j / p_i, q_j / q_i), in O(V log V): sorted by r = p / q, the
    maximum is p_j / p_i for all j with a larger r than that of i, and q_j / q_i for all others.
    """
    both = (p > 0) & (q > 0)
    a, b = p[both], q[both]
    with np.errstate(over="ignore"):
        order = np.argsort(a / b)
    a, b = a[order], b[order]
    least = np.minimum(a, b).sum()
    before = np.cumsum(b) + q[~both].sum()
    behind = np.cumsum(a[::-1])[::-1] - a + p[~both].sum()
    with np.errstate(over="ignore"):
        equal = (1 / (before / b + behind / a)).sum()
    return Distance(_above_rounding(1 - float(least)), _above_rounding(1 - float(equal)))


def _above_rounding(value: float) -> float:
    return value if value > ROUNDING else 0.0


def margin(row: Row, temperature: float, z: Shares, own: int, other: int) -> float:
    """Return by how much a token lost the draw on a row of logits: Token-DiFR, arXiv 2511.20621.

    It is the difference of the two logits after temperature, each with its Gumbel noise -ln(-ln u), or without noise
    where the temperature is 0. A token that a filter took out counts with what it had before, and the least is 0.

    Args:
        row: shape (V,).
        temperature: 0 for none.
        z: -ln u of the two tokens.
        own: the token that the row's own draw picks.
        other: the token that is judged.
    """
    gap = float(row[own]) - float(row[other])
    if temperature:
        gap = gap / temperature - math.log(z[0]) + math.log(z[1])
    return max(0.0, gap)


@dataclass(slots=True)
class DrawTally:
    """Adds up the positions of texts at one setting."""

    params: SamplingParams
    distances: list[Distance] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    differing: int = 0

    def add(self, a: NDArray[np.float32], b: NDArray[np.float32], history: Sequence[int]) -> None:
        """Compare rows of two engines for consecutive positions, both (n, V); the first follows `history`.

        What is drawn goes into no history, so the setting must have no penalties.
        """
        params = replace(self.params, seed=SEED)
        samplers = [Sampler(params, history[:1], history[1:]) for _ in range(2)]
        key = request_key(SEED, history[:1])
        for position, (mine, theirs) in enumerate(zip(a, b, strict=True), len(history)):
            p, q = (_shares(sampler, row) for sampler, row in zip(samplers, (mine, theirs), strict=True))
            self.distances.append(distance(p, q))
            own, other = samplers[0](mine), samplers[1](theirs)
            self.differing += own != other
            z = -np.log(noise(key, position, np.array([own, other])))
            self.margins.append(margin(mine, params.temperature, z, own, other) if own != other else 0.0)

    def coupling(self) -> Coupling:
        """Return what the positions say together; there is at least one."""
        variations, disagreements = np.array(self.distances).T
        count = len(disagreements)
        return Coupling(
            temperature=self.params.temperature,
            top_p=self.params.top_p,
            positions=count,
            total_variation=float(variations.mean()),
            disagreement=float(disagreements.mean()),
            standard_error=float(disagreements.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf,
            bound=float((2 * variations / (1 + variations)).mean()),
            differing=self.differing / count,
            margin_mean=float(np.mean(self.margins)),
            margin_p99=float(np.percentile(self.margins, 99)),
        )


def _shares(sampler: Sampler, row: Row) -> Shares:
    """Return how probable each id of a row is, shape (V,)."""
    ids, shares = sampler.probabilities(row)
    found = np.zeros(len(row))
    found[ids] = shares
    return found
