"""`phiplug bench` measures one model on several engines in turn, and prints a table or writes a file."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from phiplug.cli import INTERRUPTED
from phiplug.cli.counter import counted
from phiplug.cli.flags import OUTPUT, BackendsFlags, command_app, takes
from phiplug.errors import InvalidParameter
from phiplug.userfiles import require_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.bench.conduct import Plan, Session
    from phiplug.bench.imported import Imported
    from phiplug.bench.types import ModelIdentity, Run
    from phiplug.plugins import Plugins

app = command_app()
WORK = "What is measured"
WIDTH = 100_000  # characters, of a table in a file or a pipe

Format = Literal["table", "md", "csv", "jsonl"]


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
        int | None,
        typer.Option(
            "-p", "--prompt-tokens", min=1, rich_help_panel=WORK, help="Length of the prompt.", show_default="512"
        ),
    ] = None
    gen_tokens: Annotated[
        int | None,
        typer.Option(
            "-n", "--gen-tokens", min=2, rich_help_panel=WORK, help="How many are generated.", show_default="128"
        ),
    ] = None
    depth: Annotated[
        int, typer.Option("-d", "--depth", min=0, rich_help_panel=WORK, help="Tokens in the context before the prompt.")
    ] = 0
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
    share: Annotated[
        bool,
        typer.Option(
            "--share", rich_help_panel=OUTPUT, help="Write the run and its page below results/, for a pull request."
        ),
    ] = False
    form: Annotated[Format, typer.Option("--format", rich_help_panel=OUTPUT, help="What goes to stdout.")] = "table"


@app.command()
@takes(BackendsFlags, BenchFlags)
def bench(load: BackendsFlags, flags: BenchFlags) -> None:
    """Measure how fast engines run one model, each in a process of its own, in turn."""
    from phiplug.bench import record

    if flags.output is not None:
        require_writable("output", flags.output)
    with _session(load, flags) as session:
        run = _measured(session)
    show([run], flags.form)  # before it is saved: what took an hour is not lost where the disk is full
    if flags.output is not None:
        record.save(run, flags.output)
    if flags.share:
        _shared(run)
    if not run.complete:
        raise typer.Exit(INTERRUPTED)


def show(runs: list[Run], form: Format, beside: Sequence[Imported] = ()) -> None:
    """Print runs on stdout, and what other programs measured; the remarks on a table go with it."""
    from phiplug.bench import tables

    if form == "table":
        _print_table(runs, beside)
    else:
        write = {"md": tables.markdown, "csv": tables.as_csv, "jsonl": tables.as_jsonl}[form]
        typer.echo(write(runs, beside), nl=False)


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


def percentage(name: str, text: str | None) -> float | None:
    """Read an option's percentage as a share.

    Raises:
        InvalidParameter: it is none.
    """
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise InvalidParameter(name, f"{text!r} is no percentage", hint="as in 5%")
    return share


def _session(load: BackendsFlags, flags: BenchFlags) -> Session:
    """Find the model and the backends before anything is started, so that what is misspelt is said at once."""
    from phiplug.bench.conduct import Session
    from phiplug.bench.hardware import identify
    from phiplug.bench.identity import identity_of
    from phiplug.cli.progress import DownloadBar
    from phiplug.load import cache, find
    from phiplug.plugins import Plugins
    from phiplug.plugins.choice import require_engine

    plugins = Plugins.installed()
    plan = _plan(load, flags, plugins)
    identities: dict[str, ModelIdentity] = {}  # by reference: one file is read once
    for reference in [plan.reference_of(name) for name in plan.backends]:
        takers = [plugins.backend(name) for name in plan.backends if plan.reference_of(name) == reference]
        if reference not in identities:
            files = find(
                reference,
                plugins,
                offline=load.offline,
                before_fetch=partial(require_engine, takers, reference),
                progress=DownloadBar(),
            )
            identities[reference] = model = identity_of(files, cache())
            typer.echo(f"{model.reference}, SHA-256 {model.sha256[:12]}", err=True)
    typer.echo("looking at this machine", err=True)
    models = {name: identities[plan.reference_of(name)] for name in plan.backends}
    return Session(plan, models, identify(plugins.hardware_info()))


def _plan(load: BackendsFlags, flags: BenchFlags, plugins: Plugins) -> Plan:
    from phiplug.bench.conduct import Plan
    from phiplug.bench.worker import Task
    from phiplug.bench.workloads import workload
    from phiplug.load import DEFAULT_MODEL

    if load.chat_template is not None:
        raise InvalidParameter("chat_template", "a benchmark's prompt has none", hint="drop it")
    named = load.named()
    work = workload(flags.workload, model=load.model, prompt_tokens=flags.prompt_tokens, gen_tokens=flags.gen_tokens)
    if work.name and flags.depth:
        raise InvalidParameter("depth", f"{work.name} begins in an empty context", hint="drop one of the two")
    found = [plugins.backend(name) for name, _ in named]
    own = found[0].default_model if found else None
    task = Task(
        reference=work.model or own or DEFAULT_MODEL,
        prompt_tokens=work.prompt_tokens,
        gen_tokens=work.gen_tokens,
        options=load.options(),
        offline=load.offline,
        depth=flags.depth,
    )
    return Plan(
        task,
        tuple(backend.name for backend in found),
        {name: model for name, model in named if model},
        tuple(flags.slots or (1,)),
        rounds=flags.rounds,
        precision=percentage("precision", flags.precision),
        max_s=60 * flags.max_minutes,
        engine_only=flags.engine_only,
        positions=flags.positions,
        seed=flags.order_seed,
        workload=work.name,
        delay_s=flags.delay,
    )


def _measured(session: Session) -> Run:
    """Warm up and measure, and say on stderr what is going on."""
    typer.echo(f"loading and warming up {', '.join(session.plan.backends)}", err=True)
    seconds = session.prepare()
    rounds = f"{session.total} round{'s' if session.total > 1 else ''}"
    typer.echo(f"{rounds} will take about {_spelt(seconds)}; Ctrl-C keeps what is done", err=True)
    with counted("measuring", session.total) as advance:
        session.measure(advance)
    return session.run()


def _spelt(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _print_table(runs: list[Run], beside: Sequence[Imported]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from phiplug.bench import tables

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in tables.headings(runs, beside):
        table.add_column(name, justify="left" if name in tables.LEFT else "right", overflow="fold")
    for line in tables.cells(runs, beside):
        table.add_row(*map(escape, line))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
    for text in tables.remarks(runs, beside):
        console.print(escape(text))
