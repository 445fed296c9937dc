"""The end of a server: no new requests, some time for those that are open, then an error for whoever is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from phiplug.errors import EngineUnavailable


class Drain:
    """Whether the server still takes requests, and the deadlines of those that are open.

    Attributes:
        has_begun: whether new requests are refused.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self._is_over = False
        self._open: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Refuse new requests from now on."""
        self.has_begun = True

    def finish(self) -> None:
        """End what is still open in an error."""
        self.has_begun = self._is_over = True
        now = asyncio.get_running_loop().time()
        for deadline in self._open:
            deadline.reschedule(now)

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Run the body of a request; raises `EngineUnavailable` within it when the time is over."""
        deadline = asyncio.timeout(None)
        try:
            async with deadline:
                if self._is_over:
                    raise stopping()
                self._open.add(deadline)
                yield
        except TimeoutError:
            if deadline.expired():
                raise stopping() from None
            raise
        finally:
            self._open.discard(deadline)


def stopping() -> EngineUnavailable:
    """Return the error for requests that come too late."""
    return EngineUnavailable("the server is stopping", retry_after=5, hint="try again when it is back")
