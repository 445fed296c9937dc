"""The page at `/`: files that any browser may load without a key. What they ask for, they ask as every client does."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

FILES = {
    "/": "index.html",
    "/page/page.css": "page.css",
    "/page/icon.svg": "icon.svg",
    "/page/main.js": "main.js",
    "/page/client.js": "client.js",
    "/page/settings.js": "settings.js",
    "/page/answer.js": "answer.js",
    "/page/chat.js": "chat.js",
    "/page/compare.js": "compare.js",
}
"""Every path of the page, and the file beside this one that it serves."""

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


async def show(http: HttpRequest) -> Response:
    """Serve one file of the page."""
    name = FILES[http.scope["path"]]
    return Response(_content(name), headers=HEADERS, media_type=_TYPES[name.rpartition(".")[2]])


@cache
def _content(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()
