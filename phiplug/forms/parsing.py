"""From bytes to a JSON object, strictly: what Python reads beyond JSON is refused."""

from __future__ import annotations

import json
from typing import Any

from phiplug.forms.problems import Json, Refused


def parse_object(raw: bytes, what: str = "the body") -> Json:
    """Return the JSON object that bytes hold; `what` they are is said in errors.

    Raises:
        Refused: they are not UTF-8, not JSON, no object, or have a name twice in one object.
    """
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise Refused(400, "invalid_json", f"{what} is not UTF-8: byte {error.start} is no character") from None
    except RecursionError:
        raise Refused(400, "invalid_json", f"{what} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Refused(400, "invalid_json", f"{what} is not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError as error:  # integers of more digits than Python reads
        raise Refused(400, "invalid_json", f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, "invalid_json", f"{what} is {type(found).__name__}, and not an object")
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
