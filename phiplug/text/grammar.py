"""Turns a constraint into the one form of grammar that llguidance compiles, and refuses what it would not enforce.

It looks at the constraint alone, never at a tokenizer, so what is wrong with it is known before a model is loaded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from phiplug.errors import InvalidParameter, NotInstalled
from phiplug.text.gbnf import lark_of_gbnf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from phiplug.types import Constraint

WHITE_SPACE = r"[\x20\x0A\x0D\x09]{1,64}"
"""Between the tokens of JSON: enough for indentation, and an end to the newlines that some models repeat for ever."""

_DATA = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords of JSON Schema whose values are data, in which `$ref` is only a key."""


def parser() -> ModuleType:
    """Import llguidance.

    Raises:
        NotInstalled: it is missing.
    """
    try:
        import llguidance
    except ImportError:
        raise NotInstalled("constraints need llguidance", hint="pip install 'phiplug[grammar]'") from None
    return llguidance


def grammar_of(constraint: Constraint) -> str:
    """Return the grammar of a constraint, as `LLMatcher` takes it.

    Raises:
        InvalidParameter: the constraint refers to what is elsewhere, or is no grammar of its kind.
        NotInstalled: llguidance is missing.
    """
    matcher = parser().LLMatcher
    source = constraint.texts[0]
    match constraint.kind:
        case "json_schema" | "json":
            return _schema_grammar(constraint)
        case "regex":
            return cast("str", matcher.grammar_from_regex(source))
        case "choice":
            texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in constraint.texts)
            return cast("str", matcher.grammar_from_lark(f"start: {texts}"))
        case "gbnf":
            return cast("str", matcher.grammar_from_lark(lark_of_gbnf(source)))
        case "lark":
            return cast("str", matcher.grammar_from_lark(source))


def _schema_grammar(constraint: Constraint) -> str:
    source = constraint.texts[0] or '{"type": "object"}'
    for target in _references(json.loads(source)):
        if not target.startswith("#"):
            raise InvalidParameter(
                constraint.name, f"$ref {target[:80]!r} is not in the schema itself", hint="nothing is fetched"
            )
    options: dict[str, Any] = {"lenient": constraint.lenient, "coerce_one_of": constraint.lenient}  # Any: its options
    if constraint.compact:
        options["whitespace_flexible"] = False
    else:
        options["whitespace_pattern"] = WHITE_SPACE
    try:
        return cast("str", parser().LLMatcher.grammar_from_json_schema(source, overrides=options))
    except ValueError as error:
        raise InvalidParameter(constraint.name, str(error)) from None


def _references(schema: Any) -> Iterator[str]:  # Any: what JSON holds
    """Yield what the `$ref` of a schema and of the schemas in it lead to."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if isinstance(each.get("$ref"), str):
                yield each["$ref"]
            waiting += [value for key, value in each.items() if key not in _DATA or isinstance(each.get("type"), dict)]
        elif isinstance(each, list):
            waiting += each
