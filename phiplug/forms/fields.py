"""The fields of a request as tables: each name is honoured, accepted where it asks for what happens anyway, or refused.

Whatever is in no table is refused too, with the nearest name that exists. docs/serving.md shows these tables.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from phiplug import checks
from phiplug.errors import InvalidParameter
from phiplug.forms.problems import Json, Refused

Check = Callable[[str, Any], Any]  # Any: what JSON holds; a check returns it in its plain form
Status = Literal["honoured", "accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Field:
    """One name.

    Attributes:
        name: as JSON has it.
        status: what becomes of it.
        values: what it may be, or why it is refused, in words.
        check: returns the plain value, or raises `InvalidParameter` or `Refused`.
        required: it must be there.
    """

    name: str
    status: Status
    values: str
    check: Check
    required: bool = False


def honoured(name: str, values: str, check: Check, *, required: bool = False) -> Field:
    """Describe a field that changes the answer, or travels with it."""
    return Field(name, "honoured", values, check, required)


def accepted(name: str, *values: Any, words: str | None = None) -> Field:  # Any: what JSON holds
    """Describe a field that may have these values, which ask for what happens anyway."""
    shown = words or ", ".join(map(_written, values))

    def check(path: str, value: Any) -> Any:  # Any: as above
        if any(type(value) is type(each) and value == each for each in values):
            return value
        raise Refused(400, "unsupported_parameter", f"{path}: only {shown} can be honoured here", param=path)

    return Field(name, "accepted", shown, check)


def refused(name: str, why: str) -> Field:
    """Describe a field that other servers have."""

    def check(path: str, _: Any) -> Any:  # Any: as above
        raise Refused(400, "unsupported_parameter", f"{path}: {why}", param=path)

    return Field(name, "refused", why, check)


@dataclass(frozen=True, slots=True)
class Given:
    """The fields of one request, checked.

    Attributes:
        values: by name; what was left out, or null, is not there.
        ignored: names that are in no table, where the server is lenient.
    """

    values: Mapping[str, Any]  # Any: what the checks return
    ignored: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:  # Any: as above
        """Return a value, or the default where it was left out."""
        return self.values.get(name, default)

    def pick(self, *names: str) -> dict[str, Any]:  # Any: as above
        """Return those of the names that were given."""
        return {name: self.values[name] for name in names if name in self.values}


class Table:
    """The fields of one endpoint, or of an object within it."""

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        self._by_name = {field.name: field for field in fields}

    def read(self, body: Json, *, lenient: bool = False, within: str = "") -> Given:
        """Check every field of an object.

        Args:
            body: the object.
            lenient: pass over names that are in no table.
            within: how the path of the object begins: "messages[0]." for instance.

        Raises:
            Refused: a name is not known, refused or missing.
            InvalidParameter: a value is out of range.
        """
        unknown = [name for name in body if name not in self._by_name]
        if unknown and not lenient:
            raise self._unknown(unknown[0], within)
        for field in self.fields:
            if field.required and body.get(field.name) is None:
                path = within + field.name
                raise Refused(400, "missing_required_parameter", f"{path} is missing", param=path)
        values = {
            field.name: field.check(within + field.name, body[field.name])
            for field in self.fields
            if body.get(field.name) is not None
        }
        return Given(values, tuple(unknown))

    def _unknown(self, name: str, within: str) -> Refused:
        near = difflib.get_close_matches(name, [each.name for each in self.fields if each.status != "refused"], 1)
        path = within + name[:100]
        hint = f"did you mean {near[0]}?" if near else None
        return Refused(400, "unknown_parameter", f"{path} is not a field that is known here", param=path, hint=hint)

    def markdown(self) -> str:
        """Return the table as docs/serving.md has it."""
        rows = [f"| `{each.name}` | {each.status} | {each.values} |" for each in self.fields]
        return "\n".join(["| field | | values |", "| --- | --- | --- |", *rows])


# Checks


def number(low: float, high: float) -> Check:
    """Check for a number within bounds."""
    return lambda path, value: checks.number(path, value, low=low, high=high)


def integer(low: int, high: int | None = None) -> Check:
    """Check for an integer within bounds."""
    return lambda path, value: checks.integer(path, value, low=low, high=high)


def flag(path: str, value: Any) -> bool:  # Any: what JSON holds
    """Check for true or false."""
    return checks.flag(path, value)


def text(path: str, value: Any) -> str:  # Any: as above
    """Check for text."""
    return checks.text(path, value)


def stops(path: str, value: Any) -> tuple[str, ...]:  # Any: as above
    """Check for a text, or at most 16, none of them empty."""
    listed = [value] if isinstance(value, str) else array(path, value)
    if len(listed) > 16:
        raise InvalidParameter(path, f"{len(listed)} texts are more than 16")
    found = tuple(checks.text(path, each) for each in listed)
    if "" in found:
        raise InvalidParameter(path, "an empty text would stop at once")
    return found


def biases(path: str, value: Any) -> dict[int, float]:  # Any: as above
    """Check for numbers from -100 to 100 by token id, which JSON writes as text."""
    if not all(token.isdecimal() and len(token) < 11 for token in mapping(path, value)):
        raise InvalidParameter(path, "a token id is a decimal number, as text")
    return {int(token): checks.number(path, bias, low=-100, high=100) for token, bias in value.items()}


def mapping(path: str, value: Any) -> Json:  # Any: as above
    """Check for an object."""
    if isinstance(value, dict):
        return value
    raise InvalidParameter(path, f"{_written(value)} is not an object")


def array(path: str, value: Any) -> list[Any]:  # Any: as above
    """Check for a list."""
    if isinstance(value, list):
        return value
    raise InvalidParameter(path, f"{_written(value)} is not a list")


def nested(table: Table) -> Check:
    """Check for an object that has its own table."""
    return lambda path, value: table.read(mapping(path, value), within=f"{path}.")


def _written(value: Any) -> str:  # Any: as above
    """Write a value as JSON does, cut off where it is long."""
    written = json.dumps(value)
    return written if len(written) <= 60 else f"{written[:59]}…"
