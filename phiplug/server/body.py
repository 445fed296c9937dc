"""Reads the JSON object in a request's body, within bounds: its size is checked before it is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.forms.parsing import parse_object
from phiplug.forms.problems import Json, Refused

if TYPE_CHECKING:
    from starlette.requests import Request

LONG_BODY = 2**17
"""Bytes from which on a body is parsed in another thread, so that streams go on meanwhile."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much a client may send, and in which time.

    Attributes:
        size: the most bytes.
        seconds: the longest time that a body may take to arrive.
    """

    size: int = 8 * 2**20
    seconds: float = 30.0


async def read_json(request: Request, limits: BodyLimits) -> Json:
    """Return the object in the body of `request`.

    Raises:
        Refused: it is too large (413), too slow (408), not said to be JSON (415), or not one JSON object (400).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a foreign page may send without asking first is no JSON
        hint = "send the header content-type: application/json"
        raise Refused(415, "unsupported_media_type", f"the body is {kind or 'of no type'}, and not JSON", hint=hint)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "unsupported_media_type", "compressed bodies are not read here")
    raw = await _read(request, limits)
    return await asyncio.to_thread(parse_object, raw) if len(raw) > LONG_BODY else parse_object(raw)


async def _read(request: Request, limits: BodyLimits) -> bytes:
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limits.size:
        raise _too_large(limits)
    received = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for piece in request.stream():
                received += piece
                if len(received) > limits.size:
                    raise _too_large(limits)
    except TimeoutError:
        raise Refused(408, "request_timeout", f"the body took longer than {limits.seconds:g} s") from None
    return bytes(received)


def _too_large(limits: BodyLimits) -> Refused:
    return Refused(413, "request_too_large", f"the body is larger than {limits.size / 2**20:g} MiB")
