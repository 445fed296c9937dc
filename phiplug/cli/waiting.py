"""Shows on stderr what is being waited for, where that takes more than a second and somebody is looking."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from phiplug.cli.statistics import counted, rate

if TYPE_CHECKING:
    from phiplug.types import PromptProgress

AFTER_S = 1.0
EVERY_S = 0.25
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
T = TypeVar("T")


@contextmanager
def waiting(what: str | Callable[[float], str]) -> Iterator[Callable[[], None]]:
    """Show a line while the block runs, and yield what takes it away early; only a terminal shows it.

    `what` is the line, or makes it from the seconds so far.
    """
    over = threading.Event()
    if sys.stderr is None or not sys.stderr.isatty():
        yield over.set
        return
    thread = threading.Thread(target=_show, args=(what, over), daemon=True)

    def end() -> None:
        over.set()
        thread.join()

    thread.start()
    try:
        yield end
    finally:
        end()


def awaited(items: Iterator[T], progress: Callable[[], PromptProgress]) -> Iterator[T]:
    """Yield the chunks of an answer; until the first one comes, show how much of the prompt was read."""
    with waiting(Reading(progress)):
        first = next(items, None)
    if first is not None:
        yield first
        yield from items


class Reading:
    """Says in words how far a prompt is, and how fast its parts were read."""

    def __init__(self, progress: Callable[[], PromptProgress]) -> None:
        self._progress = progress
        self._done = 0
        self._rate = ""

    def __call__(self, seconds: float) -> str:
        """Return the line after so many seconds; the rate changes where a part has come to its end."""
        now = self._progress()
        computed = now.done - now.reused
        if now.done != self._done and computed:
            self._done = now.done
            self._rate = f", {now.done / now.total:.0%} at {rate(computed / seconds)}"
        return f"reading {counted(now.total, 'token')}{self._rate}"


def _show(what: str | Callable[[float], str], over: threading.Event) -> None:
    """Show the line, with the seconds so far, and erase it at the end."""
    started = time.monotonic()
    pause = AFTER_S
    frames = FRAMES if "utf" in (sys.stderr.encoding or "").lower() else "|/-\\"
    turn = 0
    while not over.wait(pause):
        pause = EVERY_S
        seconds = time.monotonic() - started
        line = f"{frames[turn % len(frames)]} {what if isinstance(what, str) else what(seconds)}, {seconds:.0f} s"
        turn += 1
        print(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)
    if turn:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
