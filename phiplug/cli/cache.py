"""`phiplug cache`: what is kept on this machine, where, how large it is, and how to be rid of it.

`ROWS` is the whole list: whatever phiplug writes without being told where has its row there. Models are
listed, and left to `phiplug models rm`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from phiplug.cli import note
from phiplug.cli.flags import command_app
from phiplug.errors import InvalidParameter, PhiplugError
from phiplug.places import config_file, log_file
from phiplug.printable import printable

app = command_app()


def _unlink(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of what is kept.

    Attributes:
        name: what `clear` takes.
        about: what it is, and what is lost with it.
        place: the file or folder where it is; None for a user without a home folder.
        measure: returns the files that are `clear`'s to remove, or, of what is not, how many bytes there are.
        removed_by: the command that removes it, where that is not `clear`.
        remove: removes one file, and returns whether it is gone.
    """

    name: str
    about: str
    place: Callable[[], Path | None]
    measure: Callable[[], list[Path] | int]
    removed_by: str | None = None
    remove: Callable[[Path], bool] = _unlink

    @property
    def files(self) -> list[Path]:
        """The files that `clear` removes."""
        found = self.measure()
        return [] if isinstance(found, int) else found

    @property
    def size(self) -> int:
        """In bytes."""
        found = self.measure()
        return found if isinstance(found, int) else sum(path.stat().st_size for path in found)


def _cache_path() -> Path | None:
    from phiplug.load import cache_path

    return cache_path()


def _history_path() -> Path | None:
    from phiplug.cli.terminal import history_path

    return history_path()


def _beginning_as(place: Callable[[], Path | None]) -> Callable[[], list[Path]]:
    """Return what finds a file, and those beside it that a process left which was killed while it wrote."""

    def found() -> list[Path]:
        path = place()
        return [] if path is None else sorted(path.parent.glob(f"{path.name}*"))

    return found


def _hub() -> Path:
    from phiplug.models.repository import hub_cache

    return hub_cache()


def _packages() -> Path:
    import sysconfig

    return Path(sysconfig.get_path("purelib"))


def _names() -> list[Path]:
    from phiplug.models.leftovers import lists_of_names

    return lists_of_names()


def _partials() -> list[Path]:
    from phiplug.models.leftovers import partial_downloads

    return partial_downloads()


def _remove_partial(path: Path) -> bool:
    from phiplug.models.leftovers import remove_partial

    return remove_partial(path)


def _size_in_cache() -> int:
    from phiplug.models.local import in_cache

    return sum(model.size for model in in_cache())


def _size_in_packages() -> int:
    from phiplug.models.local import in_packages

    return sum(model.size for model in in_packages())


def _size_of_config() -> int:
    path = config_file()
    return path.stat().st_size if path and path.exists() else 0


ROWS = (
    Kept(
        "measurements",
        "checksums of models, and which thread counts are fast; they are measured again",
        _cache_path,
        _beginning_as(_cache_path),
    ),
    Kept("history", "what was typed in chats", _history_path, _beginning_as(_history_path)),
    Kept("log", "what `run` and `chat` were asked and answered", log_file, _beginning_as(log_file)),
    Kept("names", "which files the hub listed for a model; it is asked again", _hub, _names),
    Kept(
        "downloads",
        "downloads that were not finished; they begin anew",
        _hub,
        _partials,
        remove=_remove_partial,
    ),
    Kept(
        "config",
        "defaults and own names of models",
        config_file,
        _size_of_config,
        removed_by="phiplug config unset NAME",
    ),
    Kept("models", "models in the hub's cache", _hub, _size_in_cache, removed_by="phiplug models rm MODEL"),
    Kept("packages", "models in packages", _packages, _size_in_packages, removed_by="pip uninstall PACKAGE"),
)
"""Everything that is kept, one row a kind."""


@app.callback(invoke_without_command=True)
def cache(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="One line with everything.")] = False
) -> None:
    """Show what is kept on this machine, and how to be rid of it."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise InvalidParameter("json", "it belongs to the list, and not to a command")
    elif as_json:
        typer.echo(json.dumps([_described(row) for row in ROWS]))
    else:
        _print()


@app.command()
def clear(
    what: Annotated[
        str | None, typer.Argument(help="A name of the list.", show_default="all but models and packages")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove what is kept, or one kind of it; models stay."""
    from rich.filesize import decimal

    going = {row.name: row.size for row in _meant(what) if row.files}
    if not going:
        note("there is nothing to remove")
        return
    listed = ", ".join(f"{name} ({decimal(size)})" for name, size in going.items())
    if not yes:
        _confirm(listed)
    stayed = [path for row in ROWS if row.name in going for path in _left(row)]
    note(f"removed: {listed}")
    for path in stayed:
        note(f"{printable(str(path))} stays: a process is fetching it")


def _meant(what: str | None) -> list[Kept]:
    if what is None:
        return [row for row in ROWS if row.removed_by is None]
    found = [row for row in ROWS if row.name == what]
    if not found:
        names = ", ".join(row.name for row in ROWS if row.removed_by is None)
        raise InvalidParameter("what", f"nothing that is kept is called {what!r}", hint=f"one of {names}")
    if found[0].removed_by is not None:
        raise InvalidParameter("what", f"`clear` leaves {what}", hint=f"`{found[0].removed_by}` removes one")
    return found


def _confirm(listed: str) -> None:
    """Ask on stderr; an end of input is a no, since nobody is there to say yes."""
    typer.echo(f"remove {listed}? [y/N] ", nl=False, err=True)
    if sys.stdin is None or sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PhiplugError("nothing was removed", hint="--yes removes without a question")


def _left(row: Kept) -> Iterator[Path]:
    """Remove the files of a row; yield those that stay."""
    for path in row.files:
        try:
            if not row.remove(path):
                yield path
        except OSError as error:
            raise PhiplugError(
                f"{path} cannot be removed: {error.strerror or error}", hint="check the permissions of its folder"
            ) from None


def _described(row: Kept) -> dict[str, Any]:  # Any: what JSON holds
    place = row.place()
    return {
        "name": row.name,
        "about": row.about,
        "path": None if place is None else str(place),
        "bytes": row.size,
        "removed_by": _removed_by(row),
    }


def _removed_by(row: Kept) -> str:
    return row.removed_by or f"phiplug cache clear {row.name}"


def _print() -> None:
    from rich import box
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "size", "what is kept", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[1].justify = "right"
    table.columns[2].overflow = "fold"
    for row in map(_described, ROWS):
        about = Text(row["about"]).append(f"\n{printable(row['path'] or 'nowhere: there is no home folder')}", "dim")
        about.append(f"\n{row['removed_by']}")
        table.add_row(Text(row["name"], "bold"), decimal(row["bytes"]), about)
    Console(highlight=False).print(table)
