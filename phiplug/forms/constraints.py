"""The fields that give an answer a form: OpenAI's and Anthropic's own, and those of vLLM's and llama-server's clients.

Here a field becomes a `Constraint`; whether a model can keep to it shows when its engine compiles it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phiplug import checks
from phiplug.errors import InvalidParameter
from phiplug.forms.fields import Given, Table, accepted, array, flag, honoured, mapping, nested, text
from phiplug.forms.problems import Json, Refused, about
from phiplug.types import Constraint

if TYPE_CHECKING:
    from phiplug.forms.fields import Check, Field
    from phiplug.types import ConstraintKind

Make = Callable[[str, Any], Constraint]  # Any: what JSON holds


@dataclass(frozen=True, slots=True)
class Demand:
    """The form that a request asks for.

    Attributes:
        field: which field of the request asks for it, as a path; errors name it.
        constraint: the form, or None for any text.
        written: the field's object as the client wrote it, which /v1/responses repeats.
    """

    field: str
    constraint: Constraint | None
    written: Json


_ANY = Demand("", None, {})


def schema(path: str, value: Any) -> Constraint:  # Any: as above
    """Return the constraint of a JSON schema, an object or its text."""
    return _made(path, "json_schema", value if isinstance(value, str) else json.dumps(mapping(path, value)))


def regex(path: str, value: Any) -> Constraint:  # Any: as above
    """Return the constraint of a regular expression that the whole answer matches."""
    return _made(path, "regex", text(path, value))


def choice(path: str, value: Any) -> Constraint:  # Any: as above
    """Return the constraint of a list of texts, one of which is the answer."""
    return _made(path, "choice", tuple(checks.text(path, each) for each in array(path, value)))


def grammar(path: str, value: Any) -> Constraint:  # Any: as above
    """Return the constraint of a grammar in llama.cpp's form or in Lark's."""
    try:
        return Constraint.of_grammar(text(path, value))
    except InvalidParameter as error:
        raise about(path, error) from None


def any_object(path: str, value: Any) -> Constraint:  # Any: as above
    """Return the constraint of any JSON object."""
    if not flag(path, value):
        raise InvalidParameter(path, "can only be true", hint="leave it out")
    return Constraint("json")


def _made(path: str, kind: ConstraintKind, source: str | tuple[str, ...]) -> Constraint:
    try:
        return Constraint(kind, source)
    except InvalidParameter as error:
        raise about(path, error) from None


def _demand(make: Make) -> Check:
    """Check for what `make` reads."""
    return lambda path, value: Demand(path, make(path, value), {})


_STRUCTURED = Table(
    honoured("json", "", schema),
    honoured("regex", "", regex),
    honoured("choice", "", choice),
    honoured("grammar", "", grammar),
    honoured("json_object", "", any_object),
)


def _structured_outputs(path: str, value: Any) -> Demand:  # Any: as above
    """Check for one of the constraints that vLLM's clients name."""
    given = _STRUCTURED.read(mapping(path, value), within=f"{path}.").values
    if len(given) != 1:
        raise InvalidParameter(path, f"has {len(given)} forms, and an answer has one")
    ((name, constraint),) = given.items()
    return Demand(f"{path}.{name}", constraint, value)


_SCHEMA = (
    honoured("name", "", text),
    honoured("description", "", text),
    honoured("schema", "", schema, required=True),
    honoured("strict", "", flag),  # a schema is kept to in any case
)


def _formats(*fields: Field, kinds: tuple[str, ...] = ("text", "json_object", "json_schema")) -> Check:
    """Check for an object whose `type` is one of `kinds`; `fields` are those of the type json_schema beside it."""
    tables = {kind: Table(accepted("type", kind), *(fields if kind == "json_schema" else ())) for kind in kinds}

    def check(path: str, value: Any) -> Demand:  # Any: as above
        table = tables.get(str(mapping(path, value).get("type")))
        if table is None:
            message = f"{path}.type: is none of {', '.join(kinds)}"
            raise Refused(400, "unsupported_parameter", message, param=f"{path}.type")
        given = table.read(value, within=f"{path}.")
        if "json_schema" in given.values:
            return Demand(f"{path}.json_schema.schema", given["json_schema"]["schema"], value)
        if "schema" in given.values:
            return Demand(f"{path}.schema", given["schema"], value)
        return Demand(path, Constraint("json") if given["type"] == "json_object" else None, value)

    return check


def _within(name: str, check: Check) -> Check:
    """Check for an object that has at most the field `name`, and return that."""
    table = Table(honoured(name, "", check))
    return lambda path, value: table.read(mapping(path, value), within=f"{path}.").get(name)


STRUCTURED = honoured(
    "structured_outputs",
    "vLLM's: one of `json`, `regex`, `choice`, `grammar`, and `json_object` true",
    _structured_outputs,
)
_KEPT = "a schema is kept to, `strict` or not"
TEXT = honoured(
    "text", f"`format` of the type text, json_object or json_schema; {_KEPT}", _within("format", _formats(*_SCHEMA))
)
"""OpenAI's, in /v1/responses."""

OUTPUT_CONFIG = honoured(
    "output_config",
    "`format` of the type json_schema",
    _within("format", _formats(honoured("schema", "", schema, required=True), kinds=("json_schema",))),
)
"""Anthropic's."""

FORMS = (
    honoured(
        "response_format",
        f"of the type text, json_object or json_schema; {_KEPT}",
        _formats(honoured("json_schema", "", nested(Table(*_SCHEMA)), required=True)),
    ),
    STRUCTURED,
    honoured("json_schema", "llama-server's: a JSON schema", _demand(schema)),
    honoured("grammar", "llama-server's: a grammar in GBNF, or in Lark", _demand(grammar)),
)
"""The fields of /v1/chat/completions and /v1/completions."""


def demand_of(given: Given) -> Demand:
    """Return the form that a request asks for.

    Raises:
        InvalidParameter: it asks for two.
    """
    found = [each for each in given.values.values() if isinstance(each, Demand) and each.constraint]
    if len(found) > 1:
        raise InvalidParameter(found[1].field, "an answer has one form", hint=f"drop it, or {found[0].field}")
    return found[0] if found else _ANY
