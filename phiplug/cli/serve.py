"""`phiplug serve`: models behind the HTTP interfaces of OpenAI and Anthropic."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.flags import MODEL, EngineFlags, command_app, takes, template_source
from phiplug.errors import InvalidParameter, NotInstalled
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from phiplug.server.catalog import ServedModel
    from phiplug.server.ports import EngineInfo
    from phiplug.server.worker import Supervisor

SERVER = "Server"
KEY = "PHIPLUG_API_KEY"
MODELS = "PHIPLUG_MODEL"

app = command_app()


@dataclass(frozen=True, slots=True)
class ServedFlags(EngineFlags):
    """Which models, on which engines."""

    models: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", rich_help_panel=MODEL, help="Repeat it.", show_default=f"${MODELS} or smollm2"),
    ] = None
    served_names: Annotated[
        list[str] | None,
        typer.Option(
            "--served-name",
            rich_help_panel=MODEL,
            help="What clients call the model; repeat it as `-m`.",
            show_default="its reference",
        ),
    ] = None
    backends: Annotated[
        list[str] | None,
        typer.Option("-b", "--backend", rich_help_panel=MODEL, help="Repeat it.", show_default=False),
    ] = None
    slots: Annotated[int, typer.Option("--slots", rich_help_panel=MODEL, help="Answers computed side by side.")] = 8

    def named(self) -> list[tuple[str | None, str | None]]:
        """Return each model's reference, and what clients call it where that is given.

        Raises:
            InvalidParameter: there are more names than models, or two models would have one name.
        """
        models: list[str | None] = [*(self.models or ())] or [os.environ.get(MODELS) or None]
        names: list[str | None] = [*(self.served_names or ())]
        if len(names) > len(models):
            raise InvalidParameter("served_name", f"{len(names)} names are more than {len(models)} models")
        names += [None] * (len(models) - len(names))
        called = [name or model for name, model in zip(names, models, strict=True)]
        if twice := [each for each in called if called.count(each) > 1]:
            raise InvalidParameter("served_name", f"two models are called {twice[0]}", hint="name each of them")
        return list(zip(models, names, strict=True))


@dataclass(frozen=True, slots=True)
class ServeFlags:
    """To whom and where."""

    host: Annotated[str, typer.Option("--host", rich_help_panel=SERVER, help="Others than loopback need a key.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option("--port", rich_help_panel=SERVER, help="Where to listen.")] = 8080
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", rich_help_panel=SERVER, help="A name of this server; may be repeated.", show_default=False
        ),
    ] = None
    api_key_file: Annotated[
        str | None,
        typer.Option(
            "--api-key-file", rich_help_panel=SERVER, help="Its first line is the key.", show_default=f"${KEY}"
        ),
    ] = None
    lenient: Annotated[
        bool, typer.Option("--lenient", rich_help_panel=SERVER, help="Pass over unknown fields, and name them.")
    ] = False
    queue: Annotated[int, typer.Option("--queue", rich_help_panel=SERVER, help="Open requests; more get 429.")] = 128
    drain: Annotated[
        float, typer.Option("--drain", rich_help_panel=SERVER, help="Seconds for open requests at the end.")
    ] = 30.0


@app.command()
@takes(ServedFlags, ServeFlags)
def serve(load: ServedFlags, flags: ServeFlags) -> None:
    """Answer HTTP requests as OpenAI's and Anthropic's servers do."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise NotInstalled("the server's libraries are not installed", hint="pip install 'phiplug[serve]'")
    from phiplug.bench.meters import free_memory
    from phiplug.server.app import make_app
    from phiplug.server.catalog import Catalog
    from phiplug.server.running import Address
    from phiplug.server.running import serve as run
    from phiplug.server.service import Settings

    key = _key(flags)
    if key is None and not _is_loopback(flags.host):
        raise InvalidParameter("host", f"{flags.host} can be reached by others, so it needs a key", hint=f"set {KEY}")
    hosts = {"localhost", "127.0.0.1", "[::1]", flags.host.lower(), *map(str.lower, flags.allow_host or ())}
    settings = Settings(key=key, hosts=frozenset(hosts), lenient=flags.lenient, queue=flags.queue)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    opened = [_open(load, model, name) for model, name in load.named()]
    models = [served for served, _ in opened]

    async def start() -> None:
        for served, workers in opened:
            for worker in workers:
                free = free_memory()  # before the engine takes what it needs
                await worker.start()
                typer.secho(described(served.name, worker.info, load.threads, free), dim=True, err=True)
        names = ", ".join(served.name for served in models)
        typer.secho(f"serving {names} on http://{flags.host}:{flags.port}", err=True)

    run(make_app(Catalog(models), settings), Address(flags.host, flags.port, flags.drain), start)


def _key(flags: ServeFlags) -> str | None:
    """Return the key; an argument would show it to everybody who lists processes."""
    if flags.api_key_file is None:
        return os.environ.get(KEY) or None
    key = read_text("api_key_file", flags.api_key_file).partition("\n")[0].strip()
    if not key:
        raise InvalidParameter("api_key_file", f"{flags.api_key_file} begins with an empty line")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _open(load: ServedFlags, model: str | None, name: str | None) -> tuple[ServedModel, list[Supervisor]]:
    """Find a model's files, and plan a process for each backend."""
    from phiplug.cli.progress import DownloadBar
    from phiplug.server.opening import open_model
    from phiplug.server.worker import Load

    options = load.options(load.slots)
    given = {field.name: getattr(options, field.name) for field in fields(Load) if hasattr(options, field.name)}
    return open_model(
        Load(**given, reference=model, offline=load.offline),
        backends=load.backends or (),
        name=name,
        chat_template=template_source(load.chat_template),
        progress=DownloadBar(),
    )


def described(name: str, info: EngineInfo, threads: int | None, free: int) -> str:
    """Say what was loaded, what its slots take of the `free` bytes, and what decides whether answers repeat.

    `threads` is the number that was asked for.
    """
    model = info.model
    rows = {
        "none": "a row depends on its neighbours, so requests with a seed are computed alone",
        "decode": "decoded rows do not depend on their neighbours",
        "all": "no row depends on its neighbours",
    }[model.row_independence]
    measured = threads is None and "autotune" in model.features
    chosen = " (measured, and fixed from now on)" if measured else ""
    counted = f", {model.threads} thread{'s' * (model.threads > 1)}{chosen}" if model.threads else ""
    cells = ""
    if model.cache_bytes is not None:
        too_much = ", which is too much" if model.device == "cpu" and model.cache_bytes > free else ""
        cells = f": {model.cache_bytes / 1e9:.2f} GB of {free / 1e9:.1f} GB free{too_much}"
    return (
        f"{name}: {info.backend} on {model.device}{counted}; {model.slots} slots of {model.context_length} tokens"
        f"{cells}; {rows}"
    )
