"""Stands before every route: names the request, checks whom it is for and who asks, counts it and logs one line.

The line has no query, no header and no body, so neither a prompt nor a key.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from phiplug.forms.problems import Refused, problem_of
from phiplug.server import page
from phiplug.server.drain import stopping
from phiplug.server.responses import response_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from phiplug.errors import PhiplugError
    from phiplug.server.service import Service

PUBLIC = frozenset({"/health", *page.FILES})
"""Paths that need no key: they hold no secret."""

_log = logging.getLogger("phiplug.server")


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name, started = secrets.token_hex(8), time.perf_counter()
        scope.setdefault("state", {})["request_id"] = name
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        error = self._refusal(scope)
        try:
            if error is None:
                await self._app(scope, receive, named)
            else:
                await response_of(problem_of(error, scope["path"]), scope["path"])(scope, receive, named)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._service.metrics.answered(route, status)
            _log.info("%s %s %s %s %.3f s", name, scope["method"], route, status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> PhiplugError | None:
        headers = Headers(scope=scope)
        if _name_of(headers.get("host", "")) not in self._service.settings.hosts:
            hint = "--allow-host adds a name"
            return Refused(403, "host_not_allowed", "this server is not asked for under this name", hint=hint)
        if scope["path"] in PUBLIC:
            return None
        if not self._has_key(headers):
            hint = "send it as `Authorization: Bearer` or `x-api-key`"
            return Refused(401, "invalid_api_key", "the key is missing or wrong", hint=hint)
        return stopping() if self._service.drain.has_begun else None

    def _has_key(self, headers: Headers) -> bool:
        """Compare in constant time."""
        key = self._service.settings.key
        if key is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(sent.strip().encode("latin-1", "replace"), key.encode())


def _name_of(host: str) -> str:
    """Return a Host header's name without the port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower().rstrip(".")
