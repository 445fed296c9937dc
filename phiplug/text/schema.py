"""Finds the part of a JSON schema that is at fault, since llguidance says what is wrong and not where.

It compiles nothing itself: whoever asks brings the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Judge = Callable[[dict[str, Any]], str]  # Any: what JSON holds
"""Tells what is wrong with a schema: "" for nothing."""

DATA = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords of JSON Schema whose values are data, and no schemas."""

_TRIALS = 1000  # parts that are judged before the search ends where it is
_DEFINITIONS = ("$defs", "definitions")
_MAPS = frozenset({*_DEFINITIONS, "properties", "patternProperties", "dependentSchemas"})


def place_of_fault(schema: dict[str, Any], judge: Judge) -> str:
    """Return the smallest part of `schema` with which the same is wrong as with the whole, as a JSON pointer.

    A reference is followed into the definitions of the schema. "" means the whole.
    """
    definitions = {name: schema[name] for name in _DEFINITIONS if name in schema}
    fault = judge(schema)
    place, part, trials, seen = "", schema, 0, {""}
    while fault:
        for at, child in sorted(_parts(schema, part, place), key=_is_reference):  # it may lead back
            trials += 1
            if trials > _TRIALS:
                return place
            if at not in seen and judge({**definitions, **child}) == fault:
                seen.add(at)
                place, part = at, child
                break
        else:
            break
    return place


def _parts(schema: dict[str, Any], part: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the schemas directly in a part of `schema`, with their places, and the definition that it refers to."""
    for key, value in part.items():
        at = f"{place}/{_escaped(key)}"
        if key in _DATA_OR_DEFINITIONS:
            continue
        if isinstance(value, dict) and key not in _MAPS:
            yield at, value
        elif isinstance(value, dict):
            yield from ((f"{at}/{_escaped(name)}", each) for name, each in value.items() if isinstance(each, dict))
        elif isinstance(value, list):
            yield from ((f"{at}/{index}", each) for index, each in enumerate(value) if isinstance(each, dict))
    _, slash, pointer = str(part.get("$ref", "")).partition("#/")
    keyword, _, name = pointer.partition("/")
    named = schema.get(keyword) if slash and keyword in _DEFINITIONS else None
    target = named.get(name) if isinstance(named, dict) else None
    if isinstance(target, dict):
        yield f"/{pointer}", target


_DATA_OR_DEFINITIONS = DATA | frozenset(_DEFINITIONS)


def _is_reference(part: tuple[str, dict[str, Any]]) -> bool:
    return "$ref" in part[1]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
