"""`phiplug batch` answers a file of requests, a row for each line; an error is a row, and `--resume` goes on."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiplug.cli import note
from phiplug.cli.batchrun import agreed, run
from phiplug.cli.flags import MODEL, OUTPUT, PROMPT, SAMPLING, LoadFlags, command_app, takes
from phiplug.errors import InvalidParameter, PhiplugWarning, UnsupportedParameter

if TYPE_CHECKING:
    from phiplug.batch.conduct import Job
    from phiplug.batch.manifest import Manifest
    from phiplug.batch.output import Output, Pipe
    from phiplug.llm import LLM

BATCH = "Batch"
app = command_app()


@dataclass(frozen=True, slots=True)
class BatchFlags:
    """What is read and written, and when to stop."""

    output: Annotated[
        str | None,
        typer.Option("-o", "--output", rich_help_panel=OUTPUT, help="The rows; - is stdout.", show_default=False),
    ] = None
    slots: Annotated[
        int, typer.Option("--slots", min=1, rich_help_panel=MODEL, help="Lines computed side by side.")
    ] = 8
    seed: Annotated[
        int, typer.Option("--seed", rich_help_panel=SAMPLING, help="For lines that have none of their own.")
    ] = 0
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "-n", "--max-tokens", min=1, rich_help_panel=OUTPUT, help="Where a line does not say.", show_default=False
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", rich_help_panel=BATCH, help="Go on with the output.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=BATCH, help="Check every line, compute nothing.")
    ] = False
    max_errors: Annotated[
        int | None,
        typer.Option("--max-errors", min=0, rich_help_panel=BATCH, help="Stop after more.", show_default="never"),
    ] = None
    mixed: Annotated[
        bool, typer.Option("--mixed", rich_help_panel=BATCH, help="Rows may differ; each says what computed it.")
    ] = False
    served_name: Annotated[
        list[str] | None,
        typer.Option(
            "--served-name", rich_help_panel=MODEL, help="What lines call the model; repeat it.", show_default=False
        ),
    ] = None
    raw: Annotated[bool, typer.Option("--raw", rich_help_panel=PROMPT, help="Continue the plain prompts.")] = False
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", rich_help_panel=BATCH, help="A cluster's address; local begins one.", show_default="none"
        ),
    ] = None
    actors: Annotated[int, typer.Option("--actors", min=1, rich_help_panel=BATCH, help="Engines on the cluster.")] = 1
    actor_cpus: Annotated[
        float | None,
        typer.Option("--actor-cpus", min=0, rich_help_panel=BATCH, help="Each asks for.", show_default="its threads"),
    ] = None
    column: Annotated[str, typer.Option("--column", rich_help_panel=PROMPT, help="Of CSV or Parquet: the prompts.")] = (
        "prompt"
    )
    id_column: Annotated[
        str | None, typer.Option("--id-column", rich_help_panel=PROMPT, help="The ids.", show_default=False)
    ] = None


@app.command()
@takes(LoadFlags, BatchFlags)
def batch(
    load: LoadFlags,
    flags: BatchFlags,
    file: Annotated[str, typer.Argument(help="JSON Lines, CSV, TSV or Parquet, also .gz; - is standard input.")],
) -> None:
    """Answer every line of a file, each in a row of its own."""
    from phiplug.batch.conduct import here
    from phiplug.batch.source import Columns, Source
    from phiplug.cli.batchray import spread_over

    _refuse(flags)
    source = Source(file, Columns(flags.column, flags.id_column))
    if not source.is_pipe:  # what cannot be opened is said before a model is loaded
        with source.lines():
            pass
    warnings.simplefilter("default", PhiplugWarning)  # each text once, not once for each line
    with ExitStack() as stack:
        sink = None if flags.dry_run else stack.enter_context(_sink(flags))
        if flags.ray is not None and sink is not None:
            run(*spread_over(load, flags, source, sink, stack), sink)
            return
        llm = stack.enter_context(_loaded(load, flags.slots))
        job, manifest = _planned(llm, source, flags)
        if sink is None:
            _check(job, llm)
            return
        job = agreed(job, manifest, sink, mixed=flags.mixed)
        note(_described(llm, flags))
        run(job, here(job, llm), sink)


def _refuse(flags: BatchFlags) -> None:
    """Refuse what is out of range, and flags that do not go together."""
    from phiplug import checks
    from phiplug.parameters import MAX_SEED

    checks.integer("seed", flags.seed, low=0, high=MAX_SEED - 1)
    if flags.output is None and not flags.dry_run:
        raise InvalidParameter("output", "is missing", hint="-o names the file of the rows")
    if flags.output is not None and flags.output.endswith(".gz"):
        raise InvalidParameter("output", "rows are not compressed", hint="pipe them: -o - | gzip")
    if flags.ray is not None and flags.dry_run:
        raise InvalidParameter("dry_run", "is checked on this machine", hint="drop --ray")
    if flags.output == "-" and flags.resume:
        raise InvalidParameter("resume", "needs an output that can be read")


@contextmanager
def _sink(flags: BatchFlags) -> Iterator[Output | Pipe]:
    """Open the output; what an engine prints on standard output goes to stderr then."""
    from phiplug.batch.output import Output, Pipe

    if flags.output != "-":
        with Output(flags.output or "", resume=flags.resume) as output:
            yield output
        return
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield Pipe(own, "standard output")
    finally:
        os.dup2(own, 1)
        os.close(own)


def _loaded(load: LoadFlags, slots: int) -> LLM:
    """Load the model with a fixed number of threads, 1 where none is given and it is the backend's to choose."""
    try:
        return replace(load, threads=load.threads or 1).load(slots=slots)
    except UnsupportedParameter as error:
        if error.name != "threads" or load.threads is not None:
            raise
        return load.load(slots=slots)


def _planned(llm: LLM, source: Any, flags: BatchFlags) -> tuple[Job, Manifest]:  # Any: a Source
    from phiplug.batch.asking import Terms
    from phiplug.batch.conduct import Job, require_independence
    from phiplug.batch.identity import computed_by
    from phiplug.batch.manifest import Manifest
    from phiplug.load import cache

    require_independence(llm.info, mixed=flags.mixed)
    names = (*(flags.served_name or ()), llm.files.reference)
    terms = Terms(int(time.time()), flags.seed, flags.max_tokens, names, flags.mixed)
    asked = {"seed": flags.seed, "max_tokens": flags.max_tokens, "raw": flags.raw, "names": list(names)}
    manifest = Manifest(terms.created, asked, computed_by(llm, cache()))
    return Job(source, terms, flags.raw, flags.max_errors, manifest.computed_by if flags.mixed else None), manifest


def _described(llm: LLM, flags: BatchFlags) -> str:
    counted = f", {llm.info.threads} thread{'s' * (llm.info.threads > 1)}" if llm.info.threads else ""
    return f"{llm.files.reference}: {llm.backend} on {llm.info.device}{counted}; {flags.slots} slots; seed {flags.seed}"


def _check(job: Job, llm: LLM) -> None:
    """Print what is wrong with which line."""
    from phiplug.batch.conduct import check

    lines = wrong = 0
    for task, error in check(job, llm):
        lines += 1
        if error is not None:
            wrong += 1
            called = "" if task.custom_id is None else f" ({json.dumps(task.custom_id, ensure_ascii=False)})"
            typer.echo(f"line {task.line}{called}: {error}")
    typer.echo(f"{lines} lines, {wrong} of them wrong; nothing was computed")
