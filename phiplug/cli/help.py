"""`phiplug help` shows the help of a command, as its --help does."""

from __future__ import annotations

from typing import Annotated

import typer

from phiplug.cli import app as phiplug
from phiplug.cli.flags import command_app

app = command_app()


@app.command()
def help_(
    command: Annotated[list[str] | None, typer.Argument(help="As in `phiplug help models pull`.")] = None,
) -> None:
    """Show the help of a command, or the list of all."""
    phiplug([*(command or ()), "--help"], prog_name="phiplug")
