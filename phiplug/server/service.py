"""One server: what it serves, its settings and its state. Every endpoint finds it in `app.state.service`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from phiplug.errors import ModelBusy
from phiplug.server.body import BodyLimits, read_json
from phiplug.server.drain import Drain
from phiplug.server.eventstream import Pace
from phiplug.server.metrics import Metrics

if TYPE_CHECKING:
    from starlette.requests import Request

    from phiplug.forms.fields import Given, Table
    from phiplug.server.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server behaves.

    Attributes:
        key: what every route but the public ones asks for; None for nothing.
        hosts: the names under which the server may be asked for, without ports.
        lenient: unknown fields are passed over and named in a header, instead of refused.
        queue: so many requests may be open at once; more are refused with 429.
        body: bounds of a request's body.
        pace: bounds of a stream.
    """

    key: str | None = field(default=None, repr=False)
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "[::1]"})
    lenient: bool = False
    queue: int = 128
    body: BodyLimits = field(default_factory=BodyLimits)
    pace: Pace = field(default_factory=Pace)


class Service:
    """What the endpoints share."""

    def __init__(self, catalog: Catalog, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.catalog = catalog
        self.settings = settings
        self.clock = clock
        self.drain = Drain()
        self.metrics = Metrics(catalog)
        self._open = 0

    def enter(self) -> None:
        """Take a place in the queue; `leave` gives it back.

        Raises:
            ModelBusy: there is none.
        """
        if self._open >= self.settings.queue:
            raise ModelBusy(f"{self._open} requests are open already", hint="try again later")
        self._open += 1

    def leave(self) -> None:
        """Give back a place in the queue."""
        self._open -= 1


def service_of(request: Request) -> Service:
    """Return the server that was asked."""
    return cast(Service, request.app.state.service)


async def read(request: Request, table: Table) -> Given:
    """Read the fields of a request's body; raises what `read_json` and `Table.read` do."""
    settings = service_of(request).settings
    return table.read(await read_json(request, settings.body), lenient=settings.lenient)
