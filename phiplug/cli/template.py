"""The flags for what the chat template is given beside the messages: variables, and tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiplug.cli.flags import PROMPT
from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from phiplug.llm import PromptOptions
    from phiplug.types import Tool

TOOLS = "Tools"


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


@dataclass(frozen=True, slots=True)
class ToolFlags(TemplateFlags):
    """What the chat template is given beside the messages, tools among it."""

    tools: Annotated[
        str | None,
        typer.Option(
            "--tools", rich_help_panel=TOOLS, help="A JSON file of tools, in OpenAI's form.", show_default=False
        ),
    ] = None
    tool_choice: Annotated[
        str,
        typer.Option("--tool-choice", rich_help_panel=TOOLS, help="auto, none, required, or the name of a tool."),
    ] = "auto"

    def options(self, *, raw: bool, strict_content: bool, prefill: str = "") -> PromptOptions:
        """Return how the prompt becomes ids, its tools checked.

        Raises:
            InvalidParameter: a variable or a tool is not sound, or a file cannot be read.
        """
        from phiplug.text.prompt import PromptOptions

        tools = self._read() if self.tools else ()
        return PromptOptions(raw, strict_content, self.variables(), tools, self.tool_choice, prefill=prefill)

    def _read(self) -> tuple[Tool, ...]:
        from phiplug.messages import tools_of
        from phiplug.text.constraint import check_tools

        try:
            found = json.loads(read_text("tools", self.tools or ""))
        except (ValueError, RecursionError) as error:
            raise InvalidParameter("tools", f"{self.tools} is no JSON: {error}") from None
        tools = tools_of([found] if isinstance(found, dict) else found)
        check_tools(tools)
        return tools
