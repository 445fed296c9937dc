"""Puts together the prompt of `phiplug run`: what is piped, then what a file holds, then the argument."""

from __future__ import annotations

import os

from phiplug.cli import MISTYPED, note
from phiplug.cli.stdin import piped_input, standard_input
from phiplug.userfiles import expanded, read_text


def prompt_text(argument: str | None, file: str | None, *, quiet: bool = False) -> str:
    """Return the prompt; a blank line stands between two parts, and one that stands alone is left as it is.

    Raises:
        InvalidParameter: standard input or the file cannot be read, or is no text.
    """
    if argument == "-":
        piped, argument = standard_input("prompt"), ""
    else:
        piped = piped_input("prompt")
    if argument is None and file is None and not piped:
        raise MISTYPED("missing argument 'prompt'")
    if argument and not quiet:
        _name_the_flag_for_files(argument)
    parts = [part for part in (piped, "" if file is None else read_text("file", file), argument) if part]
    return "\n\n".join([part.rstrip("\r\n") for part in parts[:-1]] + parts[-1:])


def _name_the_flag_for_files(argument: str) -> None:
    """Tell who gives a file's name as the prompt, with or without an @ before it, how to send what is in it."""
    for name in (argument, argument.removeprefix("@")):
        if os.path.isfile(expanded(name)):  # noqa: PTH113  Path.is_file raises for what no file can be called
            note(f"the prompt is the name of a file; -f {name} sends what is in it")
            return
