"""Builds the server's application: its routes, and a 404 for endpoints that it does not serve."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response

from phiplug.errors import PhiplugError
from phiplug.forms.problems import Refused, problem_of, unexpected
from phiplug.server import page
from phiplug.server.exchange import ClientGone
from phiplug.server.guard import Guard
from phiplug.server.interfaces import chat, completions, messages, models, responses
from phiplug.server.responses import response_of
from phiplug.server.service import Service

if TYPE_CHECKING:
    from fastapi import Request

    from phiplug.server.catalog import Catalog
    from phiplug.server.service import Settings

NOT_SERVED = {
    "/v1/embeddings": "embeddings are not served here",
    "/v1/images": "images are not served here",
    "/v1/audio": "audio is not served here",
    "/api": "Ollama's interface is not served here",
}
"""Beginnings of paths that clients look for."""

_INSTEAD = "/v1/chat/completions answers conversations"


def make_app(catalog: Catalog, settings: Settings) -> FastAPI:
    """Return the application that serves the models of `catalog`, and closes them in the end."""
    service = Service(catalog, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await catalog.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.service = service
    for method, path, endpoint in ROUTES:
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    app.add_middleware(Guard, service=service)
    app.add_exception_handler(PhiplugError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(ClientGone, _nobody)
    app.add_exception_handler(Exception, _failed)
    return app


ROUTES = (
    ("GET", "/v1/models", models.list_models),
    ("GET", "/v1/models/{name:path}", models.show_model),
    ("POST", "/v1/chat/completions", chat.create),
    ("POST", "/v1/completions", completions.create),
    ("POST", "/v1/responses", responses.create),
    ("POST", "/v1/messages", messages.create),
    ("POST", "/v1/messages/count_tokens", messages.count_tokens),
    ("POST", "/tokenize", models.tokenize),
    ("POST", "/detokenize", models.detokenize),
    ("GET", "/tokenizer_info", models.tokenizer_info),
    ("GET", "/health", models.health),
    ("GET", "/metrics", models.metrics),
    *(("GET", path, page.show) for path in page.FILES),
)


async def _refused(http: Request, error: Exception) -> Response:
    known = error if isinstance(error, PhiplugError) else unexpected(error)
    return response_of(problem_of(known, http.url.path), http.url.path)


async def _failed(http: Request, error: Exception) -> Response:
    return await _refused(http, unexpected(error))


async def _not_found(http: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = http.url.path
    if status == 405:
        return await _refused(http, Refused(405, "method_not_allowed", f"{path[:100]} does not take {http.method}"))
    why = next((line for start, line in NOT_SERVED.items() if path.startswith(start)), None)
    message = why or f"there is no {path[:100]}"
    return await _refused(http, Refused(404, "not_found", message, hint=_INSTEAD))


async def _nobody(*_: object) -> Response:
    return Response(status_code=499)
