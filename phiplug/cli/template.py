"""The flags of `phiplug run` and `phiplug chat` for the chat template, beside the one that replaces it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from phiplug.cli.flags import PROMPT
from phiplug.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class TemplateFlags:
    """What the chat template is given beside the messages."""

    template_var: Annotated[
        list[str] | None,
        typer.Option(
            "--template-var",
            rich_help_panel=PROMPT,
            help="NAME=VALUE for the chat template, as in enable_thinking=false; may be repeated.",
            show_default=False,
        ),
    ] = None

    def variables(self) -> dict[str, Any]:  # Any: what JSON holds
        """Return the variables by their names; a value that is no JSON is a text.

        Raises:
            InvalidParameter: one is not NAME=VALUE, or a name is given twice.
        """
        found: dict[str, Any] = {}
        for each in self.template_var or ():
            name, separator, value = each.partition("=")
            if not (separator and name.isidentifier()):
                raise InvalidParameter("template_var", f"{each!r} is not NAME=VALUE, as in enable_thinking=false")
            if name in found:
                raise InvalidParameter("template_var", f"{name} is given twice")
            found[name] = _value(value)
        return found


def _value(text: str) -> Any:  # Any: what JSON holds
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
