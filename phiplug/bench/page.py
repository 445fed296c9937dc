"""Makes one self-contained HTML page of runs: tables, charts, hardware, and what a reader must know to be fair."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from phiplug.bench import charts, tables
from phiplug.bench.charts import COLOURS, Bar, Curve
from phiplug.bench.compare import lines, rate_over
from phiplug.bench.fairness import notes
from phiplug.bench.figures import bandwidth_limit, figure, gaps, quantile
from phiplug.bench.html import rendered
from phiplug.bench.imported import PROGRAM
from phiplug.bench.machines import run_name

if TYPE_CHECKING:
    from phiplug.bench.compare import Group, Line
    from phiplug.bench.imported import Imported, Record
    from phiplug.bench.types import Row, Run

MEDIANS = "Bars are medians, whiskers the range of all rounds."
LIMIT = (
    " The dashed line is the memory's: at that rate the weights would be read as fast as this machine copies memory. "
    "A model that fits a cache can pass it."
)
CURVES = 8  # more in one picture nobody tells apart
QUANTILES = 101  # points of a distribution's curve


def page(runs: Sequence[Run], beside: Sequence[Imported] = ()) -> str:
    """Return the page as HTML with its style sheet and pictures inside; nothing is fetched when it is opened."""
    found = lines(runs)
    ranks = [line.rank for line in found]
    return rendered(
        "report.html",
        {
            "runs": runs,
            "machines": list({repr(run.hardware): run.hardware for run in runs}.values()),
            "works": works(runs),
            "headline": headline(found),
            "left": tables.LEFT,
            "headings": tables.headings(runs, beside),
            "rows": [(rank, cells) for rank, cells in zip_longest(ranks, tables.cells(runs, beside))],
            "remarks": tables.remarks(runs, beside),
            "about": [(run, row) for run in runs for row in _one_a_backend(run)],
            "said": tables.about,
            "named": run_name,
            "pictures": [
                (name, Markup(svg), note)  # noqa: S704  escaped as they are drawn
                for name, svg, note in _pictures(runs, beside)
            ],
        },
    )


def works(runs: Sequence[Run]) -> str:
    """Say what was measured: of one work in words, of several in their short spelling."""
    first, *others = list({run.workload.lengths: run.workload for run in runs}.values())
    if others:
        return f"Prompt + generated tokens: {', '.join(each.lengths for each in (first, *others))}"
    name = f"Workload {first.name}: " if first.name else ""
    before = f" after {first.depth} others" if first.depth else ""
    return f"{name}{first.prompt_tokens} prompt tokens{before}, then {first.gen_tokens} generated ones"


def headline(found: Sequence[Line]) -> str:
    """Say in one sentence what the page shows: the fastest of what may be ranked, and by how much."""
    ranked = sorted((line for line in found if line.rank and line.decode), key=lambda line: line.rank or 0)
    groups: dict[Group, list[Line]] = {}
    for line in ranked:
        if line.entry.row.contender.slots == 1:
            groups.setdefault(line.group, []).append(line)
    beside = next((group for group in groups.values() if len(group) > 1), None)
    if beside is None:
        refused = any(line.reasons for line in found)
        return "Nothing here may be ranked beside anything else; the notes say why." if refused else ""
    first, second = beside[:2]
    mine, theirs, where = _named(first, found), _named(second, found), _circumstances(first, second)
    ratio = rate_over(first.entry, second.entry)
    if ratio is None or math.isinf(ratio.high):
        return f"There are too few rounds to say whether {mine} or {theirs} decodes faster{where}."
    if not ratio.is_difference:
        return f"No difference was found between {mine} and {theirs}{where}."
    return f"{mine} decodes {ratio.value:.3g} times as fast as {theirs}{where}."


def _circumstances(first: Line, second: Line) -> str:
    """Say on what that was measured, and whether it was disturbed."""
    runs = {id(line.entry.run): line.entry.run for line in (first, second)}.values()
    rows = [line.entry.row for line in (first, second)]
    devices = dict.fromkeys(row.loaded.device for row in rows if row.loaded)
    machines = " and ".join(dict.fromkeys(run.hardware.cpu for run in runs))
    noise = ", on a noisy machine" if any(notes(run) for run in runs) else ""
    return f" on {machines} ({', '.join(devices)}){noise}"


def _pictures(runs: Sequence[Run], beside: Sequence[Imported]) -> list[tuple[str, str, str]]:
    """Return (title, SVG, note) of each chart that there is data for."""
    found = []
    if bars := _bars(runs, "decode_tps", limits=True) + _imported_bars(beside, "decode"):
        note = MEDIANS + (LIMIT if any(bar.limit for bar in bars) else "")
        found.append(("Decoding", charts.bars("Decoding, tokens per second", bars, "tokens/s"), note))
    if bars := _bars(runs, "prefill_tps", limits=False) + _imported_bars(beside, "prefill"):
        svg = charts.bars("Prefill, tokens per second", bars, "tokens/s")
        found.append(("Prefill", svg, "Prompt tokens over the time to the first logits."))
    over_slots = _over_slots(runs)
    if over_slots:
        svg = charts.lines("Throughput over slots", over_slots, x_name="sequences at once", y_name="tokens/s, together")
        found.append(("Throughput against slots", svg, "Decoding, all sequences together; medians."))
    waits = _waits(runs)
    if waits and len(waits) <= CURVES:
        svg = charts.distributions("Time between tokens", waits, x_name="milliseconds between one token and the next")
        note = "How many of the tokens came within so many milliseconds of the one before, over all rounds."
        found.append(("Time between tokens", svg, note))
    return found


def _bars(runs: Sequence[Run], name: str, *, limits: bool) -> list[Bar]:
    found = []
    refused = {id(line.entry.row) for line in lines(runs) if line.reasons}
    for run, row in _single(runs):
        summary = figure(name, row, run.workload)
        if summary is None:
            continue
        star = " *" if id(row) in refused else ""
        limit = bandwidth_limit(run, row) if limits else None
        share = f" · {summary.median / limit:.0%} of limit" if limit else ""
        found.append(
            Bar(
                label=(row.contender.name + star, _where(run, row, runs)),
                value=summary.median,
                low=min(summary.values),
                high=max(summary.values),
                shown=f"{summary.median:,.{1 if summary.median < 1000 else 0}f}{share}",
                limit=limit,
                colour=_colour(row, runs),
                faint=row.contender.mode == "engine",
            )
        )
    return found


def _imported_bars(beside: Sequence[Imported], which: Literal["prefill", "decode"]) -> list[Bar]:
    found = []
    for row in beside:
        test: Record | None = getattr(row, which)
        if test is None or (test.n_prompt and test.n_gen):
            continue
        rates, name = test.samples_ts, f"{PROGRAM}, {test.name} *"
        shown = f"{statistics.median(rates):,.1f}"
        found.append(
            Bar(
                label=(name, row.machine),
                value=statistics.median(rates),
                low=min(rates),
                high=max(rates),
                shown=shown,
                colour=COLOURS - 1,
                faint=True,
            )
        )
    return found


def _over_slots(runs: Sequence[Run]) -> list[Curve]:
    curves = []
    for index, run in enumerate(runs):
        for backend in dict.fromkeys(row.contender.backend for row in run.rows):
            rows = [row for row in run.rows if row.contender.backend == backend and row.contender.mode == "phiplug"]
            points = [(row.contender.slots, figure("decode_tps", row, run.workload)) for row in rows]
            known = tuple((float(slots), summary.median) for slots, summary in points if summary)
            if len(known) > 1:
                label = ", ".join(filter(None, (backend, run_name(run, runs))))
                curves.append(Curve(label, known, _colour(rows[0], runs), index % 3))
    return curves


def _waits(runs: Sequence[Run]) -> list[Curve]:
    curves = []
    for run, row in _single(runs):
        waits = [1e3 * gap for sample in row.samples for gap in gaps(sample)]
        if waits and row.contender.mode == "phiplug":
            shares = [index / (QUANTILES - 1) for index in range(QUANTILES)]
            label = ", ".join(filter(None, (row.contender.name, run_name(run, runs))))
            points = tuple((quantile(waits, share), share) for share in shares)
            curves.append(Curve(label, points, _colour(row, runs), runs.index(run) % 3))
    return curves


def _single(runs: Sequence[Run]) -> list[tuple[Run, Row]]:
    """The rows of one sequence; with several at once a rate is another quantity."""
    return [(run, row) for run in runs for row in run.rows if row.contender.slots == 1 and row.samples]


def _one_a_backend(run: Run) -> list[Row]:
    return list({row.contender.backend: row for row in reversed(run.rows)}.values())[::-1]


def _colour(row: Row, runs: Sequence[Run]) -> int:
    backends = list(dict.fromkeys(each.contender.backend for run in runs for each in run.rows))
    return backends.index(row.contender.backend) % COLOURS


def _where(run: Run, row: Row, runs: Sequence[Run]) -> str:
    """Say what a bar's label has below its name: the device, and the machine and the file where there are several."""
    known = [row.loaded.device] if row.loaded else []
    known += filter(None, [run_name(run, runs)])
    several = tables.are_several_files([each.model_of(other) for each in runs for other in each.rows])
    return ", ".join([*known, *([run.model_of(row).reference] if several else [])])


def _named(line: Line, found: Sequence[Line]) -> str:
    runs = list({id(each.entry.run): each.entry.run for each in found}.values())
    where = run_name(line.entry.run, runs)
    return line.entry.row.contender.name + (f" ({where})" if where else "")
