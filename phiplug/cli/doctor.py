"""`phiplug doctor`: what is here, and whether each engine computes a token. It uses no network and names no person.

Every engine runs in a process of its own, since an engine's library may end the process that loads it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiplug.cli.flags import command_app
from phiplug.errors import NotInstalled
from phiplug.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from phiplug.plugins.probe import BackendReport

PATIENCE = 120.0  # seconds; a first run also tries the file in another process

app = command_app()


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One line with everything.")] = False) -> None:
    """Report what is here, and let every engine compute one token."""
    from phiplug.plugins.manager import Plugins
    from phiplug.plugins.probe import report_backends

    reports = report_backends(Plugins.installed())
    report = _machine() | {"backends": [asdict(found) | {"run": _run(found)} for found in reports]}
    if as_json:
        typer.echo(_without_home(json.dumps(report)))
        return
    from rich.console import Console

    typer.echo(_summary(report))
    Console(highlight=False).print(_table(report["backends"]))


def _machine() -> dict[str, Any]:  # Any: what JSON holds
    from phiplug import __version__
    from phiplug.models.local import in_cache, in_packages

    stored = {"cache": sum(model.size for model in in_cache()), "packages": sum(model.size for model in in_packages())}
    return {
        "phiplug": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "free_memory": _free_memory(),
        "models": stored,
    }


def _free_memory() -> int | None:
    """Return the bytes that a program can still get, or None where nothing here can tell."""
    from phiplug.bench.meters import free_memory

    try:
        return free_memory()
    except NotInstalled:
        return None


def _run(found: BackendReport) -> dict[str, Any] | None:  # Any: what JSON holds
    """Compute one token with a backend that is available, on a model that is here already."""
    if not found.available:
        return None
    command = ["from phiplug.cli import main; main()", "run", "hi", "-b", found.name, "-n", "1", "--offline", "--json"]
    try:
        done = subprocess.run(  # noqa: S603  ourselves
            [sys.executable, "-P", "-c", *command],
            capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"works": False, "reason": f"it gave no token within {PATIENCE:g} s"}
    if done.returncode < 0:
        return {"works": False, "reason": f"it was ended by signal {-done.returncode}"}
    if done.returncode:
        return {"works": False, "reason": (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]}
    ran = json.loads(done.stdout)
    return {
        "works": True,
        "device": ran["device"],
        "model": ran["model"]["reference"],
        "metadata": ran["model"]["metadata"],
        "seconds": round(ran["timings"]["load_s"] + ran["timings"]["ttft_s"], 2),
    }


def _summary(report: dict[str, Any]) -> str:  # Any: what JSON holds
    free, stored = report["free_memory"], report["models"]
    return (
        f"phiplug {report['phiplug']}, Python {report['python']}, {report['system']}, {report['cpus']} CPUs\n"
        f"{'an unknown amount' if free is None else f'{free / 1e9:.1f} GB'} of memory is free; models take "
        f"{stored['cache'] / 1e9:.1f} GB in the cache and {stored['packages'] / 1e9:.1f} GB in packages"
    )


def _table(backends: list[dict[str, Any]]) -> RenderableType:  # Any: what JSON holds
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("backend", "computes", "about"):
        table.add_column(heading, overflow="fold")
    for found in backends:
        works = found["run"] is not None and found["run"]["works"]
        lines = (printable(_without_home(line)) for line in _about(found) if line)
        table.add_row(
            Text(found["name"], style="bold"), "[green]yes[/]" if works else "[red]no[/]", Text("\n".join(lines))
        )
    return table


def _about(found: dict[str, Any]) -> Iterator[str]:  # Any: what JSON holds
    run = found["run"]
    yield ", ".join(f"{name} {version}" for name, version in found["versions"].items()) or found["distribution"]
    if run is None:
        yield from (found["reason"], found["install"])
    elif run["works"]:
        yield f"a token of {run['model']} on {run['device']} after {run['seconds']} s"
        yield from (f"{name}: {value}" for name, value in run["metadata"].items())
    else:
        yield run["reason"]


def _without_home(text: str) -> str:
    """Take the user's name out of paths."""
    home = str(Path.home())
    written = (home, json.dumps(home)[1:-1]) if home != os.sep else ()  # as it is, and as JSON has it on Windows
    for each in written:
        text = text.replace(each, "~")
    return text
