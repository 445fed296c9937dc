"""A piece of work -> its result, or its end when its time is up.

Python has no way to end a call from outside but one: an asynchronous exception, which the interpreter raises in a
thread at its next loop or call. So the work gets a thread of its own, and the exception goes there. It never reaches
another thread, and never a thread whose work is over. What it cannot end is a single long operation in C; `ledger`
sees to it that there is none. This file knows nothing of templates.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

_SENDS = 3  # one is enough, unless it hits a finalizer, in which Python reports exceptions but does not pass them on
_PATIENCE = 0.1  # seconds between two, many times the 5 ms after which the interpreter lets another thread run


class OutOfTime(BaseException):
    """The work took too long. No Exception, so that `except Exception` within the work does not catch it."""


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Run `work` in a thread of its own, and end it when `seconds` have passed or the caller is interrupted.

    Starting the thread takes about 0.1 ms.

    Raises:
        OutOfTime: the work was not done in time.
        Exception: what the work raised.
    """
    worker = _Worker(work)
    try:
        worker.wait(seconds)
    finally:
        worker.stop()
    return worker.result()


class _Worker(Generic[Result]):
    """A thread that does one piece of work and may be told to stop.

    The exception may be sent as long as the work is not marked as over. It may thus hit the marking itself, and the
    thread would end unmarked; the next thread may get the same identifier, and the next exception. So the marking is
    repeated, in nested `finally` clauses, once more often than exceptions are sent.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException = OutOfTime()
        self._lock = threading.Lock()  # whoever holds it may send, or begin, or mark
        self._over = threading.Event()
        self._ident: int | None = None  # known while there is something to stop
        self._cancelled = False
        threading.Thread(target=self._run, name="phiplug-template", daemon=True).start()

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)

    def stop(self) -> None:
        for _ in range(_SENDS):
            self._send()
            if self._over.wait(_PATIENCE if self._ident is not None else 0):
                return

    def result(self) -> Result:
        if self._over.is_set() and self._results:
            return self._results[0]
        raise self._error

    def _send(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._ident is not None and not self._over.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), ctypes.py_object(OutOfTime))

    def _run(self) -> None:
        with contextlib.suppress(OutOfTime):
            self._mark_after(_SENDS)
            for _ in range(1):  # an exception that was sent before the mark arrives at the end of this loop, if not yet
                pass

    def _mark_after(self, levels: int) -> None:
        try:
            if levels:
                self._mark_after(levels - 1)
            else:
                self._begin()
        finally:
            with self._lock:
                self._over.set()

    def _begin(self) -> None:
        with self._lock:
            if self._cancelled:
                return
            self._ident = threading.get_ident()
        try:
            self._results.append(self._work())
        except Exception as error:  # noqa: BLE001 - it is raised again, in the thread that waits
            self._error = error
