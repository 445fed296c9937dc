"""Shows Markdown that comes in pieces: what the end of a text means changes while it grows, so its lines are redrawn.

A block that another one follows is left alone. Of the last one, those lines are written anew that differ from what is
on the screen; lines that have left it at the top stay as they were.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.cells import cell_len

from phiplug.cli.markdown import blocks, plain, render

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from rich.console import Console

PAUSE_S = 0.05
SHARE = 0.1
"""After a drawing nothing is drawn for so long, or longer: the answer waits for at most this share of the time."""

_UNDECIDED = re.compile(r" {0,3}(?:[-=*_+#>~`]{1,3}|\d{1,3}[.)]?) ?")
_ROW = re.compile(r" {0,3}\|")


class StreamedMarkdown:
    """Turns pieces of Markdown into what a terminal has to be sent."""

    def __init__(
        self,
        console: Console,
        size: Callable[[], os.terminal_size],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Render with `console`; `size` is asked before each drawing, because it may change."""
        self._console = console
        self._size = size
        self._clock = clock
        self._text = ""
        self._lines: list[str] = []  # of the last block, as they are on the screen
        self._next = 0.0

    def feed(self, text: str) -> str:
        """Return what shows the text so far; nothing where something was drawn just now."""
        self._text += text
        begun = self._clock()
        if begun < self._next:
            return ""
        drawn = self._draw(settled(self._text))
        now = self._clock()
        self._next = now + max(PAUSE_S, (now - begun) / SHARE)
        return drawn

    def end(self) -> str:
        """Return what shows the rest."""
        return self._draw(self._text)

    def _draw(self, text: str) -> str:
        width, height = self._size()
        found = blocks(text)
        lines: list[str] = []
        last: list[str] = []
        for block in found:
            if lines and block.is_apart:
                lines.append("")
            last = render(block, self._console, width)
            lines += last
        drawn = redrawn(self._lines, lines, width, height)
        self._lines = last or lines
        if last:
            self._text = "\n".join(self._text.split("\n")[found[-1].start :])
        return drawn


def settled(text: str) -> str:
    """Return the text without an end of which the next character may make something else.

    A mark at the beginning of a line may be a list, a rule or a heading; a table has its form with its second line.
    """
    lines = text.split("\n")
    if _UNDECIDED.fullmatch(lines[-1]):
        return "\n".join(lines[:-1])
    rows = 0
    while rows < len(lines) and _ROW.match(lines[-1 - rows]):
        rows += 1
    if rows:
        return "\n".join(lines[: -rows if rows < 3 else -1])
    return text


def redrawn(old: Sequence[str], new: Sequence[str], width: int, height: int) -> str:
    """Return what turns the lines `old`, at whose end the cursor is, into `new`."""
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    if same == len(old):
        return "\n".join(["", *new[same:]] if old and len(new) > same else new[same:])
    first = max(same, _reachable(old, width, height))
    if first == len(old) - 1 < len(new) and new[first].startswith(old[first]):
        return "\n".join([new[first][len(old[first]) :], *new[first + 1 :]])
    first = min(first, max(len(new) - 1, 0))
    up = sum(_rows(line, width) for line in old[first:]) - 1
    erased = "\r\x1b[K" + "\x1b[A\x1b[K" * up  # row by row: tmux keeps what is erased all at once from the top row on
    return erased + "\n".join(new[first:])


def _reachable(lines: Sequence[str], width: int, height: int) -> int:
    """Return the first line that is on the screen whole."""
    rows = 0
    for at in reversed(range(len(lines))):
        rows += _rows(lines[at], width)
        if rows > height:
            return min(at + 1, len(lines) - 1)
    return 0


def _rows(line: str, width: int) -> int:
    """Return how many rows of the screen a line takes."""
    return max(1, -(-cell_len(plain(line)) // max(width, 1)))
