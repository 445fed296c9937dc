"""The flag that shows or hides what a model thinks before it answers, and how it is shown: dim, and on stderr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from phiplug.cli.flags import OUTPUT
from phiplug.cli.screen import EscapeFilter
from phiplug.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class ReasoningFlags:
    """Whether reasoning is shown."""

    reasoning: Annotated[
        str, typer.Option("--reasoning", rich_help_panel=OUTPUT, help="show it on stderr, or hide it.")
    ] = "show"

    def printer(self) -> ReasoningPrinter:
        """Return what prints the reasoning of one answer.

        Raises:
            InvalidParameter: the flag is neither "show" nor "hide".
        """
        if self.reasoning not in ("show", "hide"):
            raise InvalidParameter("reasoning", f"{self.reasoning!r} is neither show nor hide")
        return ReasoningPrinter(shown=self.reasoning == "show")


class ReasoningPrinter:
    """Prints the reasoning of one answer as it comes, without escape sequences."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._escapes = EscapeFilter()
        self._is_open = False

    def write(self, reasoning: str, text: str) -> None:
        """Print a piece of reasoning; where text comes after it, end the line before."""
        if reasoning and self._shown:
            self._is_open = True
            typer.secho(self._escapes.feed(reasoning), dim=True, err=True, nl=False)
        if text:
            self.end()

    def end(self) -> None:
        """End the line of the reasoning, if there is one."""
        if self._is_open:
            self._is_open = False
            typer.secho(f"{self._escapes.end()}\n", dim=True, err=True)
