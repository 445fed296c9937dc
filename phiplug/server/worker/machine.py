"""What a supervisor needs of the machine: a clock, the process table, and a worker's process to start.

Tests put another one in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Protocol

from phiplug.server.worker.health import Look
from phiplug.server.worker.wire import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from phiplug.server.worker.wire import FromWorker, ToWorker

COMMAND = (sys.executable, "-P", "-m", "phiplug.server.worker.process")
GRACE_S = 2.0
"""How long a process may live on after it has closed its pipe."""


class Child(Protocol):
    """A worker's process.

    Attributes:
        pid: its number.
    """

    pid: int

    def send(self, message: ToWorker) -> None:
        """Write a message soon; one to a process that has died is lost."""
        ...

    def messages(self) -> AsyncIterator[FromWorker]:
        """Yield what it says, until it ends."""
        ...

    def dismiss(self) -> None:
        """Let it end when its step is done."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...

    async def wait(self) -> int:
        """Return its exit code; the negative number of the signal that ended it."""
        ...


class Machine(Protocol):
    """Where workers run."""

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...

    def look(self, pid: int) -> Look | None:
        """Say what the system knows of a process, or None where it has ended."""
        ...

    async def spawn(self) -> Child:
        """Start a worker's process.

        Raises:
            OSError: the system refuses.
        """
        ...


class ThisMachine:
    """The machine that this process runs on."""

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)

    def look(self, pid: int) -> Look | None:
        """Say what the system knows of a process, or None where it has ended."""
        import psutil  # type: ignore[import-untyped, unused-ignore]

        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            return Look(self.now(), process.status() == psutil.STATUS_STOPPED, times.user + times.system)
        except psutil.Error:
            return None

    async def spawn(self) -> Child:
        """Start a worker's process, in a session of its own: Ctrl-C is the supervisor's to handle."""
        return ChildProcess(
            await asyncio.create_subprocess_exec(
                *COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
            )
        )


class ChildProcess:
    """A worker's process on this machine."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    def send(self, message: ToWorker) -> None:
        """Write a message soon; one to a process that has died is lost."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(encode(message))

    async def messages(self) -> AsyncIterator[FromWorker]:
        """Yield what it says, until it ends."""
        decoder = Decoder()
        while self._process.stdout is not None and (data := await self._process.stdout.read(1 << 16)):
            for message in decoder.feed(data):
                yield message

    def dismiss(self) -> None:
        """Let it end when its step is done."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        """Return its exit code; a process that has closed its pipe and does not end is killed."""
        try:
            async with asyncio.timeout(GRACE_S):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        self.dismiss()
        return code
