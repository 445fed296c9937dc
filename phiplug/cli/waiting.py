"""Shows on stderr what is being waited for, where that takes more than two seconds and somebody is looking."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

AFTER_S = 2.0
T = TypeVar("T")


@contextmanager
def waiting(text: str) -> Iterator[Callable[[], None]]:
    """Show a line while the block runs, and yield what takes it away early; only a terminal shows it."""
    over = threading.Event()
    if sys.stderr is None or not sys.stderr.isatty():
        yield over.set
        return
    thread = threading.Thread(target=_show, args=(text, over), daemon=True)

    def end() -> None:
        over.set()
        thread.join()

    thread.start()
    try:
        yield end
    finally:
        end()


def awaited(items: Iterator[T], text: str) -> Iterator[T]:
    """Yield the items, and show a line until the first one comes."""
    with waiting(text):
        first = next(items, None)
    if first is not None:
        yield first
        yield from items


def _show(text: str, over: threading.Event) -> None:
    """Show the line, with the seconds so far, and erase it at the end."""
    started = time.monotonic()
    pause = AFTER_S
    while not over.wait(pause):
        pause = 1.0
        print(f"\r{text}, {time.monotonic() - started:.0f} s\x1b[K", end="", file=sys.stderr, flush=True)
    if pause != AFTER_S:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
