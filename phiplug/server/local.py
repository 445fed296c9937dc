"""An engine in this process: a thread for each request reads its streams and hands the chunks to the event loop.

It is what tests of HTTP stand on, and what the worker process is compared with.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING

from phiplug.engine import merged
from phiplug.errors import PhiplugError
from phiplug.server.ports import EngineInfo, EngineStatus, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from phiplug.engine import Engine, Stream
    from phiplug.engine.stream import Observer
    from phiplug.server.ports import Work


class LocalEngine:
    """An `EnginePort` over an engine that this process has loaded; it closes the engine."""

    def __init__(self, engine: Engine, backend: str, *, finished: Observer | None = None) -> None:
        """Answer with `engine`; `finished` is told of each answer that ran to its end."""
        self._engine = engine
        self._finished = finished
        self._backend = backend
        self._open: set[LocalEvents] = set()

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return EngineInfo(self._backend, self._engine.model.info)

    @property
    def status(self) -> EngineStatus:
        """It is ready as long as this process runs."""
        return EngineStatus(open=len(self._open))

    async def submit(self, work: Work) -> LocalEvents:
        """Queue a request; raises what `Engine.submit` does."""
        begin = partial(self._engine.choices, work.request, work.choices, self._finished)
        streams = await asyncio.to_thread(begin) if work.request.has_grammar else begin()  # to compile may take seconds
        events = LocalEvents(streams, self._open.discard)
        self._open.add(events)
        events.start()
        return events

    async def close(self) -> None:
        """Give back the model's memory, after the pass that runs."""
        await asyncio.to_thread(self._engine.close)


class LocalEvents:
    """The chunks of one request, as `phiplug.server.ports.Events`."""

    def __init__(self, streams: Sequence[Stream], ended: Callable[[LocalEvents], None]) -> None:
        self._streams = streams
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Event | PhiplugError | None] = asyncio.Queue()
        self._over = False

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, daemon=True, name="phiplug-request").start()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        item = await self._queue.get()
        if isinstance(item, Event):
            return item
        await self.aclose()
        if item is None:
            raise StopAsyncIteration
        raise item

    async def aclose(self) -> None:
        """Cancel; the next step of the loop frees the slots."""
        self._over = True
        self._ended(self)
        for stream in self._streams:
            stream.close()

    def _read(self) -> None:
        """Read all streams to their ends; runs in a thread of its own."""
        end: PhiplugError | None = None
        try:
            for choice, chunk in merged(self._streams):
                self._post(Event(choice, chunk))
        except PhiplugError as error:
            end = error
        self._post(end)

    def _post(self, item: Event | PhiplugError | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
