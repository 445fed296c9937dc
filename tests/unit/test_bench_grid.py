"""Grids: which cells are left, what is kept when, and that a process that is killed loses no row that was kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from measured import DRAWS, HARDWARE, MODEL, WORK, row, run

from phiplug.bench.compare import lines
from phiplug.bench.conduct import Plan
from phiplug.bench.grid import Cell, Grid, as_grid
from phiplug.bench.machines import machine_name, run_name
from phiplug.bench.page import page
from phiplug.bench.record import load, load_all, save
from phiplug.bench.tables import cells as table_cells
from phiplug.bench.tables import headings, remarks
from phiplug.bench.worker import Task
from phiplug.errors import BackendFailed, InvalidParameter
from phiplug.spi import LoadOptions

OTHER = replace(MODEL, reference="other", sha256="d" * 64)


def cell(prompt=10, *, depth=0, backends=("a",), slots=(1,), model=MODEL, rounds=10, **options):
    """One benchmark of a grid over a made-up model."""
    task = Task(model.reference, prompt_tokens=prompt, gen_tokens=5, options=LoadOptions(**options), depth=depth)
    return Cell(Plan(task, backends, slots=slots, rounds=rounds), dict.fromkeys(backends, model))


def measured(asked, steps=(0.01,) * 8):
    """A run of a cell, with made-up rounds."""
    task = asked.plan.task
    rows = [replace(row(who.backend, steps), contender=who) for who in asked.plan.contenders]
    work = replace(WORK, prompt_tokens=task.prompt_tokens, depth=task.depth)
    model = asked.models[asked.plan.backends[0]]
    plan = asked.plan
    return replace(run(*rows), workload=work, cell=plan.cell, options=plan.options, rounds=plan.rounds, model=model)


class Carried:
    """Carries out cells by writing numbers down, and notes them and what was kept."""

    def __init__(self, measure_one=measured):
        self.asked, self.kept, self.told = [], [], []
        self._measure_one = measure_one
        self.grid = Grid(self._measured, lambda runs: self.kept.append(list(runs)), self.told.append)

    def _measured(self, asked):
        self.asked.append(asked)
        return self._measure_one(asked)

    @property
    def names(self):
        """Of the cells that were carried out."""
        return [each.name for each in self.asked]


GRID = [cell(prompt, depth=depth) for prompt in (10, 20) for depth in (0, 64)]
NAMES = [each.name for each in GRID]


def test_every_cell_is_measured_once_and_all_but_the_last_are_kept():
    carried = Carried()
    carried.grid.go_on(GRID)
    assert carried.names == NAMES
    assert [len(each) for each in carried.kept] == [1, 2, 3]
    assert len(carried.grid.runs) == 4
    assert all(each.grid for each in carried.grid.runs)
    assert carried.told[1] == "2 of 4: 10+5 @ d64, tiny"


def test_what_a_file_holds_is_not_measured_again():
    carried = Carried()
    carried.grid.go_on(GRID, [measured(GRID[2]), measured(GRID[0])])
    assert carried.names == [NAMES[1], NAMES[3]]
    assert carried.told[0] == "2 of 4 are in the file already"
    nothing = Carried()
    nothing.grid.go_on(GRID, carried.grid.runs)
    assert (nothing.asked, nothing.grid.runs) == ([], carried.grid.runs)


@pytest.mark.parametrize(
    "asked",
    [
        cell(11),
        cell(depth=1),
        cell(threads=2),
        cell(slots=(1, 2)),
        cell(device="cpu"),
        cell(rounds=11),
        cell(model=OTHER),
        cell(model=replace(MODEL, sha256="e" * 64)),
    ],
    ids=[
        "another length",
        "another depth",
        "threads",
        "more slots",
        "a device",
        "more rounds",
        "another model",
        "the file has changed",
    ],
)
def test_another_cell_is_measured(asked):
    assert asked.without([measured(cell())]) == asked
    assert cell().without([measured(cell())]) is None


def test_rows_that_were_loaded_otherwise_are_told_apart_and_draw_anew():
    carried = Carried()
    carried.grid.go_on([cell(device="cpu")], [measured(cell())])
    assert [each.plan.positions > 0 for each in carried.asked] == [True]
    assert [run_name(each, carried.grid.runs) for each in carried.grid.runs] == ["", "device cpu"]


def test_a_cell_is_called_by_the_model_only_where_one_is_meant_for_all():
    own = replace(MODEL, reference="")
    assert [cell(model=own).name, cell(model=own, threads=2).name] == ["10+5", "10+5, 2 threads"]
    assert cell(model=replace(MODEL, reference="models/a.gguf"), threads=1).plan.cell == "a.gguf, 1 thread"


def test_an_engine_is_added_to_what_is_there():
    both = cell(backends=("a", "b"))
    left = both.without([measured(cell())])
    assert left.plan.backends == ("b",)
    added = as_grid([measured(cell()), measured(left, (0.02,) * 8)])
    assert [line.rank for line in lines(added)] == [1, 2]
    assert lines(added)[1].decode.value == pytest.approx(0.5)
    assert not any(machine_name(each, added).endswith("run 2") for each in added)


def test_an_interrupted_run_ends_it_and_is_measured_anew_later():
    carried = Carried(lambda asked: replace(measured(asked), complete=asked.name != NAMES[1]))
    carried.grid.go_on(GRID)
    assert carried.grid.interrupted
    assert [each.complete for each in carried.grid.runs] == [True, False]
    again = Carried()
    again.grid.go_on(GRID, carried.grid.runs)
    assert again.names == NAMES[1:]
    assert len(again.grid.runs) == 4


def interrupting(at, error):
    def measure_one(asked):
        if asked.name == NAMES[at]:
            raise error
        return measured(asked)

    return measure_one


def test_ctrl_c_before_a_sample_keeps_what_is_done():
    carried = Carried(interrupting(2, KeyboardInterrupt()))
    carried.grid.go_on(GRID)
    assert (carried.grid.interrupted, len(carried.grid.runs)) == (True, 2)
    with pytest.raises(KeyboardInterrupt):
        Carried(interrupting(0, KeyboardInterrupt())).grid.go_on(GRID)


def test_a_cell_that_fails_is_told_and_ends_no_other():
    carried = Carried(interrupting(1, BackendFailed("a: too deep")))
    carried.grid.go_on(GRID)
    assert len(carried.grid.runs) == 3
    assert "10+5 @ d64, tiny: a: too deep" in carried.told
    assert len(carried.grid.failures) == 1
    with pytest.raises(BackendFailed, match="too deep"):
        Carried(interrupting(1, BackendFailed("a: too deep"))).grid.go_on(GRID[1:2])


def test_draws_are_made_once_for_each_backend_model_and_number_of_threads():
    def drawing(asked):
        made = measured(asked)
        if asked.plan.positions:
            return made
        bare = [replace(each, loaded=replace(each.loaded, draws=(), floor=None)) for each in made.rows]
        return replace(made, rows=tuple(bare))

    carried = Carried(drawing)
    grid = [cell(prompt, threads=threads, backends=("a", "b")) for threads in (1, 2) for prompt in (10, 20)]
    carried.grid.go_on(grid)
    assert [each.plan.positions for each in carried.asked] == [128, 0, 128, 0]
    assert all(
        each.loaded.draws == DRAWS and each.loaded.floor == 0.0 for run in carried.grid.runs for each in run.rows
    )
    added = Carried(drawing)
    added.grid.go_on([cell(30, threads=2, backends=("a", "c"))], carried.grid.runs)
    assert added.asked[0].plan.positions == 128  # c has not drawn yet


def test_rows_are_ranked_among_those_of_one_cell():
    runs = as_grid([measured(cell(backends=("a", "b"), threads=threads)) for threads in (1, 2)])
    runs += as_grid([measured(cell(20, backends=("a", "b"), threads=1), (0.05,) * 8), runs[0]])[:1]
    found = lines(runs)
    assert [line.rank for line in found] == [1] * 6
    assert not any(line.reasons for line in found)
    assert run_name(runs[1], runs) == "10+5, tiny, 2 threads"
    assert headings(runs)[:3] == ["#", "work", "engine"]
    assert table_cells(runs)[4][1:3] == ["20+5, tiny, 1 thread", "a"]
    said = remarks(runs)
    assert sum("Imaginary 9000" in text for text in said) == 1  # what is true of all is said once
    html = page(runs)
    assert "Prompt + generated tokens: 10+5, 20+5" in html
    assert "No difference was found between" in html


def test_a_grid_and_a_run_of_one_work_are_files_that_come_back(tmp_path):
    runs = as_grid([measured(each) for each in GRID])
    save(runs, tmp_path / "grid.json")
    assert load_all(tmp_path / "grid.json") == runs
    with pytest.raises(InvalidParameter, match="holds 4 runs, and one is wanted"):
        load(tmp_path / "grid.json")
    save(runs[:1], tmp_path / "one.json")
    assert load(tmp_path / "one.json") == runs[0]
    for bad in ("[]", "3", "[{}]"):
        (tmp_path / "bad.json").write_text(f'{{"phiplug": {{"schema": 1, "runs": {bad}}}}}')
        with pytest.raises(InvalidParameter, match=r"is no run|is damaged"):
            load_all(tmp_path / "bad.json")


def many():
    """A grid of 24 rows."""
    return [cell(p, depth=d, threads=t) for p in (8, 16, 24) for d in (0, 64) for t in (1, 2, 3, 4)]


SLOWLY = """
import sys, time
from pathlib import Path
from phiplug.bench.grid import Grid
from phiplug.bench.record import save
from test_bench_grid import many, measured

def slowly(cell):
    time.sleep(0.05)
    return measured(cell, [time.perf_counter() % 1 + 0.01] * 8)

Grid(slowly, lambda runs: save(runs, Path(sys.argv[1])), print).go_on(many())
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_grid_that_is_killed_goes_on_without_a_lost_row(tmp_path):
    path, here = tmp_path / "grid.json", Path(__file__).parent
    places = os.pathsep.join([str(here), str(here.parent), str(here.parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(path)], env={**os.environ, "PYTHONPATH": places}, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not (path.exists() and len(load_all(path)) >= 5):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    kept = load_all(path)
    assert 5 <= len(kept) < 24
    again = Carried()
    again.grid.go_on(many(), kept)
    assert len(again.asked) == 24 - len(kept)
    assert [(each.rows, each.workload) for each in again.grid.runs[: len(kept)]] == [
        (each.rows, each.workload) for each in kept
    ]
    rows = {(each.workload.lengths, each.cell) for each in again.grid.runs}
    assert (len(rows), sum(len(each.rows) for each in again.grid.runs)) == (24, 24)
    assert all(each.hardware == HARDWARE for each in again.grid.runs)
