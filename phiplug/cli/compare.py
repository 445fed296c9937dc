"""`phiplug compare` reads runs of `bench`, prints ratios, writes one HTML page, and exits with 1 if one is slower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.flags import OUTPUT, command_app, takes
from phiplug.cli.runs import Format, percentage, show
from phiplug.errors import InvalidParameter
from phiplug.userfiles import require_writable, write_text

if TYPE_CHECKING:
    from phiplug.bench.imported import Imported
    from phiplug.bench.types import Run

app = command_app()


@dataclass(frozen=True, slots=True)
class CompareFlags:
    """What stands beside the runs, and what is made of them."""

    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="PROGRAM=FILE",
            help="Set what another program measured beside them, as in llama-bench=b.json, which `llama-bench -o json` "
            "wrote; repeat it. What it does not say reads ?; it is never ranked.",
            show_default=False,
        ),
    ] = None

    html: Annotated[
        Path | None,
        typer.Option("--html", rich_help_panel=OUTPUT, help="Write one self-contained page.", show_default=False),
    ] = None
    fail_over: Annotated[
        str | None,
        typer.Option(
            "--fail-over",
            help="Exit with 1 where a later run is slower than the first by more than this and 3 MAD, as in 5%.",
            show_default=False,
        ),
    ] = None
    form: Annotated[Format, typer.Option("--format", rich_help_panel=OUTPUT, help="What goes to stdout.")] = "table"


@app.command()
@takes(CompareFlags)
def compare(
    flags: CompareFlags, paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Files of `bench -o`.")]
) -> None:
    """Compare benchmark runs: across engines, machines and versions."""
    from phiplug.bench import record
    from phiplug.bench.compare import regressions

    over = percentage("fail_over", flags.fail_over)
    if over is not None and len(paths) < 2:
        raise InvalidParameter("fail_over", "compares later runs with the first, and there is one", hint="name two")
    if flags.html is not None:
        require_writable("html", flags.html)
    beside = _imported(flags.imports or [])
    runs = [run for path in paths for run in record.load_all(path)]
    if over is not None and len(runs) != len(paths):
        raise InvalidParameter("fail_over", "is for files of one run each, and one of these is a grid")
    slower = [text for new in runs[1:] for text in regressions(runs[0], new, over=over)] if over is not None else []
    show(runs, flags.form, beside)
    if flags.html is not None:
        _write(flags.html, runs, beside)
    for text in slower:
        typer.secho(f"slower: {text}", fg="red", err=True)
    raise typer.Exit(1 if slower else 0)


def _imported(named: list[str]) -> list[Imported]:
    from phiplug.bench import imported

    found = []
    for text in named:
        program, equals, file = text.partition("=")
        if program != imported.PROGRAM or not (equals and file):
            hint = f"as in --from {imported.PROGRAM}=b.json"
            raise InvalidParameter("from", f"{text!r} is no PROGRAM=FILE of a program that is known", hint=hint)
        found += imported.load(Path(file))
    return found


def _write(path: Path, runs: list[Run], beside: list[Imported]) -> None:
    from phiplug.bench.page import page

    write_text("html", path, page(runs, beside))
