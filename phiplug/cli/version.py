"""`phiplug version` prints the version, as --version does."""

from __future__ import annotations

import typer

from phiplug import __version__
from phiplug.cli.flags import command_app

app = command_app()


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"phiplug {__version__}")
