"""How far a batch is: a line on stderr, with its rate and the time left, where stderr is a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from phiplug.batch.conduct import Running, Tally

EVERY_S = 0.5


class Screen:
    """Shows a line that is written anew twice a second; also a context manager, which erases it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown = -EVERY_S
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def show(self, run: Running, tally: Tally) -> None:
        """Show how far it is, unless that was done just now."""
        now = self._clock()
        if self._is_terminal and now - self._shown >= EVERY_S:
            self._shown = now
            print(f"\r{progress(tally, run.open, now)}\x1b[K", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._erase()
        print(text, file=sys.stderr, flush=True)

    def _erase(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._erase()


def progress(tally: Tally, open_lines: int, now: float) -> str:
    """Return the line: rows, errors, rates, and the time left by the share of the input that was read."""
    seconds = max(now - tally.started, 1e-9)
    parts = [f"{tally.rows + tally.skipped} rows"]
    if tally.errors:
        parts.append(f"{tally.errors} errors")
    parts += [f"{open_lines} open", f"{tally.rows / seconds:.1f} rows/s", f"{tally.tokens / seconds:.0f} tokens/s"]
    if tally.size and tally.rows and tally.position:
        share = min(tally.position / tally.size, 1.0)
        left = (tally.rows + tally.skipped) * (1 - share) / share * seconds / tally.rows
        parts.append(f"{share:.0%} read, {_spelt(left)} left")
    return ", ".join(parts)


def summary(tally: Tally, now: float) -> str:
    """Return the last line: what was written, and how fast."""
    seconds = max(now - tally.started, 1e-9)
    skipped = f", {tally.skipped} were there already" if tally.skipped else ""
    answers = tally.rows - tally.errors
    return (
        f"{tally.rows} rows: {answers} answers, {tally.errors} errors{skipped}; {tally.tokens} tokens in "
        f"{_spelt(seconds)} ({tally.tokens / seconds:.0f} tokens/s)"
    )


def _spelt(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
