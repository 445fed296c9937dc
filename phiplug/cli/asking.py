"""The flags that `run` and `chat` share: the system message, how answers are shown, and whether they are logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from phiplug.cli.flags import OUTPUT, PROMPT
from phiplug.cli.journal import LogFlags
from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text


@dataclass(frozen=True, slots=True)
class AskFlags(LogFlags):
    """What a conversation begins with, how answers are shown, and whether they are logged."""

    system: Annotated[
        str | None, typer.Option("-s", "--system", rich_help_panel=PROMPT, help="A system message.", show_default=False)
    ] = None
    system_file: Annotated[
        str | None,
        typer.Option("--system-file", rich_help_panel=PROMPT, help="Read it from a file.", show_default=False),
    ] = None
    strict_content: Annotated[
        bool, typer.Option("--strict-content", rich_help_panel=PROMPT, help="Refuse control tokens in a message.")
    ] = False
    plain: Annotated[
        bool,
        typer.Option(
            "--plain/--no-plain", rich_help_panel=OUTPUT, help="Markdown as it is written, also on a terminal."
        ),
    ] = False

    def system_text(self) -> str | None:
        """Return the system message, or None.

        Raises:
            InvalidParameter: it is given twice, or the file cannot be read.
        """
        if self.system_file is None:
            return self.system
        if self.system is not None:
            raise InvalidParameter("system_file", "`system` is given too", hint="one of them is enough")
        return read_text("system_file", self.system_file).rstrip("\r\n")
