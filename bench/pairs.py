"""Measures phiplug in pytest-benchmark's rounds, and its peers beside each round, so that ratios are of pairs.

pytest-benchmark runs all rounds of one function before the next begins. On a machine that changes its speed from minute
to minute their medians cannot be compared. So the peers are measured within the rounds: before phiplug in every other
round, after it in those between.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping
from typing import Protocol

Contestant = Callable[[], float]
"""Does its work once and returns seconds per unit of work."""


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture."""

    extra_info: dict[str, object]

    def pedantic(self, target: Callable[..., object], **how: object) -> object: ...


def paired(benchmark: Benchmark, ours: Contestant, peers: Mapping[str, Contestant], *, rounds: int = 5) -> None:
    """Benchmark `ours`, and write its speed relative to each peer's into `extra_info["times_as_fast_as"]`.

    The figure is the median over the rounds of the peer's seconds over ours, so above 1 phiplug is faster. The seconds
    that pytest-benchmark reports are those of one whole call of `ours`, with what the call does not count itself.
    """
    for contestant in (ours, *peers.values()):
        contestant()
    own: list[float] = []
    others: dict[str, list[float]] = {name: [] for name in peers}
    befores, afters = itertools.cycle((True, False)), itertools.cycle((False, True))

    def measure_peers(due: itertools.cycle[bool]) -> None:
        if next(due):
            for name, peer in peers.items():
                others[name].append(peer())

    benchmark.pedantic(
        lambda: own.append(ours()),
        setup=lambda: measure_peers(befores),
        teardown=lambda: measure_peers(afters),
        rounds=rounds,
    )
    benchmark.extra_info["seconds"] = statistics.median(own)
    benchmark.extra_info["times_as_fast_as"] = {
        name: statistics.median(theirs / mine for theirs, mine in zip(taken, own, strict=True))
        for name, taken in others.items()
    }
