"""Calls a machine by its chip, as people do; its id is added only where two machines are called alike."""

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
    """Return the chip, with the id's beginning where another machine has it too, and runs of one machine by order."""
    name = chip(run)
    if any(chip(other) == name and other.hardware.id != run.hardware.id for other in runs):
        name += f" {run.hardware.id[:6]}"
    same = [other for other in runs if other.hardware.id == run.hardware.id]
    return name + (f" run {1 + next(i for i, other in enumerate(runs) if other is run)}" if len(same) > 1 else "")
