"""Reads the JSON object in a request's body, within bounds: its size is checked before it is kept."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phiplug.server.problems import Json, Refused

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
    return await asyncio.to_thread(_parse, raw) if len(raw) > LONG_BODY else _parse(raw)


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


def _parse(raw: bytes) -> Json:
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise Refused(400, "invalid_json", f"the body is not UTF-8: byte {error.start} is no character") from None
    except RecursionError:
        raise Refused(400, "invalid_json", "the body is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, and integers of more digits than Python reads
        raise Refused(400, "invalid_json", f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, "invalid_json", f"the body is {type(found).__name__}, and not an object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> Json:  # Any: what JSON holds
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, "invalid_json", f"the name {twice[:100]!r} comes twice in one object")
    return found


def _constant(name: str) -> float:
    raise Refused(400, "invalid_json", f"{name} is not JSON")
