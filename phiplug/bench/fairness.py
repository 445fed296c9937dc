"""Says why two rows may not be ranked beside one another, and what disturbed a run.

A row that may not be ranked is still shown: the reasons go with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.bench.figures import figure

if TYPE_CHECKING:
    from phiplug.bench.types import Row, Run

MIN_TOP1 = 0.95  # as `phiplug parity` has it
MAX_KL = 0.02  # nats, likewise
BITS = 0.01  # formats whose bits per weight differ by a larger share are not the same weights
SPREAD = 0.05  # the interquartile range of decoding, as a share of its median, above which a machine is called noisy
OTHERS = 0.1  # cores


@dataclass(frozen=True, slots=True)
class Entry:
    """A row and the run that it belongs to."""

    run: Run
    row: Row


def reasons(entry: Entry, reference: Entry) -> list[str]:
    """Say why an entry cannot be ranked beside the reference; nothing where it can."""
    if entry.row.error:
        return [entry.row.error]
    if not entry.row.samples:
        return ["no round was finished"]
    found = [*_work(entry, reference), *_weights(entry.run, reference.run)]
    return found or _parity(entry, reference)


def _work(entry: Entry, reference: Entry) -> Iterator[str]:
    if (
        entry.row.loaded
        and reference.row.loaded
        and entry.row.loaded.prompt_sha256 != reference.row.loaded.prompt_sha256
    ):
        yield f"other prompt ids: {entry.row.loaded.prompt_sha256[:12]}, not {reference.row.loaded.prompt_sha256[:12]}"
    mine, theirs = entry.run.workload.gen_tokens, reference.run.workload.gen_tokens
    if mine != theirs:
        yield f"{mine} generated tokens, not {theirs}"


def _weights(run: Run, reference: Run) -> Iterator[str]:
    mine, theirs = run.model, reference.model
    if mine.format == theirs.format:
        if mine.sha256 != theirs.sha256:
            yield f"another model file: SHA-256 {mine.sha256[:12]}, not {theirs.sha256[:12]}"
        return
    if mine.bits_per_weight is None or theirs.bits_per_weight is None:
        yield f"another format, {mine.format}, whose bits per weight are not known"
    elif abs(mine.bits_per_weight / theirs.bits_per_weight - 1) > BITS:
        yield f"{mine.bits_per_weight:.2f} bits per weight, not {theirs.bits_per_weight:.2f}"


def _parity(entry: Entry, reference: Entry) -> list[str]:
    """Judge by what was measured between the two, or by their likeliest tokens on the same forced positions."""
    names = {entry.row.contender.backend, reference.row.contender.backend}
    if len(names) == 1 and entry.run.model.sha256 == reference.run.model.sha256:
        return []
    checks = [check for check in entry.run.parity if set(check.names) == names and entry.run is reference.run]
    if checks:
        check = checks[0]
        if check.error:
            return [f"parity could not be checked: {check.error}"]
        if check.top1 < least_top1(check.positions) or not check.kl_mean <= MAX_KL:
            return [f"parity: top-1 {check.top1:.3f}, mean KL {check.kl_mean:.4f} over {check.positions} positions"]
        return []
    share = _equal_picks(entry.row, reference.row)
    if share is None:
        return ["parity was not checked"]
    return (
        []
        if share >= least_top1(len(entry.row.loaded.picks if entry.row.loaded else ()))
        else [f"parity: top-1 {share:.3f} on the same forced positions"]
    )


def least_top1(positions: int) -> float:
    """Return the share of equal likeliest tokens below which two backends disagree, measured over so many positions.

    That is `MIN_TOP1` less two standard errors of a share of that size: over 128 positions two engines that agree at
    0.96 in the long run are often seen at 0.93.
    """
    return MIN_TOP1 - 2 * math.sqrt(MIN_TOP1 * (1 - MIN_TOP1) / max(positions, 1))


def _equal_picks(a: Row, b: Row) -> float | None:
    if not (a.loaded and b.loaded and a.loaded.picks) or len(a.loaded.picks) != len(b.loaded.picks):
        return None
    pairs = zip(a.loaded.picks, b.loaded.picks, strict=True)
    return sum(mine == theirs for mine, theirs in pairs) / len(a.loaded.picks)


def notes(run: Run) -> list[str]:
    """Say what may have disturbed a run."""
    found = []
    if not run.complete:
        done = sum(len(row.samples) for row in run.rows)
        found.append(f"interrupted: {done} of {run.rounds * len(run.rows)} rounds are done")
    for row in run.rows:
        found += _unsteady(row, run)
    if (run.others_cpu or 0.0) > OTHERS:
        cores = f"{run.others_cpu:.1f} of {run.hardware.logical_cores} cores"
        found.append(f"others, processes or guests of one host, kept {cores} busy")
    if run.throttled:
        found.append(f"heat slowed the processor down {run.throttled} times")
    return found


def _unsteady(row: Row, run: Run) -> Iterator[str]:
    found = figure("decode_tps", row, run.workload)
    if found and found.spread > SPREAD:
        yield f"{row.contender.name}: half of the rounds spread over {found.spread:.0%} of the median of decoding"
    if len({sample.output for sample in row.samples}) > 1:
        yield f"{row.contender.name}: the rounds did not give the same tokens"
