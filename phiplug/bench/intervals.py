"""Estimates ratios of positive figures with intervals that are exact for few rounds, and blind to a few wild ones.

Both are Hodges and Lehmann's on logarithms, with the interval of the rank test that goes with each: Hollander, Wolfe,
Chicken, Nonparametric Statistical Methods, 3rd edition, sections 3.2, 3.3 (pairs), 4.2 and 4.3 (two samples).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, product

CONFIDENCE = 0.99
EXACT = 40  # rounds, up to which the distribution is counted out; beyond it is as good as normal
TAIL = (1 - CONFIDENCE) / 2
NORMAL = statistics.NormalDist().inv_cdf(TAIL)
LEAST_PAIRS = 8  # fewer have no interval of this confidence


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much larger one figure is than another, and the interval that holds that with `CONFIDENCE`.

    The interval is (0, inf) where there are too few rounds for one.
    """

    value: float
    low: float
    high: float

    @property
    def is_difference(self) -> bool:
        """Whether the interval leaves 1 out."""
        return not self.low <= 1 <= self.high

    @property
    def precision(self) -> float:
        """Half the width of the interval, as a share of the value; inf where there is none."""
        return (self.high - self.low) / 2 / self.value


def of_pairs(ratios: Sequence[float]) -> Ratio:
    """Estimate a ratio from one value a round, both sides of which were measured one soon after the other.

    If the two are alike, each logarithm is as probably positive as negative, for the order within a round is random:
    then Wilcoxon's signed-rank test is exact, whatever the noise is.
    """
    logs = [math.log(ratio) for ratio in ratios]
    averages = sorted((a + b) / 2 for a, b in combinations_with_replacement(logs, 2))
    return _estimate(averages, _left_out_of_pairs(len(logs)))


def of_samples(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Estimate the ratio of two figures that were measured apart, with the interval of the rank-sum test."""
    gaps = sorted(math.log(mine) - math.log(theirs) for mine, theirs in product(a, b))
    return _estimate(gaps, _left_out_of_samples(len(a), len(b)))


def _estimate(ordered: list[float], left_out: int | None) -> Ratio:
    """Return the median, and what remains where so many are left out at each end."""
    value = math.exp(statistics.median(ordered))
    if left_out is None:
        return Ratio(value, 0.0, math.inf)
    return Ratio(value, math.exp(ordered[left_out]), math.exp(ordered[-1 - left_out]))


@lru_cache
def _left_out_of_pairs(n: int) -> int | None:
    """Return how many Walsh averages are outside at each end, or None where that leaves more than `CONFIDENCE` says."""
    if n > EXACT:
        return _normal(n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    ways = [1]  # of getting each sum of ranks
    for rank in range(1, n + 1):
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if total >= rank else 0)
            for total in range(len(ways) + rank)
        ]
    return _left_out(ways)


@lru_cache
def _left_out_of_samples(m: int, n: int) -> int | None:
    """Return the same for the differences of two samples."""
    if max(m, n) > EXACT:
        return _normal(m * n / 2, math.sqrt(m * n * (m + n + 1) / 12))
    ways = [[1] + [0] * (m * n) for _ in range(n + 1)]  # of m values among n, by how many pairs are the wrong way round
    for _ in range(m):
        for size in range(1, n + 1):
            ways[size] = [
                ways[size - 1][total] + (ways[size][total - size] if total >= size else 0) for total in range(m * n + 1)
            ]
    return _left_out(ways[n])


def _left_out(ways: Sequence[int]) -> int | None:
    most, outside = TAIL * sum(ways), 0
    for statistic, count in enumerate(ways):
        outside += count
        if outside > most:
            return statistic - 1 if statistic else None
    return None


def _normal(mean: float, deviation: float) -> int:
    return max(0, math.floor(mean + NORMAL * deviation - 0.5))
