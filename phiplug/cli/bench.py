"""`phiplug bench` measures one model on several engines in turn, and prints a table or writes a file."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli import INTERRUPTED
from phiplug.cli.counter import counted
from phiplug.cli.flags import OUTPUT, command_app, takes
from phiplug.cli.runs import Format, show
from phiplug.cli.several import GridFlags
from phiplug.errors import InvalidParameter
from phiplug.userfiles import expanded, require_writable

if TYPE_CHECKING:
    from phiplug.bench.grid import Cell
    from phiplug.bench.types import Hardware, Run

app = command_app()
WORK = "What is measured"
AGAIN = "; repeat it for a grid."


@dataclass(frozen=True, slots=True)
class BenchFlags:
    """What is measured, how often, and where it goes."""

    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            rich_help_panel=WORK,
            help="A model and lengths that have a name: chat-small, phi-3-mini, llama-bench.",
            show_default=False,
        ),
    ] = None
    prompt_tokens: Annotated[
        list[int] | None,
        typer.Option(
            "-p", "--prompt-tokens", min=1, rich_help_panel=WORK, help=f"In the prompt{AGAIN}", show_default="512"
        ),
    ] = None
    gen_tokens: Annotated[
        list[int] | None,
        typer.Option("-n", "--gen-tokens", min=2, rich_help_panel=WORK, help=f"Generated{AGAIN}", show_default="128"),
    ] = None
    depth: Annotated[
        list[int] | None,
        typer.Option("-d", "--depth", min=0, rich_help_panel=WORK, help=f"Before the prompt{AGAIN}", show_default="0"),
    ] = None
    slots: Annotated[
        list[int] | None,
        typer.Option("--slots", min=1, rich_help_panel=WORK, help="Sequences at once; repeat it.", show_default="1"),
    ] = None
    rounds: Annotated[int, typer.Option("--rounds", min=1, rich_help_panel=WORK, help="Samples of each.")] = 10
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            rich_help_panel=WORK,
            help="Go on until each ratio is known this well, as in 2%.",
            show_default=False,
        ),
    ] = None
    max_minutes: Annotated[
        float, typer.Option("--max-minutes", min=0, rich_help_panel=WORK, help="The time for that.")
    ] = 10.0
    delay: Annotated[
        float, typer.Option("--delay", min=0, rich_help_panel=WORK, help="Seconds of rest before each further round.")
    ] = 0.0
    engine_only: Annotated[
        bool, typer.Option("--engine-only", rich_help_panel=WORK, help="Measure the bare engine too.")
    ] = False
    positions: Annotated[
        int,
        typer.Option(
            "--positions", min=0, max=128, rich_help_panel=WORK, help="At which draws are compared; 0 for none."
        ),
    ] = 128
    order_seed: Annotated[int, typer.Option("--order-seed", rich_help_panel=WORK, help="Of the rounds' order.")] = 0
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", rich_help_panel=OUTPUT, help="Write the run here.", show_default=False),
    ] = None
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=OUTPUT, help="Measure only what -o's file does not hold, and add it."),
    ] = False
    share: Annotated[
        bool,
        typer.Option(
            "--share", rich_help_panel=OUTPUT, help="Write the run and its page below results/, for a pull request."
        ),
    ] = False
    form: Annotated[Format, typer.Option("--format", rich_help_panel=OUTPUT, help="What goes to stdout.")] = "table"


@app.command()
@takes(GridFlags, BenchFlags)
def bench(load: GridFlags, flags: BenchFlags) -> None:
    """Measure how fast engines run models, each in a process of its own, in turn."""
    from phiplug.bench.grid import Grid
    from phiplug.cli.gridcells import grid_of

    _require_places(flags)
    cells, hardware = grid_of(load, flags)
    if flags.share and len(cells) > 1:
        raise InvalidParameter("share", "is for one work, and this is a grid", hint="share each of its works")
    keep = partial(_save, flags.output)
    grid = Grid(lambda cell: _measured(cell, hardware), keep, lambda text: typer.echo(text, err=True))
    grid.go_on(cells, _resumed(flags, hardware))
    show(grid.runs, flags.form)  # before the last is saved: what took an hour is not lost where the disk is full
    keep(grid.runs)
    if flags.share:
        _shared(grid.runs[-1])
    if grid.interrupted or grid.failures:
        raise typer.Exit(INTERRUPTED if grid.interrupted else 1)


def _save(path: Path | None, runs: list[Run]) -> None:
    from phiplug.bench import record

    if path is not None:
        record.save(runs, path)


def _require_places(flags: BenchFlags) -> None:
    if flags.resume and flags.output is None:
        raise InvalidParameter("resume", "there is no file to go on with", hint="name it with -o")
    if flags.output is not None:
        require_writable("output", flags.output)


def _resumed(flags: BenchFlags, hardware: Hardware) -> list[Run]:
    """Return the runs of the file that is to be gone on with; nothing where there is none yet."""
    from phiplug.bench import record

    if not (flags.resume and flags.output is not None and expanded(flags.output).exists()):
        return []
    runs = record.load_all(flags.output)
    if other := {run.hardware.id for run in runs} - {hardware.id}:
        raise InvalidParameter("resume", f"{flags.output} is of another machine, {', '.join(sorted(other))}")
    return runs


def _shared(run: Run) -> None:
    """Write a run and its page among the results, and say what a pull request is to hold."""
    from phiplug.bench import results

    paths = results.share(run)
    typer.echo(
        "\nOpen a pull request that adds these files and what `make results` changes, and say in it:\n", err=True
    )
    typer.echo(results.description(run, paths), err=True)
    for name in results.words_of(run, [platform.node(), Path.home().name]):
        typer.secho(
            f"look at it before you send it: it holds {name!r}, a name of this machine or user", fg="yellow", err=True
        )


def _measured(cell: Cell, hardware: Hardware) -> Run:
    """Warm up and measure, and say on stderr what is going on."""
    from phiplug.bench.conduct import Session

    typer.echo(f"loading and warming up {', '.join(cell.plan.backends)}", err=True)
    with Session(cell.plan, cell.models, hardware) as session:
        seconds = session.prepare()
        rounds = f"{session.total} round{'s' if session.total > 1 else ''}"
        typer.echo(f"{rounds} will take about {_spelt(seconds)}; Ctrl-C keeps what is done", err=True)
        with counted("measuring", session.total) as advance:
            session.measure(advance)
        return session.run()


def _spelt(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
