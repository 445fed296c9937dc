"""Ctrl-C during a batch: the first finishes what is open, the second drops it; SIGTERM is the second."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phiplug.batch.conduct import Running


class Interrupts:
    """Takes note of signals inside `listening`; `obey` acts on them between two steps.

    What a handler raises inside an engine's own code would be lost, so it raises only while a line is waited for, or
    the third time.

    Attributes:
        was_pressed: the run was told to stop.
    """

    def __init__(self, said: Callable[[str], None] = lambda _: None) -> None:
        """Tell `said` what the first Ctrl-C does."""
        self._said = said
        self._count = 0
        self._run: Running | None = None
        self.was_pressed = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals; off the main thread, and where they are ignored (nohup), they stay as they are."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
        before = {each: signal.signal(each, self._note) for each in heard}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def obey(self, run: Running) -> None:
        """Do what was asked for.

        Raises:
            KeyboardInterrupt: the open lines are to be dropped.
        """
        self._run = run
        if self._count > 1:
            raise KeyboardInterrupt
        if self._count and not self.was_pressed:
            self.was_pressed = True
            run.stop()
            self._said(f"finishing {run.open} open lines; Ctrl-C again drops them")

    def _note(self, number: int, _: FrameType | None) -> None:
        self._count += 2 if number == signal.SIGTERM else 1
        if self._count > 2 or (self._run is not None and self._run.is_reading):
            raise KeyboardInterrupt
