"""The file of the rows: one run at a time, flushed per row, on the disk within a second, and mended where it was torn.

It knows nothing of what a row says.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from phiplug.batch.manifest import Done
from phiplug.errors import InvalidParameter
from phiplug.userfiles import expanded

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SYNC_S = 1.0


class Output:
    """An output that this process alone writes; also a context manager, which syncs and closes it.

    Attributes:
        path: where it is, links followed.
        done: the lines that have a row already.
    """

    def __init__(self, path: str, *, resume: bool = False) -> None:
        """Open it, take its lock, and with `resume` read what is there and cut off a last line that is not whole.

        Raises:
            InvalidParameter: it cannot be written, another run writes it, or it exists and `resume` is not set.
        """
        self.path = Path(os.path.realpath(expanded(path)))
        self.done = Done()
        self._handle = _opened(self.path, path, resume=resume)
        self._synced, self._dirty = time.monotonic(), False
        try:
            _lock(self._handle, path)
            if resume:
                self._mend(path)
        except BaseException:
            os.close(self._handle)
            raise

    def _mend(self, name: str) -> None:
        with self.path.open("rb") as file:
            self.done, end = Done.of(file, name)
        os.ftruncate(self._handle, end)
        os.lseek(self._handle, end, os.SEEK_SET)

    def write(self, row: bytes) -> None:
        """Append a row; the system has it when this returns.

        Raises:
            InvalidParameter: the disk is full, or gone.
        """
        _write(self._handle, row, str(self.path))
        self._dirty = True
        self.tick()

    def tick(self) -> None:
        """See that the rows are on the disk, once a second; to be called often."""
        if self._dirty and time.monotonic() - self._synced >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """See that all rows are on the disk."""
        os.fsync(self._handle)
        self._synced, self._dirty = time.monotonic(), False

    def close(self) -> None:
        """Sync, let go of the lock, and close."""
        try:
            self.sync()
        finally:
            os.close(self._handle)

    def discard(self) -> None:
        """Remove an output that this run has made and not written to."""
        if os.fstat(self._handle).st_size == 0:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()


class Pipe:
    """An output that can only be written to, such as standard output: no lock, no sync, nothing to resume."""

    def __init__(self, handle: int, name: str) -> None:
        self.done = Done()
        self._handle, self._name = handle, name

    def write(self, row: bytes) -> None:
        """Write a row; raises as `Output.write` does, and BrokenPipeError where the reader has gone."""
        _write(self._handle, row, self._name)

    def tick(self) -> None:
        """Do nothing: there is no disk."""


def _opened(path: Path, name: str, *, resume: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags if resume else flags | os.O_EXCL, 0o666)
    except FileExistsError:
        if not path.is_file():
            raise _irregular(name) from None
        hint = "`resume` goes on with it; else name another"
        raise InvalidParameter("output", f"{name} is there already", hint=hint) from None
    except (OSError, ValueError) as error:
        raise InvalidParameter("output", f"{name} cannot be written: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _irregular(name)
    return handle


def _irregular(name: str) -> InvalidParameter:
    return InvalidParameter("output", f"{name} is no regular file", hint="- is standard output")


def _lock(handle: int, name: str) -> None:
    """Take the lock of the file, which ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidParameter("output", f"another run writes {name}", hint="wait for it, or name another") from None
    except OSError:  # a file system without locks
        return


def _write(handle: int, data: bytes, name: str) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(handle, rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = "the rows that are whole stand; `resume` goes on"
        raise InvalidParameter("output", f"{name} cannot be written: {error.strerror}", hint=hint) from None
