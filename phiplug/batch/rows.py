"""The rows of the output: OpenAI's result form, with the number and the digest of the line that each answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from phiplug.batch.seeds import name_of
from phiplug.forms.problems import problem_of

if TYPE_CHECKING:
    from phiplug.batch.asking import Work
    from phiplug.batch.tasks import Task
    from phiplug.errors import PhiplugError
    from phiplug.forms.problems import Json


def answered(work: Work) -> Json:
    """Return the row of a line whose answers have ended."""
    return _row(work.task, 200, work.body.whole(work.answers), None)


def failed(task: Task, error: PhiplugError) -> Json:
    """Return the row of a line that an error ended; it has the body that the server would have sent, too."""
    problem = problem_of(error, task.url)
    body = problem.openai()
    return _row(task, problem.status, body, body["error"])


def _row(task: Task, status: int, body: Json, error: Json | None) -> Json:
    name = name_of(task.custom_id, task.line)
    return {
        "id": f"batch_req_{name}",
        "custom_id": task.custom_id,
        "response": {"status_code": status, "request_id": f"req_{name}", "body": body},
        "error": error,
        "line": task.line,
        "digest": task.digest,
    }


def written(row: Json) -> bytes:
    """Return a row as one line of UTF-8; half a character, which no UTF-8 has, is escaped."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def compared(row: Json) -> Any:  # Any: what JSON holds
    """Return a row without what may differ between two runs of one batch: what came from a slot's earlier prompts."""
    return _without(row, {"cached_tokens", "computed_by"})


def _without(value: Any, names: set[str]) -> Any:  # Any: as above
    if isinstance(value, dict):
        return {name: _without(each, names) for name, each in value.items() if name not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value
