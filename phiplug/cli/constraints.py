"""The flags of `phiplug run` that give an answer a form, and what is said of an answer that was cut off before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from phiplug.types import Constraint

FORM = "Form of the answer"

_WHOLE = {
    "json_schema": "a whole JSON document",
    "regex": "a whole match of the expression",
    "choice": "one of the choices",
    "gbnf": "a whole text of the grammar",
    "lark": "a whole text of the grammar",
}


@dataclass(frozen=True, slots=True)
class ConstraintFlags:
    """The form that an answer must have: at most one."""

    json_schema: Annotated[
        str | None,
        typer.Option("--json-schema", rich_help_panel=FORM, help="A file with a JSON schema.", show_default=False),
    ] = None
    regex: Annotated[
        str | None,
        typer.Option("--regex", rich_help_panel=FORM, help="Matches the whole answer.", show_default=False),
    ] = None
    choice: Annotated[
        list[str] | None,
        typer.Option("--choice", rich_help_panel=FORM, help="A possible answer; repeat it.", show_default=False),
    ] = None
    grammar: Annotated[
        str | None,
        typer.Option("--grammar", rich_help_panel=FORM, help="A file with GBNF or Lark.", show_default=False),
    ] = None
    json_compact: Annotated[
        bool, typer.Option("--json-compact", rich_help_panel=FORM, help="No white space around JSON's tokens.")
    ] = False
    schema_lenient: Annotated[
        bool, typer.Option("--schema-lenient", rich_help_panel=FORM, help="Warn of what nothing enforces.")
    ] = False
    no_forced_tokens: Annotated[
        bool,
        typer.Option("--no-forced-tokens", rich_help_panel=FORM, help="Draw every token."),
    ] = False

    def constraint(self) -> Constraint | None:
        """Return the constraint, checked, or None.

        Raises:
            InvalidParameter: two are given, a file cannot be read, or the constraint is not sound.
            NotInstalled: the parser of grammars is missing.
        """
        given = [name for name in ("json_schema", "regex", "choice", "grammar") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidParameter(given[1], "an answer has one form", hint=f"drop it, or the {given[0]}")
        for name in ("json_compact", "schema_lenient"):
            if getattr(self, name) and given != ["json_schema"]:
                raise InvalidParameter(name, "there is no JSON schema that it could change")
        if self.no_forced_tokens and not given:
            raise InvalidParameter("no_forced_tokens", "nothing forces tokens")
        if not given:
            return None
        constraint = self._made()
        from phiplug.text.constraint import check

        check(constraint)
        return constraint

    def _made(self) -> Constraint:
        from phiplug.types import Constraint

        force = not self.no_forced_tokens
        if self.json_schema is not None:
            source = read_text("json_schema", self.json_schema)
            return Constraint("json_schema", source, force, self.json_compact, self.schema_lenient)
        if self.regex is not None:
            return Constraint("regex", self.regex, force)
        if self.choice is not None:
            return Constraint("choice", tuple(self.choice), force)
        return Constraint.of_grammar(read_text("grammar", self.grammar or ""), force=force)


def cut_off(constraint: Constraint) -> str:
    """Return what is said of an answer that ended before its form did."""
    return f"cut off: not {_WHOLE.get(constraint.kind, 'whole')}"
