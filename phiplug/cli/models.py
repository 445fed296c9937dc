"""`phiplug models`: list what is on this machine, fetch, look into, remove. None of it imports an engine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiplug.cli.flags import command_app, template_source
from phiplug.errors import InvalidParameter, ModelError, ModelNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from phiplug.models.local import StoredModel
    from phiplug.plugins import Plugins
    from phiplug.spi import ModelFiles

app = command_app()
AsJson = Annotated[bool, typer.Option("--json", help="One line with everything.")]
Model = Annotated[str, typer.Argument(help="A path, an alias, hf:owner/repo or package:name/file.gguf.")]


@app.callback(no_args_is_help=True)
def models() -> None:
    """List, fetch, look into and remove models."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the models in the hub's cache and in installed packages."""
    from phiplug.cli import modelinfo
    from phiplug.load import aliases
    from phiplug.plugins import Plugins

    names = _named(aliases(Plugins.installed()))
    rows = [_row(model, [name for name, path in names.items() if path == model.path]) for model in _stored()]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    modelinfo.print_list(rows)
    absent = sorted(name for name, path in names.items() if path is None)
    typer.secho(f"fetched when first used: {', '.join(absent)}" if absent else "", dim=True, err=True)


@app.command()
def pull(model: Model) -> None:
    """Fetch a model, or what has changed of it on the hub, and print where it is."""
    from phiplug.cli.progress import DownloadBar
    from phiplug.load import find
    from phiplug.plugins import Plugins

    typer.echo(find(model, Plugins.installed(), update=True, progress=DownloadBar()).path)


@app.command()
def info(
    model: Model,
    template: Annotated[
        bool, typer.Option("--template", help="The chat template, and what it makes of a conversation.")
    ] = False,
    chat_template: Annotated[
        str | None,
        typer.Option("--chat-template", help="A Jinja file to look at in place of the model's.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model is, from its header alone; nothing is fetched."""
    from phiplug.cli import modelinfo
    from phiplug.modelinfo.description import describe
    from phiplug.plugins import Plugins

    plugins = Plugins.installed()
    plugins.backends()  # loaded, because a backend may know models of its own
    found = describe(_here(model, plugins), plugins, template=template_source(chat_template))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    elif template:
        modelinfo.print_template(found)
    else:
        modelinfo.print_description(found)


@app.command()
def alias(
    name: Annotated[str, typer.Argument(help="What you want to write.")],
    reference: Annotated[str, typer.Argument(help="A path, an alias, hf:owner/repo or package:name/file.gguf.")],
) -> None:
    """Give a model a short name of your own."""
    from pathlib import Path

    from phiplug.cli import note
    from phiplug.config import ConfigFile
    from phiplug.load import aliases
    from phiplug.models.reference import parse
    from phiplug.plugins import Plugins
    from phiplug.userfiles import expanded

    file = ConfigFile.of_user()
    own = file.read().aliases
    known = {each for each in aliases(Plugins.installed()) if each not in own}
    if name in known:
        raise InvalidParameter("alias", f"{name} is the name of another model", hint="choose another")
    reference = own.get(reference, reference)
    if parse(reference).kind == "path":
        reference = str(Path.cwd() / expanded(reference))  # it holds wherever phiplug is called next
    file.set_alias(name, reference)
    note(f"{name} stands for {reference}")


@app.command()
def unalias(name: Annotated[str, typer.Argument(help="A short name of your own.")]) -> None:
    """Remove a short name of your own; the model stays."""
    from phiplug.cli import note
    from phiplug.config import ConfigFile

    file = ConfigFile.of_user()
    if not file.unset_alias(name):
        own = ", ".join(file.read().aliases) or "there are none"
        raise InvalidParameter("alias", f"{name} is no short name of your own", hint=own)
    note(f"{name} is removed")


@app.command()
def rm(model: Model) -> None:
    """Remove a model from the hub's cache."""
    from rich.filesize import decimal

    from phiplug.load import aliases
    from phiplug.models.local import remove
    from phiplug.plugins import Plugins

    freed = remove(model, aliases=aliases(Plugins.installed()))
    typer.secho(f"{model} is removed; {decimal(freed)} became free", err=True)


def _here(reference: str, plugins: Plugins) -> ModelFiles:
    """Find a model that is on this machine; to look into one is no reason to fetch it."""
    from phiplug.load import aliases, find
    from phiplug.models.reference import parse

    try:
        return find(reference, plugins, offline=True)
    except ModelNotFound:
        if parse(reference).kind != "hub" and reference not in aliases(plugins):
            raise
        raise ModelNotFound(
            f"{reference} is not on this machine", hint=f"`phiplug models pull {reference}` fetches it"
        ) from None


def _stored() -> list[StoredModel]:
    from phiplug.models.local import in_cache, in_packages

    return in_packages() + in_cache()


def _named(aliases: Mapping[str, Sequence[str]]) -> dict[str, Path | None]:
    """Return where the model of each short name is; None where it is not on this machine."""
    from phiplug.models.hub import resolve

    found: dict[str, Path | None] = dict.fromkeys(aliases)
    for name in aliases:
        with contextlib.suppress(ModelError):
            found[name] = resolve(name, aliases=aliases, offline=True).path
    return found


def _row(model: StoredModel, names: list[str]) -> dict[str, Any]:  # Any: what JSON holds
    """Describe a model of the list; one whose header cannot be read is listed with the reason."""
    from phiplug.modelinfo.description import licence_of
    from phiplug.models.metadata import ModelMetadata, read_metadata
    from phiplug.spi import ModelFiles

    files = ModelFiles(names[0] if names else model.reference, model.path, model.format)
    try:
        metadata, problem = read_metadata(files), None
    except ModelError as error:
        metadata, problem = ModelMetadata(), f"{error} [{type(error).__name__}]"
    return {
        "reference": model.reference,
        "aliases": names,
        "path": str(model.path),
        "format": model.format,
        "size": model.size,
        "place": model.place,
        "quantization": metadata.quantization,
        "licence": licence_of(files, metadata),
        "problem": problem,
    }
