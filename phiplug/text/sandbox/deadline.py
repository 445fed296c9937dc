"""A piece of work -> its result, or its end when its time is up.

Python has no way to end a call from outside but one: an asynchronous exception, which the interpreter raises in a
thread at its next loop or call. So the work gets a thread of its own, and the exception goes there. It never reaches
another thread, and never a thread whose work is over. What it cannot end is a single long operation in C; `ledger`
sees to it that there is none. This file knows nothing of templates.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Result = TypeVar("Result")

_SENDS = 3  # one is enough, unless the work swallows it, as a finalizer does
_PATIENCE = 0.1  # seconds between two, many times the 5 ms after which the interpreter lets another thread run
_BUSY = 3  # with ten processes on two cores, a compilation of 0.1 s was seen to take more than 1
_LEAST_PAUSE = 0.01  # seconds


class OutOfTime(BaseException):
    """The work took too long. No Exception, so that `except Exception` within the work does not catch it."""


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Run `work` in a thread of its own, and end it when its time is up or the caller is interrupted.

    Its time is up after `seconds`, if the process had the processor for as long; on a busy machine it may take up to
    `_BUSY` times longer. Starting the thread takes about 0.1 ms.

    Raises:
        OutOfTime: the work was not done in time.
        Exception: what the work raised.
    """
    worker = _Worker(work)
    try:
        _wait(worker, seconds)
    finally:
        worker.stop()
    return worker.result()


def _wait(worker: _Worker[Result], seconds: float) -> None:
    processor, clock = time.process_time() + seconds, time.monotonic() + _BUSY * seconds
    pause = seconds
    while not worker.wait(pause):
        left = min(processor - time.process_time(), clock - time.monotonic())
        if left <= 0:
            return
        pause = max(left, _LEAST_PAUSE)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector from running other people's finalizers in a thread that is about to be interrupted."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Worker(Generic[Result]):
    """A thread that does one piece of work and may be told to stop.

    It is a bare one of `_thread`: what `threading` does before and after the work would not be safe from the exception.
    Nor would its locks be, which the exception may leave locked; so flags are raised here, one by each side, before it
    looks at the other's.

    The exception may be sent as long as the work is not marked as over. It may thus hit the marking itself, and the
    thread would end unmarked; the next thread may get the same identifier, and the next exception. So the marking is
    repeated, in nested `finally` clauses, once more often than exceptions are sent.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException = OutOfTime()
        self._ident: int | None = None  # known from when there is something to stop
        self._cancelled = False
        self._sending = False
        self._over = False
        self._ended = _thread.allocate_lock()  # held until the work is over
        self._ended.acquire()
        _thread.start_new_thread(self._run, ())

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the work; return whether it came."""
        return self._ended.acquire(timeout=seconds)

    def stop(self) -> None:
        self._cancelled = True
        if self._over or self._ident is None:
            return
        with _no_collection():
            self.wait(_LEAST_PAUSE)
            for _ in range(_SENDS):
                if not self._over:
                    self._send()
                    self.wait(_PATIENCE)

    def result(self) -> Result:
        if self._over and self._results:
            return self._results[0]
        raise self._error

    def _send(self) -> None:
        try:
            self._sending = True
            if not self._over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._ident or 0), ctypes.py_object(OutOfTime)
                )
        finally:
            self._sending = False

    def _run(self) -> None:
        with contextlib.suppress(OutOfTime):
            with contextlib.suppress(OutOfTime):
                self._mark_after(_SENDS)
            for _ in "1":  # what was sent before the mark and is still on its way arrives at the end of this loop
                pass

    def _mark_after(self, levels: int) -> None:
        try:
            if levels:
                self._mark_after(levels - 1)
            else:
                self._begin()
        finally:
            self._over = True
            while self._sending:
                time.sleep(0.001)
            if self._ended.locked():
                self._ended.release()

    def _begin(self) -> None:
        self._ident = _thread.get_ident()
        if self._cancelled:
            return
        try:
            self._results.append(self._work())
        except Exception as error:  # noqa: BLE001 - it is raised again, in the thread that waits
            self._error = error
