"""Writes the grammar of calls from the row of their form and the tools' schemas."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from phiplug.errors import InvalidParameter
from phiplug.text.grammar import LENIENT, grammar_of
from phiplug.text.lark import ANY, SPACE, loose, loose_expression, marker, text, up_to, without
from phiplug.text.tools.arguments import fixed_values, is_text, keys_of
from phiplug.text.tools.braces import BracesGrammar
from phiplug.types import Constraint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phiplug.markup import ToolUse
    from phiplug.messages import Tool
    from phiplug.text.markers import Controls

_NOT_STRICT = "without strict it is a warning"


class CallGrammar:
    """The rules of the calls that an answer may have.

    Attributes:
        rules: in Lark.
        parts: the grammars that they call @name.
    """

    def __init__(self, use: ToolUse, controls: Controls) -> None:
        """Write the rules.

        Raises:
            InvalidParameter: the schema of a tool is not sound, or says what cannot be enforced.
        """
        self.rules: list[str] = []
        self.parts: dict[str, str] = {}
        self._row, self._controls = use.format, controls
        self._begin = marker(controls, use.format.begin)
        named = [self._named(index, tool) for index, tool in enumerate(use.tools)]
        self.rules.append(f"named: {' | '.join(named)}")
        before = self._loose(use.format.before_name)
        self._rest = self._of_block("named", f"{before} named", use)
        self._block = f"{self._loose(use.format.open)} {before} {self._rest}"
        self._is_repeated = use.parallel and use.format.between is None and not use.format.is_single

    def required(self) -> str:
        """Return an answer that is a call."""
        begin = f"({self._begin})?" if self._row.is_bare else self._begin
        return f"{begin} {self._block} {self._more()}"

    def after_text(self) -> str:
        """Return text alone, or calls, which may have text before them."""
        if self._row.is_bare:
            self.rules.append(f"head[lazy]: {loose_expression(self._row.before_name)}")
            return f"{ANY} | head {self._rest} | {self._begin} {self._block}"
        before, rules = up_to("before_call", self._controls, self._row.begin)
        self.rules += rules
        return f"{without('before_call', self._controls, self._row.begin)} | {before} {self._block} {self._more()}"

    def _of_block(self, first: str, other: str, use: ToolUse) -> str:
        """Return a block from its first name on."""
        row = self._row
        more = f"({self._loose(row.between)} {other})*" if row.between is not None and use.parallel else ""
        return f"{first} {more} {self._loose(row.end)}"

    def _more(self) -> str:
        return f"({SPACE} {self._begin} {self._block})*" if self._is_repeated else ""

    def _loose(self, value: str) -> str:
        return loose(self._controls, value)

    def _named(self, index: int, tool: Tool) -> str:
        """Return the call of one tool, from its name on."""
        row, rule = self._row, f"arguments_{index}"
        match row.arguments:
            case "json":
                self.parts[rule] = _schema_grammar(tool, arguments_schema(tool))
                arguments = f"@{rule}"
            case "parameters":
                with naming(tool):
                    self._add_parameters(rule, tool)
                arguments = rule
            case "braces":
                grammar = BracesGrammar(rule, marker(self._controls, row.quote), self._controls, row.quote)
                with naming(tool):
                    self.rules += grammar.rules_of(tool.schema)
                arguments = rule
        return f"{text(tool.name)} {self._loose(row.after_name)} {arguments} {self._loose(row.after_arguments)}"

    def _add_parameters(self, rule: str, tool: Tool) -> None:
        """Add the rules of one argument after the other, the keys in the schema's order."""
        schema, marks = tool.schema, self._row.parameter
        parameters: list[str] = []
        for at, key in enumerate(keys_of(schema)):
            name, value = f"{rule}_{at}", schema["properties"][key]
            after_key = marks.after_text_key if is_text(value) and marks.after_text_key else marks.after_key
            before = f"{marker(self._controls, marks.before_key)} {text(key)} {self._loose(after_key)}"
            self.rules.append(f"{name}: {before} {self._value(name, tool, value)} {SPACE}")
            parameters.append(name if key in schema.get("required", ()) else f"{name}?")
        self.rules.append(f"{rule}: {' '.join(parameters)}")

    def _value(self, name: str, tool: Tool, schema: dict[str, Any]) -> str:  # Any: what JSON holds
        """Return one value, and its end."""
        marks = self._row.parameter
        end_text = "\n" * marks.on_lines + marks.end
        begin, end = text("\n") if marks.on_lines else "", marker(self._controls, end_text)
        if not is_text(schema):
            shared = {key: value for key, value in tool.schema.items() if key in ("$defs", "definitions")}
            self.parts[f"{name}_json"] = _schema_grammar(tool, schema | shared)
            return f"{begin} @{name}_json {end}"
        values = fixed_values(schema)
        if values is not None:
            return f"{begin} ({' | '.join(map(text, values))}) {end}"
        before, rules = up_to(f"{name}_text", self._controls, end_text)
        self.rules += rules
        return f"{begin} {before}"


@contextlib.contextmanager
def naming(tool: Tool) -> Iterator[None]:
    """Have errors of a tool's schema name the tool."""
    try:
        yield
    except InvalidParameter as error:
        reason = error.message.removeprefix("json_schema: ")
        hint = _NOT_STRICT if error.hint == LENIENT else error.hint
        raise InvalidParameter("tools", f"{tool.name}: {reason}", hint=hint) from None


def constraint_of(tool: Tool, schema: dict[str, Any]) -> Constraint:  # Any: what JSON holds
    """Return what holds a value to a schema that is a tool's, or a part of it."""
    return Constraint("json_schema", json.dumps(schema), lenient=not tool.strict)


def _schema_grammar(tool: Tool, schema: dict[str, Any]) -> str:  # Any: as above
    with naming(tool):
        return grammar_of(constraint_of(tool, schema))


def arguments_schema(tool: Tool) -> dict[str, Any]:  # Any: as above
    """Return the schema of a tool's arguments: an object that has no other keys, where it names some or none at all."""
    schema = tool.schema
    closed = {"type": "object", **schema}
    if not schema or ("properties" in schema and "patternProperties" not in schema):
        closed = {"properties": {}, "additionalProperties": False, **closed}
    return closed
