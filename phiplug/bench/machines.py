"""Calls a machine by its chip, as people do, and a run by what tells it from those beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phiplug.bench.types import Run

NOISE = re.compile(r"\((R|TM|r|tm)\)|\b(CPU|Processor|GPU)\b|@.*|\b\d+-Core\b|with Radeon.*", re.ASCII)


def chip(run: Run) -> str:
    """Return the name of what computed: the card where any row ran on one, else the processor."""
    devices = {row.loaded.device.partition(":")[0] for row in run.rows if row.loaded}
    if run.hardware.gpus and devices - {"cpu"}:
        return shortened(run.hardware.gpus[0].partition(",")[0])
    return shortened(run.hardware.cpu)


def shortened(name: str) -> str:
    """Return a processor's name without what makers add to it: marks, clocks, the number of cores."""
    return " ".join(NOISE.sub(" ", name).split()) or "?"


def machine_name(run: Run, runs: Sequence[Run]) -> str:
    """Return the chip, the id's beginning where another machine has it too, and an order where a run repeats one."""
    name = chip(run)
    if any(chip(other) == name and other.hardware.id != run.hardware.id for other in runs):
        name += f" {run.hardware.id[:6]}"
    same = [other for other in runs if other is run or _repeats(other, run)]
    return name + (f" run {1 + next(i for i, other in enumerate(same) if other is run)}" if len(same) > 1 else "")


def are_several(runs: Sequence[Run]) -> bool:
    """Whether the machines' names tell runs apart."""
    return len({machine_name(run, runs) for run in runs}) > 1


def work_name(run: Run, runs: Sequence[Run]) -> str:
    """Return the lengths, the cell and the load options, as far as the runs differ in them."""
    lengths = [run.workload.lengths] if len({each.workload.lengths for each in runs}) > 1 else []
    cells = [run.cell] if any(each.grid for each in runs) and len({each.cell for each in runs}) > 1 else []
    options = [run.options] if len({each.options for each in runs}) > 1 else []
    return ", ".join(filter(None, lengths + cells + options))


def run_name(run: Run, runs: Sequence[Run]) -> str:
    """Return what tells a run from the others: the machine, the lengths, the cell; nothing for a run that is alone."""
    machine = machine_name(run, runs) if are_several(runs) else ""
    return ", ".join(filter(None, (machine, work_name(run, runs))))


def _repeats(run: Run, other: Run) -> bool:
    """Whether two runs of one machine measured the same of the same."""
    places = [(each.hardware.id, each.workload.lengths, each.cell, each.options) for each in (run, other)]
    contenders = [{row.contender for row in each.rows} for each in (run, other)]
    return places[0] == places[1] and not contenders[0].isdisjoint(contenders[1])
