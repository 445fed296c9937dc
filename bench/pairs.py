"""Contestants -> seconds, taken in turn (A B C, C B A, ...), so that a machine that slows down slows all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        suite: which comparison.
        name: who was measured.
        seconds: the median of the rounds, per unit of work.
        rate: units of work per second, at the median.
        ratio: the median over the rounds of (the reference's seconds / these seconds); above 1 is faster.
    """

    suite: str
    name: str
    seconds: float
    ratio: float

    @property
    def rate(self) -> float:
        return 1 / self.seconds


def compare(
    suite: str, contestants: Mapping[str, Callable[[], float]], *, rounds: int = 7, warm_up: int = 1
) -> list[Row]:
    """Measure each contestant once a round, in turn and back; the first one is the reference of the ratios.

    A contestant is called without arguments and returns its seconds per unit of work.
    """
    for _ in range(warm_up):
        for contestant in contestants.values():
            contestant()
    orders = [list(contestants.items()), list(contestants.items())[::-1]]  # nobody is always the one who comes after
    taken = [{name: contestant() for name, contestant in orders[turn % 2]} for turn in range(rounds)]
    reference = next(iter(contestants))
    return [
        Row(
            suite,
            name,
            statistics.median(seconds[name] for seconds in taken),
            statistics.median(seconds[reference] / seconds[name] for seconds in taken),
        )
        for name in contestants
    ]
