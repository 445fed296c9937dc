"""An error as the answer of HTTP to a request."""

from __future__ import annotations

from starlette.responses import JSONResponse

from phiplug.forms.problems import Problem, body_of


def response_of(problem: Problem, path: str) -> JSONResponse:
    """Return the whole answer."""
    return JSONResponse(body_of(problem, path), problem.status, problem.headers)
