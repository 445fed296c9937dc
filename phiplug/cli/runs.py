"""Shows runs of `bench`, as that and `compare` do: a table for people, or a form for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import typer

from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.bench.imported import Imported
    from phiplug.bench.types import Run

WIDTH = 100_000  # characters, of a table in a file or a pipe

Format = Literal["table", "md", "csv", "jsonl"]


def show(runs: list[Run], form: Format, beside: Sequence[Imported] = ()) -> None:
    """Print runs on stdout, and what other programs measured; the remarks on a table go with it."""
    from phiplug.bench import tables

    if form == "table":
        _print_table(runs, beside)
    else:
        write = {"md": tables.markdown, "csv": tables.as_csv, "jsonl": tables.as_jsonl}[form]
        typer.echo(write(runs, beside), nl=False)


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
