"""A request on its way through one worker after another: what was drawn, what was delivered, and who waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phiplug.server.worker.wire import Begin

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from phiplug.errors import PhiplugError
    from phiplug.server.ports import Event, Work


@dataclass(slots=True)
class Run:
    """One choice of a request.

    Attributes:
        drawn: the tokens that were delivered.
        delivered: how many chunks were.
        repeated: how many chunks a new worker brings once more before it brings a new one.
        is_over: the last chunk was delivered.
    """

    drawn: list[int] = field(default_factory=list)
    delivered: int = 0
    repeated: int = 0
    is_over: bool = False


class Job:
    """A request that was submitted and has not ended.

    Attributes:
        key: its name in messages.
        work: what was asked.
        is_sent: the worker that lives now has it.
        deaths: how many workers died that had it.
        deaths_alone: how many of them had nothing else.
        begun: set once a worker has compiled the request's constraint, or the request is over.
        error: what ended it, or None.
    """

    def __init__(self, key: int, work: Work) -> None:
        self.key = key
        self.work = work
        self.is_sent = False
        self.deaths = 0
        self.deaths_alone = 0
        self.begun = asyncio.Event()
        self.error: PhiplugError | None = None
        self.queue: asyncio.Queue[Event | PhiplugError | None] = asyncio.Queue()
        self._runs = [Run() for _ in range(work.choices)]

    @property
    def is_over(self) -> bool:
        """Whether every choice had its last chunk."""
        return all(run.is_over for run in self._runs)

    def begin(self) -> Begin:
        """Return the message that has a new worker begin, or go on with what the last one drew."""
        self.is_sent = True
        for run in self._runs:
            run.repeated = run.delivered
        return Begin(
            self.key, self.work, {index: tuple(run.drawn) for index, run in enumerate(self._runs) if not run.is_over}
        )

    def take(self, event: Event) -> bool:
        """Deliver an event, unless it only repeats what was delivered; return whether it is new."""
        run = self._runs[event.choice]
        if run.repeated:
            run.repeated -= 1
            return False
        run.drawn.extend(event.chunk.tokens)
        run.delivered += 1
        run.is_over = event.chunk.finish_reason is not None
        self.queue.put_nowait(event)
        return True

    def end(self, error: PhiplugError | None = None) -> None:
        """Tell the reader that nothing more comes, and why, if it did not come to its end."""
        self.error = error
        self.begun.set()
        self.queue.put_nowait(error)


class JobEvents:
    """The chunks of one request, as `phiplug.server.ports.Events`."""

    def __init__(self, job: Job, cancel: Callable[[Job], None]) -> None:
        self._job = job
        self._cancel = cancel
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        item = await self._job.queue.get()
        if item is None:
            self._over = True
            raise StopAsyncIteration
        if isinstance(item, Exception):
            self._over = True
            raise item
        return item

    async def begun(self) -> None:
        """Wait until the request's grammar is compiled; raises the error that ended it before any chunk."""
        try:
            await self._job.begun.wait()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if self._job.error is not None:
            raise self._job.error

    async def aclose(self) -> None:
        """Cancel; the worker frees the slots before its next pass."""
        self._over = True
        self._cancel(self._job)
