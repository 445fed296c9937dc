"""Computes from samples the figures that people compare, with median, quartiles and one value a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phiplug.bench.types import Row, Run, Sample, Workload


LARGE = 1000  # tokens per second, of which nobody reads tenths


@dataclass(frozen=True, slots=True)
class Summary:
    """What the rounds say together; quartiles by linear interpolation between the sorted values.

    Attributes:
        values: one for each round, in order.
    """

    values: tuple[float, ...]
    median: float
    q1: float
    q3: float

    @property
    def spread(self) -> float:
        """The interquartile range, as a share of the median."""
        return (self.q3 - self.q1) / self.median if self.median else 0.0

    def spelt(self, digits: str = "{:.1f}") -> str:
        """Return the median [quartiles], large numbers without decimals."""
        form = "{:.0f}" if self.median >= LARGE else digits
        return f"{form.format(self.median)} [{form.format(self.q1)}, {form.format(self.q3)}]"

    def over(self, other: Summary) -> Summary:
        """Return the ratio in each round that both have."""
        return _summary([mine / theirs for mine, theirs in zip(self.values, other.values, strict=False)])


def summary(values: Sequence[float]) -> Summary | None:
    """Summarize one value a round, or None without any."""
    return _summary(values) if values else None


def _summary(values: Sequence[float]) -> Summary:
    return Summary(tuple(values), statistics.median(values), quantile(values, 0.25), quantile(values, 0.75))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of `values` lie, interpolated linearly; `values` has at least one."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


Figure = Callable[["Sample", "Workload", int], float | None]


def prefill_tps(sample: Sample, work: Workload, slots: int) -> float | None:
    """Prompt tokens of all sequences, per second until the last one's first logits."""
    return slots * work.prompt_tokens / sample.prefill_s


def decode_tps(sample: Sample, work: Workload, slots: int) -> float | None:
    """(tokens - 1) / (last - first) of a sequence, times the sequences that decode together."""
    if work.gen_tokens < 2 or not sample.decode_s:
        return None
    return slots * (work.gen_tokens - 1) / sample.decode_s


def gaps(sample: Sample) -> list[float]:
    """Return the seconds between one token's arrival and the next, of every sequence."""
    return [after - before for times in sample.arrivals_s for before, after in pairwise(times)]


def _gap(share: float) -> Figure:
    return lambda sample, _work, _slots: quantile(between, share) if (between := gaps(sample)) else None


def _energy(sample: Sample, work: Workload, slots: int) -> float | None:
    return None if sample.energy_j is None else sample.energy_j / (slots * work.gen_tokens)


FIGURES: Mapping[str, Figure] = {
    "prefill_tps": prefill_tps,
    "decode_tps": decode_tps,
    "ttft_s": lambda sample, _work, _slots: sample.ttft_s,
    "itl_p50_s": _gap(0.50),
    "itl_p95_s": _gap(0.95),
    "itl_p99_s": _gap(0.99),
    "wall_s": lambda sample, _work, _slots: sample.wall_s,
    "energy_j_per_token": _energy,
}


def figure(name: str, row: Row, work: Workload) -> Summary | None:
    """Return a figure of a row over its rounds, or None where no round has it."""
    found = (FIGURES[name](sample, work, row.contender.slots) for sample in row.samples)
    return summary([value for value in found if value is not None])


def bandwidth_limit(run: Run, row: Row) -> float | None:
    """Return the tokens per second of one sequence at which its weights would be read as fast as memory is copied.

    Weights per token over the copy bandwidth of the host; None for a device with memory of its own, where the host's
    says nothing. The roofline of a memory-bound loop: Williams, Waterman, Patterson, CACM 52(4), 2009.
    """
    per_token = run.model_of(row).bytes_per_token
    if row.loaded is None or row.loaded.device not in ("cpu", "metal", "mtl") or not per_token:
        return None
    return run.hardware.copy_bytes_per_s / per_token
