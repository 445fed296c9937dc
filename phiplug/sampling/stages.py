"""Takes adjusted logits through the stages of a dialect, in its order, to the candidates that are left.

One function per stage, each steered by the parameters and by what `phiplug.dialects.Rules` says of ties, windows and
edge cases; none knows which dialect it serves. Sums are in float64, logits in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from phiplug.dialects import Rules, Stage
from phiplug.errors import InvalidParameter
from phiplug.sampling.filters import Filtered
from phiplug.sampling.nucleus import largest, shortest_prefix
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLDEST = np.finfo(np.float32).smallest_subnormal


@dataclass(frozen=True, slots=True)
class Setting:
    """What steers the stages.

    Attributes:
        params: the numbers.
        rules: how the dialect reads them.
        coin: uniform on (0, 1), for a stage that acts now and then.
    """

    params: SamplingParams
    rules: Rules
    coin: float

    @property
    def greedy(self) -> bool:
        """Whether the temperature asks for the largest logit."""
        return self.rules.is_greedy(self.params.temperature)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The ids that are left of a row.

    Attributes:
        ids: ascending.
        x: their logits, float32, none -inf.
        width: of the row.
        mass: of all ids, in units of the largest weight, where a stage has noted it.
    """

    ids: NDArray[np.intp]
    x: NDArray[np.float32]
    width: int
    mass: float | None = None

    @property
    def t(self) -> NDArray[np.float32]:
        """The logits from the largest down, which is 0."""
        t: NDArray[np.float32] = self.x - self.x.max()
        return t

    @property
    def weights(self) -> NDArray[np.float64]:
        """exp(t), float64."""
        return np.exp(self.t.astype(np.float64))

    def only(self, inside: NDArray[np.bool_] | NDArray[np.intp]) -> Candidates:
        """Return those that a mask marks, or that ascending indices name."""
        return replace(self, ids=self.ids[inside], x=self.x[inside])


def staged_candidates(x: NDArray[np.float32], setting: Setting) -> Filtered:
    """Take a row of adjusted logits through the stages of a dialect.

    Args:
        x: float32, shape (V,), with a finite maximum.
        setting: what steers them.

    Raises:
        InvalidParameter: the dialect has no such `top_k` for a row of this width.
    """
    ids = np.flatnonzero(x > -np.inf)
    candidates = Candidates(ids, x[ids], len(x))
    for stage in setting.rules.stages:
        candidates = _STAGES[stage](candidates, setting)
    return candidates.ids, candidates.t


def _temperature(candidates: Candidates, setting: Setting) -> Candidates:
    if setting.greedy:
        return candidates.only(np.array([candidates.x.argmax()]))
    temperature = max(np.float32(setting.params.temperature), _COLDEST)  # float32 would make a 0 of less
    return replace(candidates, x=candidates.t / temperature)


def _top_k(candidates: Candidates, setting: Setting) -> Candidates:
    k, rules = setting.params.top_k, setting.rules
    if k and rules.top_k_below_width and k >= candidates.width:
        raise InvalidParameter("top_k", f"{k} is not below the {candidates.width} tokens of the vocabulary")
    if not rules.renormalizes:
        candidates = replace(candidates, mass=float(candidates.weights.sum()))
    if k == 0 or k >= len(candidates.ids):
        return candidates
    inside = largest(candidates.x, k)
    if "top_k" in rules.keeps_ties:
        return candidates.only(candidates.x >= candidates.x[inside].min())
    return candidates.only(inside)


def _top_p(candidates: Candidates, setting: Setting) -> Candidates:
    p, rules = setting.params.top_p, setting.rules
    if p >= 1.0 or (p == 0.0 and rules.zero_top_p_is_off):
        return candidates
    weights = candidates.weights
    mass = float(weights.sum()) if candidates.mass is None else candidates.mass
    inside = shortest_prefix(candidates.t, weights, p * mass)
    if "top_p" in rules.keeps_ties:
        inside = candidates.x >= candidates.x[inside].min()
    return candidates.only(inside)


def _min_p(candidates: Candidates, setting: Setting) -> Candidates:
    m = setting.params.min_p
    if m == 0.0:
        return candidates
    if setting.rules.min_p_of_logits:
        return candidates.only(candidates.x >= candidates.x.max() + np.float32(math.log(m)))
    return candidates.only(candidates.weights >= m)


def _locally_typical(candidates: Candidates, setting: Setting) -> Candidates:
    """Keep the mass whose surprise is nearest to the entropy (Meister et al. 2022, arXiv:2202.00666)."""
    p = setting.params.typical_p
    if p >= 1.0:
        return candidates
    mass = candidates.weights.sum()
    log_probabilities = candidates.t - math.log(mass)
    probabilities = candidates.weights / mass
    entropy = -float((probabilities * log_probabilities).sum())
    oddness = np.abs(-log_probabilities - entropy).astype(np.float32)
    inside = shortest_prefix(-oddness, probabilities, math.nextafter(p, 2.0) if setting.rules.typical_beyond else p)
    if "typical" in setting.rules.keeps_ties:
        inside = oddness <= oddness[inside].max()
    return candidates.only(inside)


def _xtc(candidates: Candidates, setting: Setting) -> Candidates:
    """Now and then, of the tokens above the threshold, keep only the least probable."""
    params, rules = setting.params, setting.rules
    if params.xtc_probability == 0.0 or setting.coin > params.xtc_probability:
        return candidates
    weights = candidates.weights
    probabilities = weights / weights.sum()
    above = probabilities > params.xtc_threshold if rules.xtc_beyond else probabilities >= params.xtc_threshold
    if np.count_nonzero(above) < 2:
        return candidates
    least = above & (candidates.x == candidates.x[above].min())
    if "xtc" not in rules.keeps_ties:
        least[: np.flatnonzero(least)[-1]] = False  # the last of equals, since they rank by id
    return candidates.only(~above | least)


def _top_n_sigma(candidates: Candidates, setting: Setting) -> Candidates:
    """Keep the logits within n standard deviations of the largest (Tang et al. 2024, arXiv:2411.07641)."""
    n = setting.params.top_n_sigma
    if n == 0.0:
        return candidates
    return candidates.only(candidates.x >= candidates.x.max() - n * candidates.x.std(dtype=np.float64))


_STAGES: Mapping[Stage, Callable[[Candidates, Setting], Candidates]] = {
    "temperature": _temperature,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical": _locally_typical,
    "xtc": _xtc,
    "top_n_sigma": _top_n_sigma,
}
