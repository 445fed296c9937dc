"""`phiplug config`: what `run`, `chat` and `serve` do unless a flag or the environment says otherwise."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli import note
from phiplug.cli.flags import command_app
from phiplug.config import KINDS, ConfigFile, kind_of, spelt
from phiplug.errors import InvalidParameter, PhiplugError
from phiplug.places import config_file

if TYPE_CHECKING:
    from pathlib import Path

app = command_app()
Name = Annotated[str, typer.Argument(help="As `phiplug config list --all` has it.")]
ENVIRONMENT = {"model": "PHIPLUG_MODEL", "backend": "PHIPLUG_BACKEND"}


@app.callback(no_args_is_help=True)
def config() -> None:
    """Show and change what `run`, `chat` and `serve` do unless a flag or the environment says otherwise."""


@app.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also what is not set.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line with everything.")] = False,
) -> None:
    """List what is set, and what in the environment beats it."""
    values = ConfigFile.of_user().read().values
    if as_json:
        typer.echo(json.dumps(dict(values)))
        return
    for name in KINDS:
        if every or name in values:
            beaten = os.environ.get(ENVIRONMENT.get(name, ""))
            said = spelt(values[name]) if name in values else "not set"
            typer.echo(f"{name} = {said}" + (f"  ({ENVIRONMENT[name]} says {beaten})" if beaten else ""))
    if not values and not every:
        note("nothing is set; `phiplug config list --all` names what can be")


@app.command()
def get(name: Name) -> None:
    """Print one value."""
    wanted = _plain(name)
    values = ConfigFile.of_user().read().values
    if wanted not in values:
        kind_of(wanted)  # raises where there is no such name
        raise PhiplugError(f"{wanted} is not set", hint=f"`phiplug config set {wanted} VALUE` does")
    value = values[wanted]
    typer.echo(value if isinstance(value, str) else spelt(value))


@app.command("set")
def set_(name: Name, value: Annotated[str, typer.Argument(help="true and false are on and off, too.")]) -> None:
    """Set a value from now on."""
    file = ConfigFile.of_user()
    wanted = _plain(name)
    kept = file.set(wanted, value)
    note(f"{wanted} = {spelt(kept)} is set in {file.path}")
    if beaten := os.environ.get(ENVIRONMENT.get(wanted, "")):
        note(f"but {ENVIRONMENT[wanted]} is set, which decides: {beaten}")


@app.command()
def unset(name: Name) -> None:
    """Have a value no longer set."""
    file = ConfigFile.of_user()
    wanted = _plain(name)
    if not file.unset(wanted) and not file.unset(name):
        raise InvalidParameter(wanted, "is not set")
    note(f"{wanted} is no longer set")


@app.command()
def path() -> None:
    """Print where the file is, which need not be there."""
    typer.echo(_file())


def _file() -> Path:
    found = config_file()
    if found is None:
        raise InvalidParameter("config", "there is no folder for it", hint="set HOME")
    return found


def _plain(name: str) -> str:
    """Return the name as the file has it; a user may write it as a flag."""
    plain = name.removeprefix("--").replace("-", "_")
    return {"temp": "temperature", "sampling_dialect": "dialect"}.get(plain, plain)
