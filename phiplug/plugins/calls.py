"""Calls a plugin's code so that it can fail, print, exit or hang without harm to its caller.

The code runs in a thread of its own, which is left behind when the time is over: Python cannot end a thread, but a
daemon keeps no process alive. Nothing here knows what a plugin is asked.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from phiplug.errors import PhiplugError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TIMEOUT_S = 10.0  # an import or a hook is meant to be cheap; a cold disk makes some take seconds


class _Diversion(contextlib.AbstractContextManager[None]):
    """Sends what Python prints to stdout to stderr; several threads may be within at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._stdout = sys.stdout

    def __enter__(self) -> None:
        with self._lock:
            if self._within == 0:
                self._stdout, sys.stdout = sys.stdout, sys.stderr
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                sys.stdout = self._stdout


quiet = _Diversion()  # one, since sys.stdout is one for the whole process


class NoAnswer(Exception):
    """A plugin's code did not return in time."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns; what it prints meanwhile goes to stderr.

    Raises:
        NoAnswer: it did not return in so many seconds.
        BaseException: what it raised. A KeyboardInterrupt is the user's and never the plugin's.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # noqa: BLE001  a plugin may even call sys.exit(); the caller raises it
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="phiplug plugin", daemon=True)
    with quiet:
        thread.start()
        thread.join(seconds)
    if raised:
        raise RuntimeError(said(raised[0])) if isinstance(raised[0], KeyboardInterrupt) else raised[0]
    if not returned:
        raise NoAnswer(f"it gave no answer within {seconds:g} s")
    return returned[0]


def guarded(owner: str, call: Callable[[], T], error: type[PhiplugError], *, seconds: float = TIMEOUT_S) -> T:
    """Call a plugin within a time limit; what it raises that is not ours becomes `error` and names its owner."""
    try:
        return within(seconds, call)
    except (KeyboardInterrupt, PhiplugError):
        raise
    except BaseException as raised:
        raise error(f"{owner} failed: {said(raised)}") from raised


def said(error: BaseException) -> str:
    """Say an exception in a few words, those of `NoAnswer` alone, others with the name of their class."""
    if isinstance(error, NoAnswer):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
