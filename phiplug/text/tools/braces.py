"""Writes the grammar of `{key:value}` arguments, with quotes of the model's own, from a JSON schema.

The keys come in the order of the alphabet, as the templates of these models write them. What a schema says beside
types, `enum`, `const`, `properties`, `required` and `items` is not enforced.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from phiplug.text.lark import text, up_to
from phiplug.text.tools.arguments import fixed_values, keys_of

if TYPE_CHECKING:
    from phiplug.text.markers import Controls

_INTEGER = r"/-?(0|[1-9][0-9]{0,17})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?/"
_SCALARS = {"integer": _INTEGER, "number": _NUMBER, "boolean": '("true" | "false")', "null": '"null"'}
_KEY = r"/[A-Za-z0-9_.-]{1,64}/"


class BracesGrammar:
    """The rules of the arguments of one tool, each under a name that begins with `name`."""

    def __init__(self, name: str, quote: str, controls: Controls, quote_text: str) -> None:
        """Begin; `quote` is the marker in Lark, `quote_text` as the row has it."""
        self._name = name
        self._quote = quote
        before_quote, self._rules = up_to(f"{name}_quoted", controls, quote_text)
        self._rules.append(f"{name}_text: {quote} {before_quote}")
        self._has_any = False
        self._objects = 0

    def rules_of(self, schema: dict[str, Any]) -> list[str]:  # Any: what JSON holds
        """Return the rules; the first of them is called by the name."""
        closed = {"properties": {}, **schema, "type": "object"}
        found = self._value(closed)
        return [f"{self._name}: {found}", *self._rules]

    def _value(self, schema: Any) -> str:  # Any: as above
        if not isinstance(schema, dict):
            return self._any()
        if (values := fixed_values(schema)) is not None:
            return f"({' | '.join(map(self._fixed, values))})"
        kind = schema.get("type")
        if isinstance(kind, list):
            return f"({' | '.join(self._value({**schema, 'type': each}) for each in kind)})"
        if kind == "object" and "properties" in schema:
            return self._object(schema)
        if kind == "array":
            item = self._value(schema.get("items"))
            return f'"[" ({item} ("," {item})*)? "]"'
        return f"{self._name}_text" if kind == "string" else _SCALARS.get(str(kind)) or self._any()

    def _fixed(self, value: Any) -> str:  # Any: as above
        if isinstance(value, str):
            return f"{self._quote} {text(value)} {self._quote}" if value else f"{self._quote} {self._quote}"
        return text(json.dumps(value))

    def _object(self, schema: dict[str, Any]) -> str:  # Any: as above
        """Return an object: what stands first has no comma before it, so each place gets rules with and without."""
        keys, required = keys_of(schema), schema.get("required", ())
        self._objects += 1
        rule = f"{self._name}_{self._objects}"
        after, first = "", ""
        for at, key in sorted(enumerate(sorted(keys)), reverse=True):
            pair = f"{rule}_{at}"
            is_optional = key not in required
            with_comma = f'"," {pair} {after}'
            self._rules.append(f"{pair}: {text(f'{key}:')} {self._value(schema['properties'][key])}")
            self._rules.append(f"{pair}_first: {pair} {after}" + (f" | {first}" if is_optional and first else ""))
            self._rules.append(f"{pair}_rest: {with_comma}" + (f" | {after}" if is_optional else ""))
            after, first = f"{pair}_rest", f"{pair}_first"
        inner = f"{first}?" if first and not any(key in required for key in keys) else first
        return f'"{{" {inner} "}}"'

    def _any(self) -> str:
        """Return a rule for any value."""
        name = f"{self._name}_any"
        if not self._has_any:
            self._has_any = True
            pair = f'{_KEY} ":" {name}'
            listed = f'"[" ({name} ("," {name})*)? "]"'
            mapped = f'"{{" ({pair} ("," {pair})*)? "}}"'
            scalars = f'{self._name}_text | {_NUMBER} | "true" | "false" | "null"'
            self._rules.append(f"{name}: {scalars} | {listed} | {mapped}")
        return name
