"""Server-sent events, written by one task while others watch the client, the clock and the server's end.

A client that does not read fills a bounded buffer and is cut off. What closes the stream closes its source, which
cancels the request before the engine's next pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from phiplug.errors import PhiplugError
from phiplug.forms.problems import unexpected

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from phiplug.server.drain import Drain

_log = logging.getLogger("phiplug.server")
_KEEP_ALIVE = b": still computing\n\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stream is kept alive and bounded.

    Attributes:
        comment_s: after so many seconds without an event, a comment tells proxies that the stream lives.
        unread: the most bytes that may wait for a client that does not read.
    """

    comment_s: float = 10.0
    unread: int = 2**18


class SlowReader(Exception):
    """The client left too much unread."""


class Outbox:
    """Bytes on their way to a client; they are sent in as few pieces as the client's pace allows."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = bytearray()
        self._changed = asyncio.Event()
        self._ended = False
        self.is_silent = True

    def put(self, piece: bytes) -> None:
        """Add an event; raises `SlowReader` where too much waits already."""
        self._waiting += piece
        self.is_silent = False
        if len(self._waiting) > self._limit:
            raise SlowReader
        self._changed.set()

    def end(self) -> None:
        """Note that nothing more will come."""
        self._ended = True
        self._changed.set()

    async def take(self) -> bytes:
        """Wait for something to send, and take it; nothing means the end."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        taken, self._waiting = bytes(self._waiting), bytearray()
        return taken


class EventStream(Response):
    """A stream of server-sent events, which `source` spells."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes],
        *,
        drain: Drain,
        failed: Callable[[PhiplugError], bytes],
        pace: Pace,
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        """Stream `source`.

        Args:
            source: the events; closing it cancels the request.
            drain: tells when the server stops.
            failed: spells the end of a stream that an error ended.
            pace: comments and bounds.
            ended: awaited when the stream is over, however it ended.
        """
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._source, self._drain, self._failed = source, drain, failed
        self._pace, self._ended = pace, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI asks; returns when the stream is over."""
        outbox = Outbox(self._pace.unread)
        writer = asyncio.create_task(self._write(outbox, send))
        produce = asyncio.create_task(self._produce(outbox))
        gone = asyncio.create_task(_gone(receive))
        comment = asyncio.create_task(self._comment(outbox))
        try:
            await asyncio.wait([writer, produce, gone], return_when=asyncio.FIRST_COMPLETED)
            if not produce.done() or produce.result():
                await asyncio.wait([writer, gone], return_when=asyncio.FIRST_COMPLETED)
            else:
                _log.info("%s: cut off, since the client does not read", scope["state"]["request_id"])
        finally:
            await _cancelled([writer, produce, gone, comment])
            await self._source.aclose()
            await self._ended()

    async def _write(self, outbox: Outbox, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while piece := await outbox.take():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _produce(self, outbox: Outbox) -> bool:
        """Fill the outbox; return whether the client kept up."""
        try:
            try:
                async with self._drain.limit():
                    async for piece in self._source:
                        outbox.put(piece)
            except PhiplugError as error:
                outbox.put(self._failed(error))
            except SlowReader:
                raise
            except Exception as error:  # noqa: BLE001  a fault of ours; the client must see an end
                outbox.put(self._failed(unexpected(error)))
            outbox.end()
        except SlowReader:
            return False
        return True

    async def _comment(self, outbox: Outbox) -> None:
        while True:
            outbox.is_silent = True
            await asyncio.sleep(self._pace.comment_s)
            if outbox.is_silent:
                outbox.put(_KEEP_ALIVE)


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(tasks: list[asyncio.Task[None] | asyncio.Task[bool]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
