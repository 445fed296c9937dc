"""Carries out a grid: one benchmark after another, and only those that a file does not hold yet.

The runs are kept after each one, so that what ends the process costs one benchmark at the most. It knows nothing of
how one is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from phiplug.bench.types import lengths
from phiplug.errors import BackendFailed

if TYPE_CHECKING:
    from phiplug.bench.conduct import Plan
    from phiplug.bench.types import Loaded, ModelIdentity, Row, Run

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """One benchmark of a grid, and the weights that each of its backends is to have."""

    plan: Plan
    models: Mapping[str, ModelIdentity]

    @property
    def name(self) -> str:
        """What it is called while it runs."""
        task = self.plan.task
        return ", ".join(filter(None, (lengths(task.prompt_tokens, task.gen_tokens, task.depth), self.plan.cell)))

    def without(self, runs: Sequence[Run]) -> Cell | None:
        """Return what of it the runs do not hold yet, or None where they hold all; an error counts as an answer."""
        missing = tuple(name for name in self.plan.backends if not any(self._is_in(run, name) for run in runs))
        return replace(self, plan=replace(self.plan, backends=missing)) if missing else None

    def _is_in(self, run: Run, backend: str) -> bool:
        plan, task, work = self.plan, self.plan.task, run.workload
        mine = (plan.cell, plan.options, task.prompt_tokens, task.gen_tokens, task.depth)
        its = (run.cell, run.options, work.prompt_tokens, work.gen_tokens, work.depth)
        wanted = {who for who in plan.contenders if who.backend == backend}
        told = {
            row.contender
            for row in run.rows
            if (row.samples or row.error) and run.model_of(row).sha256 == self.models[backend].sha256
        }
        return mine == its and run.rounds >= plan.rounds and run.complete and wanted <= told


@dataclass(slots=True)
class Grid:
    """A grid under way.

    Attributes:
        measure_one: carries out one benchmark.
        keep: is given all runs after each one but the last, which the caller is given.
        told: is told what is skipped, what comes next, and what failed.
        runs: what is done.
        failures: of whole benchmarks, in which no backend could begin.
        interrupted: whether KeyboardInterrupt ended it.
    """

    measure_one: Callable[[Cell], Run]
    keep: Callable[[list[Run]], None]
    told: Callable[[str], None]
    runs: list[Run] = field(default_factory=list)
    failures: list[BackendFailed] = field(default_factory=list)
    interrupted: bool = False

    def go_on(self, cells: Sequence[Cell], runs: Sequence[Run] = ()) -> None:
        """Measure what `runs` do not hold yet; those that were interrupted are measured anew.

        Raises:
            BackendFailed: every benchmark failed, and nothing was done before.
            KeyboardInterrupt: nothing is done yet.
        """
        self.runs = as_grid([run for run in runs if run.complete])
        left = [cell for each in cells if (cell := each.without(self.runs))]
        if len(left) < len(cells):
            self.told(f"{len(cells) - len(left)} of {len(cells)} are in the file already")
        try:
            self._measure(left)
        except KeyboardInterrupt:
            self.interrupted = True
            if not self.runs:
                raise
        if self.failures and not self.runs:
            raise self.failures[0]

    def _measure(self, cells: Sequence[Cell]) -> None:
        for number, cell in enumerate(cells, 1):
            if len(cells) > 1:
                self.told(f"{number} of {len(cells)}: {cell.name}")
            drawn = _drawn(self.runs)
            plan = cell.plan
            keys = {(name, cell.models[name].sha256, plan.cell, plan.options) for name in plan.backends}
            known = bool(plan.positions) and keys <= drawn.keys()
            try:
                run = self.measure_one(replace(cell, plan=replace(plan, positions=0)) if known else cell)
            except BackendFailed as error:
                self.failures.append(error)
                self.told(f"{cell.name}: {error}")
                continue
            self.runs = as_grid([*self.runs, _with_draws(run, drawn) if known else run])
            if not run.complete:
                self.interrupted = True
                break
            if number < len(cells):
                self.keep(self.runs)


def _drawn(runs: Sequence[Run]) -> dict[Key, Loaded]:
    """Return what drew at the forced positions, by all that may change those draws; lengths do not."""
    rows = [(run, row) for run in runs for row in run.rows]
    return {_key(run, row): row.loaded for run, row in rows if row.loaded and row.loaded.draws}


def _key(run: Run, row: Row) -> Key:
    return row.contender.backend, run.model_of(row).sha256, run.cell, run.options


def _with_draws(run: Run, drawn: Mapping[Key, Loaded]) -> Run:
    """Return a run whose rows have the draws that their backends made before, in a process like theirs."""

    def told(row: Row) -> Row:
        if row.loaded is None:
            return row
        old = drawn[_key(run, row)]
        loaded = replace(row.loaded, draws=old.draws, floor=old.floor, floor_error=old.floor_error)
        return replace(row, loaded=loaded)

    return replace(run, rows=tuple(map(told, run.rows)))


def as_grid(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of one file, told apart by their cells where they are several."""
    return [replace(run, grid=len(runs) > 1) for run in runs]
