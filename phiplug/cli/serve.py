"""`phiplug serve`: models behind the HTTP interfaces of OpenAI and Anthropic."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.flags import MODEL, BackendsFlags, command_app, takes
from phiplug.errors import InvalidParameter, NotInstalled
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from phiplug.server.catalog import ServedModel
    from phiplug.server.ports import EngineInfo

SERVER = "Server"
KEY = "PHIPLUG_API_KEY"

app = command_app()


@dataclass(frozen=True, slots=True)
class ServeFlags:
    """What is served, to whom and where."""

    more_models: Annotated[
        list[str] | None,
        typer.Option("--also", rich_help_panel=MODEL, help="Another model; may be repeated.", show_default=False),
    ] = None
    served_name: Annotated[
        str | None,
        typer.Option(
            "--served-name", rich_help_panel=MODEL, help="What clients call the model.", show_default="its reference"
        ),
    ] = None
    slots: Annotated[int, typer.Option("--slots", rich_help_panel=MODEL, help="Answers computed side by side.")] = 8
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
@takes(BackendsFlags, ServeFlags)
def serve(load: BackendsFlags, flags: ServeFlags) -> None:
    """Answer HTTP requests as OpenAI's and Anthropic's servers do."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise NotInstalled("the server's libraries are not installed", hint="pip install 'phiplug[serve]'")
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
    names = [load.model, *(flags.more_models or ())]
    models = [
        _open(replace(load, model=name), flags, flags.served_name if at == 0 else None) for at, name in enumerate(names)
    ]
    typer.secho(f"serving {', '.join(each.name for each in models)} on http://{flags.host}:{flags.port}", err=True)
    run(make_app(Catalog(models), settings), Address(flags.host, flags.port, flags.drain))


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


def _open(load: BackendsFlags, flags: ServeFlags, name: str | None) -> ServedModel:
    """Load a model on each of its backends, in this process."""
    from phiplug.server.catalog import ServedModel
    from phiplug.server.local import LocalEngine

    loaded = [load.load_on(backend, slots=flags.slots) for backend in load.backends or ["auto"]]
    engines = {llm.backend: LocalEngine(llm.engine, llm.backend, finished=llm.finished) for llm in loaded}
    first = loaded[0]
    for engine in engines.values():
        typer.secho(_described(first.files.reference, engine.info), dim=True, err=True)
    served = name or first.files.reference
    return ServedModel(served, first.prompts, first.tokenizer, first.prompts.template, engines, int(time.time()))


def _described(reference: str, info: EngineInfo) -> str:
    """Say what was loaded, and what decides whether answers repeat."""
    model = info.model
    rows = {
        "none": "a row depends on its neighbours, so requests with a seed are computed alone",
        "decode": "decoded rows do not depend on their neighbours",
        "all": "no row depends on its neighbours",
    }[model.row_independence]
    threads = f", {model.threads} threads" if model.threads else ""
    return (
        f"{reference}: {info.backend} on {model.device}{threads}, {model.slots} slots of {model.context_length}; {rows}"
    )
