"""`phiplug plugins`: lists, checks, starts, installs and uninstalls plugins."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.flags import command_app
from phiplug.errors import PluginError
from phiplug.plugins.scaffold import Kind
from phiplug.printable import printable

if TYPE_CHECKING:
    from phiplug.plugins import Plugin
    from phiplug.testing import CheckResult

app = command_app()
AsJson = Annotated[bool, typer.Option("--json", help="One line with everything.")]
Package = Annotated[str, typer.Argument(help="As pip takes it: a name, a folder, a wheel.")]


@app.callback()
def plugins() -> None:
    """List, check, begin, install and uninstall plugins."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the plugins with their hooks; this imports all of them."""
    from phiplug.plugins import Plugins

    found = Plugins.installed()
    found.backends()  # finds out which of them keep to the contract's version and to their names
    for plugin in found:
        found.load(plugin)
    if as_json:
        typer.echo(json.dumps([_described(plugin) for plugin in found]))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("plugin", "from", "hooks", box=box.SIMPLE_HEAD, pad_edge=False)
    for plugin in found:
        said = Text(str(plugin.error), style="red") if plugin.error else "\n".join(plugin.hooks) or plugin.status
        brought = Text(printable(f"{plugin.distribution} {plugin.version}"))
        table.add_row(Text(printable(plugin.name), style="bold"), brought, said)
    Console(highlight=False).print(table)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="The backend.")],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A model.", show_default="the backend's own")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Run this test alone.", show_default="all")] = None,
    stop_first: Annotated[bool, typer.Option("--stop-first", help="Stop at the first failure.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the conformance tests on an installed backend."""
    if importlib.util.find_spec("pytest") is None or importlib.util.find_spec("hypothesis") is None:
        raise PluginError("checking needs pytest and hypothesis", hint="pip install 'phiplug[testing]'")
    from phiplug.testing import check as run_tests

    results = []
    for result in run_tests(name, model, test=test, stop_first=stop_first):
        results.append(result)
        if not as_json:
            _show(result)
    failed = sum(result.outcome == "failed" for result in results)
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results]))
    else:
        passed = sum(result.outcome == "passed" for result in results)
        skipped = len(results) - passed - failed
        typer.secho(f"{name}: {passed} tests passed, {failed} failed, {skipped} skipped", bold=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the backend: lower case, digits and hyphens.")],
    kind: Annotated[
        Kind, typer.Option("--for", help="Which models it loads: GGUF files, Hugging Face folders, or its own.")
    ] = "own",
) -> None:
    """Write a small distribution with a backend, ready for the check."""
    from phiplug.plugins.scaffold import write_plugin

    folder = write_plugin(name, Path.cwd(), kind)
    typer.echo(f"wrote {folder.name}/; next:\n  pip install -e ./{folder.name}")
    if kind == "own":
        typer.echo(f"  phiplug plugins check {name}")
    else:
        module = f"phiplug_{name.replace('-', '_')}"
        typer.echo(f"  write `compute` in {folder.name}/{module}/model.py\n  phiplug plugins check {name} -m MODEL")


@app.command()
def install(package: Package) -> None:
    """Install a plugin into this environment."""
    _pip("install", package)


@app.command()
def uninstall(name: Annotated[str, typer.Argument(help="Of a plugin or its distribution, as in the list.")]) -> None:
    """Uninstall the distribution that brought a plugin."""
    from phiplug.plugins import Plugins

    brought = [plugin for plugin in Plugins.installed() if name in (plugin.name, plugin.distribution)]
    if not brought:
        raise PluginError(f"no plugin is called {name!r}", hint="see phiplug plugins list")
    if brought[0].distribution == "phiplug":
        raise PluginError(
            f"{name!r} is part of phiplug itself", hint=f"PHIPLUG_DISABLE_PLUGINS={brought[0].name} leaves it out"
        )
    _pip("uninstall", "--yes", brought[0].distribution)


def _pip(*arguments: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise PluginError("this environment has no pip", hint="install the plugin as you installed phiplug")
    raise typer.Exit(subprocess.run([sys.executable, "-P", "-m", "pip", *arguments], check=False).returncode)  # noqa: S603


def _described(plugin: Plugin) -> dict[str, object]:
    return {
        "plugin": plugin.name,
        "group": plugin.entry.group,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "hooks": plugin.hooks,
        "error": str(plugin.error) if plugin.error else None,
    }


_MARKS = {"passed": ("passed", "green"), "failed": ("FAILED", "red"), "skipped": ("skipped", "yellow")}


def _show(result: CheckResult) -> None:
    mark, colour = _MARKS[result.outcome]
    typer.secho(f"{mark:8}", fg=colour, nl=False)
    typer.echo(f"{result.requirement} ", nl=False)
    typer.secho(f"({result.detail}) " if result.detail else "", dim=True, nl=False)
    typer.secho(f"{result.seconds:.2f} s", dim=True)
    if result.outcome == "failed":
        typer.secho(textwrap.indent(result.traceback, "  "), dim=True, nl=bool(result.traceback))
        typer.echo(f"  once more: --test {result.test.partition('[')[0]}")
