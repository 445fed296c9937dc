"""Compares runs: who is how much faster, how sure that is, and whether anything became slower.

A ratio within a run is estimated from those of its rounds, and of two runs from all pairs of theirs: see `intervals`.
A regression is judged between two runs of one hardware id, one model, one workload and as many threads alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from phiplug.bench.fairness import Entry, reasons
from phiplug.bench.figures import figure
from phiplug.bench.intervals import Ratio, of_pairs, of_samples
from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    from phiplug.bench.types import Row, Run

Group = tuple[int, str, str]
MADS = 3  # how many median absolute deviations of the old rounds a new median may be slower


@dataclass(frozen=True, slots=True)
class Line:
    """An entry among others.

    Attributes:
        entry: what it is about.
        rank: 1 for the fastest in decoding of those that may be ranked; None for the others and for bare engines.
        reasons: why it may not be ranked; empty where it may.
        prefill: its prefill rate over the reference's, or None where either has none.
        decode: the same for decoding.
        group: slots, lengths and cell: among those that have the same, rows are ranked.
    """

    entry: Entry
    rank: int | None
    reasons: tuple[str, ...]
    prefill: Ratio | None
    decode: Ratio | None
    group: Group = (1, "", "")


def lines(runs: Sequence[Run]) -> list[Line]:
    """Set every row of the runs beside the first usable one of its group, in the order that they have."""
    cells = any(run.grid for run in runs)
    entries = [Entry(run, row) for run in runs for row in run.rows]
    groups: dict[Group, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_group(entry, cells=cells), []).append(entry)
    found = [_line(entry, _group(entry, cells=cells), groups) for entry in entries]
    return [replace(line, rank=_rank(line, found)) for line in found]


def _group(entry: Entry, *, cells: bool) -> Group:
    return entry.row.contender.slots, entry.run.workload.lengths, entry.run.cell if cells else ""


def overhead(run: Run) -> dict[str, Ratio]:
    """Return, for each backend that was measured bare as well, phiplug's decode rate over the bare engine's."""
    bare = {row.contender.backend: row for row in run.rows if row.contender.mode == "engine"}
    found = {}
    for row in run.rows:
        beside = bare.get(row.contender.backend)
        if beside and row.contender.mode == "phiplug" and row.contender.slots == 1:
            share = rate_over(Entry(run, row), Entry(run, beside))
            if share:
                found[row.contender.backend] = share
    return found


def regressions(old: Run, new: Run, *, over: float) -> list[str]:
    """Say what became slower: a median beyond the old one by more than both `over`, a share, and 3 MAD.

    Raises:
        InvalidParameter: the runs are not of one machine, one model and one workload.
    """
    _require_comparable(old, new)
    before = {row.contender: row for row in old.rows if row.samples}
    said = []
    for row in new.rows:
        if row.contender not in before:
            continue
        if row.error:
            said.append(f"{row.contender.name}: {row.error}")
        for name in ("prefill_tps", "decode_tps"):
            said += _slower(name, before[row.contender], row, old, over)
    missing = before.keys() - {row.contender for row in new.rows if row.samples or row.error}
    return said + [f"{contender.name}: is missing" for contender in before if contender in missing]


def _slower(name: str, before: Row, after: Row, run: Run, over: float) -> list[str]:
    """Judge in seconds, of which more is slower."""
    old, new = figure(name, before, run.workload), figure(name, after, run.workload)
    if old is None or new is None:
        return []
    seconds = [1 / value for value in old.values]
    median, now = statistics.median(seconds), statistics.median(1 / value for value in new.values)
    mad = statistics.median(abs(value - median) for value in seconds)
    allowed = max(over * median, MADS * mad)
    if now <= median + allowed:
        return []
    what = name.removesuffix("_tps")
    return [
        f"{after.contender.name}: {what} takes {now / median - 1:.1%} longer, and {allowed / median:.1%} is allowed"
    ]


def _require_comparable(old: Run, new: Run) -> None:
    checks = {
        "hardware": (old.hardware.id, new.hardware.id),
        "prompt": (old.workload.sha256[:12], new.workload.sha256[:12]),
        "lengths": (old.workload.lengths, new.workload.lengths),
    }
    before = {row.contender: row for row in old.rows}
    for row in new.rows:
        was = before.get(row.contender)
        if was:
            files = old.model_of(was).sha256[:12], new.model_of(row).sha256[:12]
            checks[f"model of {row.contender.name}"] = files
        if was and was.loaded and row.loaded:
            checks[f"threads of {row.contender.name}"] = (str(was.loaded.threads), str(row.loaded.threads))
    for what, (mine, theirs) in checks.items():
        if mine != theirs:
            raise InvalidParameter(
                "fail_over",
                f"the runs have different {what}, {mine} and {theirs}: a regression is judged on equal ones alone",
            )


def _reference(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """The first entry of a group that went through phiplug, else the entry itself."""
    through = (other for other in entries if other.row.contender.mode == "phiplug" and other.row.samples)
    return next(through, entry)


def _line(entry: Entry, group: Group, groups: Mapping[Group, Sequence[Entry]]) -> Line:
    reference = _reference(entry, groups[group])
    return Line(
        entry,
        None,
        tuple(reasons(entry, reference)),
        rate_over(entry, reference, "prefill_tps"),
        rate_over(entry, reference),
        group,
    )


def rate_over(entry: Entry, reference: Entry, name: str = "decode_tps") -> Ratio | None:
    """Return the rate of one entry over that of another, or None where either has none."""
    mine = figure(name, entry.row, entry.run.workload)
    theirs = figure(name, reference.row, reference.run.workload)
    if not (mine and theirs):
        return None
    if entry.row is reference.row:
        return Ratio(1.0, 1.0, 1.0)
    if entry.run is reference.run:
        return of_pairs(mine.over(theirs).values)
    return of_samples(mine.values, theirs.values)


def _rank(line: Line, all_lines: Sequence[Line]) -> int | None:
    if not _ranked(line):
        return None
    rivals = [other for other in all_lines if _ranked(other) and other.group == line.group]
    return 1 + sum(_speed(other) > _speed(line) for other in rivals)


def _ranked(line: Line) -> bool:
    return not line.reasons and line.decode is not None and line.entry.row.contender.mode == "phiplug"


def _speed(line: Line) -> float:
    """Return the median that the table shows, so that ranks and rates agree whatever the rounds did."""
    found = figure("decode_tps", line.entry.row, line.entry.run.workload)
    return found.median if found else 0.0
