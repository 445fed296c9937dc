"""Runs an application with uvicorn: time-outs that uvicorn lacks, and an end that lets open streams finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

HEADER_S = 15.0
"""Seconds that a client has to send a request's headers."""

UNREAD_S = 30.0
"""Seconds after which a connection is dropped whose client has read nothing of what waits for it."""

IDLE_S = 75
"""Seconds after which a connection is closed on which no further request comes."""

LAST_WORDS_S = 3
"""Seconds that the streams have, when their time is over, to send their last event."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and how long open requests may go on when the server stops, in seconds."""

    host: str = "127.0.0.1"
    port: int = 8080
    drain_s: float = 30.0


class Deadline:
    """Calls back after some seconds, unless what it waits for happens before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, missed: Callable[[], None]) -> None:
        self._loop, self._seconds, self._missed = loop, seconds, missed
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Wait from now on, unless it waits already."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._missed)

    def end(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PatientProtocol(H11Protocol):
    """A connection that is dropped where its client finishes no headers, or reads nothing, for too long.

    uvicorn has a time-out of its own for a connection on which nothing comes between two requests.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head = Deadline(self.loop, HEADER_S, transport.close)
        self._read = Deadline(self.loop, UNREAD_S, transport.abort)
        self._head.begin()

    def data_received(self, data: bytes) -> None:
        """Take bytes: those that complete the headers end the wait, those after an answer begin the next one."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._head.begin()
        else:
            self._head.end()

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than it is written to."""
        super().pause_writing()
        self._read.begin()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._read.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._head.end()
        self._read.end()
        super().connection_lost(exc)


class DrainingServer(uvicorn.Server):
    """A server that tells the application when it stops; a second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(config)
        self._drain = app.state.service.drain
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.should_exit:
            self.force_exit = True
        self._drain.begin()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: Any = None) -> None:  # Any: as uvicorn has it
        """Stop listening, and end what is still open when its time is over."""
        finish = asyncio.get_running_loop().call_later(self._drain_s, self._drain.finish)
        try:
            await super().shutdown(sockets)
        finally:
            finish.cancel()


def config_of(app: FastAPI, address: Address) -> uvicorn.Config:
    """Return what uvicorn is told."""
    return uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=int(address.drain_s) + LAST_WORDS_S,
    )


def serve(app: FastAPI, address: Address, start: Callable[[], Awaitable[None]]) -> None:
    """Await `start`, which loads the models, and serve until a signal says to stop.

    Raises:
        PhiplugError: what `start` raises; uvicorn would have made a traceback of it.
    """
    server = DrainingServer(config_of(app, address), app, address.drain_s)

    async def run() -> None:
        try:
            await start()
        except BaseException:
            await app.state.service.catalog.close()
            raise
        await server.serve()

    asyncio.run(run())
