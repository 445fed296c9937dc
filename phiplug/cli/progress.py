"""Shows how far a download is: a bar on stderr, or a line for each file where stderr is no terminal.

rich is imported when the first download starts, and not before: most commands fetch nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import Progress, TaskID


class DownloadBar:
    """A `phiplug.models.download.Progress` that people look at."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        """Call `before` when the first download starts: it may clear the line that the bar needs."""
        self._before = before
        self._name = ""
        self._bar: tuple[Progress, TaskID] | None = None

    def start(self, name: str, total: int) -> None:
        """Show an empty bar for a file of `total` bytes; the same file again empties the bar that it has."""
        from rich.console import Console
        from rich.filesize import decimal

        if self._bar is not None and name == self._name:
            self._bar[0].reset(self._bar[1], total=total)
            return
        self.finish()
        self._before()
        self._name = name
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = _bar(console, name, total)
        else:
            typer.echo(f"fetching {name} ({decimal(total)})", err=True)

    def advance(self, count: int) -> None:
        """Lengthen the bar by `count` bytes."""
        if self._bar is not None:
            self._bar[0].advance(self._bar[1], count)

    def finish(self) -> None:
        """Leave the bar as it is, and the cursor below it."""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None


def _bar(console: Console, name: str, total: int) -> tuple[Progress, TaskID]:
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

    bar = Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        expand=True,
    )
    bar.start()
    return bar, bar.add_task(escape(name.rpartition("/")[2]), total=total)
