"""The worker's ends of its two pipes, each read or written by a thread of its own, so that computing never waits.

They know the messages and nothing of what they are for.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from phiplug.server.worker.wire import Beat, Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from phiplug.errors import PhiplugError
    from phiplug.server.worker.wire import Begin, FromWorker, ToWorker

BEAT_S = 1.0
FAREWELL_S = 5.0
"""How long a worker whose supervisor has gone may take for the step that runs."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Says within this process that a request's constraint is compiled, or why it cannot be."""

    begin: Begin
    error: PhiplugError | None


class Inbox:
    """What the supervisor says, as it comes; None once it has closed the pipe or died."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._messages: queue.SimpleQueue[ToWorker | Compiled | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, daemon=True, name="phiplug-inbox").start()

    def put(self, message: Compiled) -> None:
        """Say something from within this process."""
        self._messages.put(message)

    def get(self, *, wait: bool) -> ToWorker | Compiled | None:
        """Return the next message.

        Raises:
            queue.Empty: there is none, and `wait` is false.
        """
        return self._messages.get(block=wait)

    def _read(self) -> None:
        decoder = Decoder()
        while data := os.read(self._pipe.fileno(), 1 << 16):
            for message in decoder.feed(data):
                self._messages.put(message)
        self._messages.put(None)
        time.sleep(FAREWELL_S)
        os._exit(1)  # the computing thread hangs, and nobody is left who would end this process


class Outbox:
    """What the supervisor is told.

    The computing thread holds Python's lock until its next pass has begun, so a message is written beside that pass:
    waking the supervisor takes a core for a moment, which the pass would otherwise wait for.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._messages: queue.SimpleQueue[FromWorker | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True, name="phiplug-outbox")

    def start(self, beat: Callable[[], Beat]) -> None:
        """Begin to write, and to say every second what `beat` returns."""
        self._thread.start()
        threading.Thread(target=self._beat, args=(beat,), daemon=True, name="phiplug-beat").start()

    def put(self, message: FromWorker) -> None:
        """Have a message written soon."""
        self._messages.put(message)

    def close(self) -> None:
        """Write what is left."""
        self._messages.put(None)
        self._thread.join()

    def _write(self) -> None:
        try:
            while (message := self._messages.get()) is not None:
                self._pipe.write(encode(message))
                self._pipe.flush()
        except OSError:  # the supervisor has gone; the inbox ends the process
            return

    def _beat(self, beat: Callable[[], Beat]) -> None:
        while True:
            self.put(beat())
            time.sleep(BEAT_S)


class Pulse:
    """How long the computing thread has been at its step, and what processor time it has used. Made in that thread."""

    def __init__(self) -> None:
        self._clock = _thread_clock()
        self._began: float | None = None
        self._longest = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._began is not None:
            self._longest = max(self._longest, time.monotonic() - self._began)
        self._began = None

    def beat(self) -> Beat:
        """Say how it goes; may be called from any thread."""
        began = self._began
        age = None if began is None else time.monotonic() - began
        return Beat(age, self._longest, None if self._clock is None else time.clock_gettime(self._clock))


def _thread_clock() -> Any:  # Any: int, or None where the system has no clock for a thread
    if sys.platform == "linux":
        return time.pthread_getcpuclockid(threading.get_ident())
    return None
