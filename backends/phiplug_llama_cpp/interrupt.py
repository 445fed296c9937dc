"""Lets Ctrl-C end a pass: the engine asks for a flag, and KeyboardInterrupt follows.

Python runs a signal's handler in the main thread, between two of its own instructions. While C code runs there are
none, but for those of a callback; and what a handler raises inside a callback is lost. So a handler takes note, the
callback of an engine that can stop tells it to, and whoever called the engine raises.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType


class CtrlC:
    """Takes note of Ctrl-C inside its `with`; does nothing off the main thread, or where a program handles it itself.

    Attributes:
        watching: inside the `with`, and Ctrl-C is noted.
        pressed: it was, inside the last `with`.
    """

    def __init__(self) -> None:
        self.watching = False
        self.pressed = False

    def __enter__(self) -> CtrlC:
        self.pressed = False
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.watching = True
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self.watching:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.watching = False

    def raise_if_pressed(self) -> None:
        """Raise what Python would have raised by itself; to be called after the `with`."""
        if self.pressed:
            raise KeyboardInterrupt

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.pressed = True
