"""Several requests read side by side, as one stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phiplug.errors import PhiplugError
from phiplug.server.ports import Event

if TYPE_CHECKING:
    from typing import Self

    from phiplug.server.ports import EnginePort, Events, Work


async def submit(engine: EnginePort, works: Sequence[Work]) -> Events:
    """Queue requests; a list of them is answered a few at a time, the i-th choice of the k-th as k * choices + i.

    Raises:
        As `EnginePort.submit` does, of the first: a bad constraint, which is that of all, is known before any answer.
    """
    first = await engine.submit(works[0])
    return first if len(works) == 1 else SideBySide(engine, first, works, engine.info.model.slots)


class SideBySide:
    """The events of several requests, as `phiplug.server.ports.Events`; the first error ends all of them."""

    def __init__(self, engine: EnginePort, first: Events, works: Sequence[Work], width: int) -> None:
        """Answer `works`, of which `width` are open at once, and the first is already, with the events `first`."""
        self._engine = engine
        self._opened = {0: first}
        self._rest = iter(list(enumerate(works)))
        self._queue: asyncio.Queue[Event | PhiplugError | None] = asyncio.Queue()
        self._readers = [asyncio.create_task(self._read()) for _ in range(min(width, len(works)))]
        self._live = len(self._readers)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while self._live:
            item = await self._queue.get()
            if isinstance(item, Event):
                return item
            self._live -= 1
            if item is not None:
                await self.aclose()
                raise item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel all of them."""
        self._live = 0
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for events in self._opened.values():  # its reader had not begun
            await events.aclose()

    async def _read(self) -> None:
        """Answer one request after another."""
        end: PhiplugError | None = None
        try:
            for index, work in self._rest:
                events = self._opened.pop(index, None) or await self._engine.submit(work)
                await self._read_one(index * work.choices, events)
        except PhiplugError as error:
            end = error
        self._queue.put_nowait(end)

    async def _read_one(self, first: int, events: Events) -> None:
        try:
            async for event in events:
                self._queue.put_nowait(Event(first + event.choice, event.chunk))
        finally:
            await events.aclose()
