"""Says how far two engines' rows of logits over the same positions agree; it knows rows, and nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from phiplug.bench.coupling import Coupling, DrawTally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.types import SamplingParams


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two sets of logits over the same positions agree.

    Attributes:
        positions: how many were compared.
        top1: the share of positions with the same largest logit.
        kl_mean: mean Kullback-Leibler divergence of the second from the first, in nats.
        kl_p99: its 99th percentile.
        max_difference: the largest difference between two logits of a token, each row's mean taken away.
        draws: how draws with one seed relate, at each setting.
    """

    positions: int
    top1: float
    kl_mean: float
    kl_p99: float
    max_difference: float
    draws: tuple[Coupling, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that a model holds likely at a position, and its probability at temperature 1."""

    token: int
    share: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A position at which two models' likeliest tokens differ.

    Attributes:
        before: the ids up to there.
        tops: each model's likeliest tokens, the first one first.
    """

    before: tuple[int, ...]
    tops: tuple[tuple[Candidate, ...], tuple[Candidate, ...]]


@dataclass(slots=True)
class Tally:
    """Adds up rows of two engines, so that no more than a chunk of logits is ever held."""

    settings: Sequence[SamplingParams]
    positions: int = 0
    equal_tops: int = 0
    max_difference: float = 0.0
    divergences: list[float] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    draws: list[DrawTally] = field(init=False)

    def __post_init__(self) -> None:
        self.draws = [DrawTally(params) for params in self.settings]

    def add(self, a: NDArray[np.float32], b: NDArray[np.float32], ids: Sequence[int], start: int) -> None:
        """Compare the rows after ids[start] and so on; ids beyond the narrower vocabulary are left out."""
        width = min(a.shape[1], b.shape[1])
        a, b = a[:, :width], b[:, :width]
        tops = a.argmax(axis=1) == b.argmax(axis=1)
        self.positions += len(a)
        self.equal_tops += int(tops.sum())
        for row in np.flatnonzero(~tops).tolist():
            self.differences.append(Difference(tuple(ids[: start + row + 1]), (_tops(a[row]), _tops(b[row]))))
        x, y = a.astype(np.float64), b.astype(np.float64)
        centred = (x - x.mean(axis=1, keepdims=True)) - (y - y.mean(axis=1, keepdims=True))
        self.max_difference = max(self.max_difference, float(np.abs(centred).max()))
        self.divergences.extend(_divergences(x, y))
        for tally in self.draws:
            tally.add(a, b, ids[: start + 1])

    def agreement(self) -> Agreement:
        """Return what the positions say together; there is at least one."""
        return Agreement(
            positions=self.positions,
            top1=self.equal_tops / self.positions,
            kl_mean=float(np.mean(self.divergences)),
            kl_p99=float(np.percentile(self.divergences, 99)),
            max_difference=self.max_difference,
            draws=tuple(tally.coupling() for tally in self.draws),
        )


def _tops(row: NDArray[np.float32]) -> tuple[Candidate, ...]:
    """Return the five likeliest tokens of a row, or as many as there are."""
    shares = np.exp(row.astype(np.float64) - float(row.max()))
    ids = np.argsort(-row, kind="stable")[:5]
    return tuple(Candidate(int(token), float(shares[token] / shares.sum())) for token in ids)


def _divergences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return KL(a || b) of each row, in nats."""
    log_a, log_b = _log_softmax(a), _log_softmax(b)
    differences: NDArray[np.float64] = (np.exp(log_a) * (log_a - log_b)).sum(axis=1)
    return differences


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
