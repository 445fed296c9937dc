"""`phiplug backends`: what is installed, whether it works here, and the command that would make it work."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.flags import command_app
from phiplug.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from phiplug.plugins.probe import BackendReport

app = command_app()


@app.command()
def backends(as_json: Annotated[bool, typer.Option("--json", help="One line with everything.")] = False) -> None:
    """List the backends, whether they work here, and how to install them."""
    from phiplug.plugins.manager import BACKENDS, Plugins
    from phiplug.plugins.probe import report_backends

    plugins = Plugins.installed()
    reports = report_backends(plugins)
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports]))
        return
    from rich.console import Console

    Console(highlight=False).print(_table(reports))
    off = [plugin.name for plugin in plugins if plugin.entry.group == BACKENDS and plugin.status == "disabled"]
    if off:
        typer.echo(f"disabled by PHIPLUG_DISABLE_PLUGINS: {', '.join(off)}")


def _table(reports: list[BackendReport]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("backend", "here", "devices", "about"):
        table.add_column(heading, overflow="fold")
    for report in reports:
        here = "[green]yes[/]" if report.available else "[red]no[/]"
        table.add_row(Text(report.name, style="bold"), here, Text(" ".join(report.devices)), _about(report))
    return table


def _about(report: BackendReport) -> RenderableType:
    """Say what the backend is, and what keeps it from working."""
    from rich.text import Text

    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items()) or report.distribution
    lines = [report.summary, versions] if report.available else [report.summary, report.reason, report.install]
    return Text("\n".join(printable(line) for line in lines if line))
