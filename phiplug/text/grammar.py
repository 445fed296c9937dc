"""Turns a constraint into the one form of grammar that llguidance compiles, and refuses what it would not enforce.

It looks at the constraint alone, never at a tokenizer, so what is wrong with it is known before a model is loaded.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from phiplug.errors import InvalidParameter, NotInstalled
from phiplug.text.gbnf import lark_of_gbnf, place_in_gbnf
from phiplug.text.schema import DATA, place_of_fault

if TYPE_CHECKING:
    from types import ModuleType

    from phiplug.types import Constraint

LENIENT = "`lenient` makes it a warning"
_UNENFORCED = ("Unimplemented keys", "Unknown format", "oneOf constraints")
"""How llguidance's messages begin where a schema has what it does not enforce."""

_SYNTAX = "regex parse error: "
_TOO_LARGE = ("Current row has ", "grammar.symbols.len()", "grammar size (number of symbols) too big")

EMPTY = "NoExtension"
"""What llguidance says where a grammar has no text, or only the empty one."""

_ESCAPES = 'nrbtf\\"'
"""What may follow a backslash in a string: not the u of \\u0061, with which a key that a schema knows could be spelled
so that llguidance takes it for one that the schema does not know, and leaves its value free."""

_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")  # what none of them spells
_VALUES = frozenset({"const", "enum"})
_SHOWN = DATA - _VALUES  # what nothing enforces

WHITE_SPACE = r"[\x20\x0A\x0D\x09]{1,64}"
"""Between the tokens of JSON: enough for indentation, and an end to the newlines that some models repeat for ever."""


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


def refusal(constraint: Constraint, message: str) -> InvalidParameter:
    """Return the error for what llguidance says of a constraint that it does not compile, in one line."""
    if message.startswith(EMPTY):
        return InvalidParameter(constraint.name, "allows no answer of at least one token")
    if message.startswith("panic: removal index"):  # it has no list of control tokens to show
        return InvalidParameter(constraint.name, "names a control token, and a grammar knows only text")
    said = one_line(message)
    if constraint.kind == "regex":
        return InvalidParameter("regex", _about_regex(said, message))
    if constraint.kind == "gbnf":
        return InvalidParameter("grammar", place_in_gbnf(constraint.texts[0], said))
    if constraint.kind != "json_schema":
        return InvalidParameter(constraint.name, said)
    place = place_of_fault(json.loads(constraint.texts[0]), lambda part: _fault(constraint, part))
    hint = LENIENT if message.startswith(_UNENFORCED) else None
    return InvalidParameter("json_schema", f"{said.split('. Enable')[0]}{f', at {place}' if place else ''}", hint=hint)


def _about_regex(said: str, message: str) -> str:
    """Return what is wrong with a regular expression, and in which column; llguidance speaks of a Lark rule with it."""
    reason = said.partition("(in regex): ")[2] or said
    if not reason.startswith(_SYNTAX):
        return reason
    mark = next(line for line in message.splitlines() if "^" in line and not line.strip(" ^"))
    return f"{reason.removeprefix(_SYNTAX)}, column {mark.index('^') - 3}"  # it is shown after four spaces


def one_line(message: str) -> str:
    """Return the first line of an error of llguidance, and the reason that a later line may give."""
    if any(text in message for text in _TOO_LARGE):
        return "too large: there are too many rules, or too many of them may apply at one place"
    first, *others = message.strip().splitlines() or [""]
    reason = next((line.removeprefix("error:") for line in others if line.startswith("error:")), "")
    return f"{first.rstrip(':')[:200]}{':' if reason else ''}{reason[:120]}"


def _fault(constraint: Constraint, part: dict[str, Any]) -> str:  # Any: what JSON holds
    grammar = grammar_of(replace(constraint, source=json.dumps(part)))
    failed, messages = parser().LLMatcher.validate_grammar_with_warnings(grammar)
    return str(messages[0]) if failed else ""


def _schema_grammar(constraint: Constraint) -> str:
    source = constraint.texts[0] or '{"type": "object"}'
    _check_schema(constraint, json.loads(source))
    options: dict[str, Any] = {  # Any: its options
        "lenient": constraint.lenient,
        "coerce_one_of": constraint.lenient,
        "json_allowed_escapes": _ESCAPES,
    }
    if constraint.compact:
        options["whitespace_flexible"] = False
    else:
        options["whitespace_pattern"] = WHITE_SPACE
    try:
        return cast("str", parser().LLMatcher.grammar_from_json_schema(source, overrides=options))
    except ValueError as error:
        raise InvalidParameter(constraint.name, str(error)) from None


def _check_schema(constraint: Constraint, schema: Any) -> None:  # Any: what JSON holds
    """Refuse references to what is elsewhere, and values that the parser would spell without a character of theirs."""
    waiting = [(schema, False)]  # and whether it is the value of an answer
    while waiting:
        each, is_value = waiting.pop()
        if isinstance(each, str) and is_value and (found := _CONTROL.search(each)):
            raise InvalidParameter(constraint.name, f"a value has the control character U+{ord(found[0]):04X}")
        if isinstance(each, list):
            waiting += [(value, is_value) for value in each]
        elif isinstance(each, dict):
            target = each.get("$ref")
            if isinstance(target, str) and not target.startswith("#") and not is_value:
                place = f"$ref {target[:80]!r} is not in the schema itself"
                raise InvalidParameter(constraint.name, place, hint="nothing is fetched")
            is_map = isinstance(each.get("type"), dict)  # of properties, which may have any names
            waiting += [
                (value, is_value or key in _VALUES) for key, value in each.items() if is_map or key not in _SHOWN
            ]
            waiting += [(key, is_value) for key in each]
