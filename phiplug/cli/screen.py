"""Prints an answer on stdout as it comes.

On a terminal it removes escape sequences, which could move the cursor or rename the window, and shows Markdown, or
breaks lines between words. A pipe or a file gets the text as it is.
"""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Protocol

_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\)"
_SEQUENCE = re.compile(
    rf"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|{_STRING}|\x1b[ -/]*[0-OQ-WYZ\\`-~]"  # ECMA-48, sections 5.3 to 5.6
)
_INTRODUCER = re.compile(r"[\x1b\x90\x98\x9b\x9d\x9e\x9f]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LONGEST_SEQUENCE = 256  # characters; what goes on for longer is shown without its control characters
FENCE = "```"


class Form(Protocol):
    """How a text that comes in pieces is shown on a terminal."""

    def feed(self, text: str, /) -> str:
        """Return what a piece adds to the terminal."""

    def end(self) -> str:
        """Return what was held back."""


class AnswerPrinter:
    """Prints the pieces of one answer."""

    def __init__(self, *, raw: bool = False, markdown: bool = False) -> None:
        """Print the text as it is, escape sequences and all, where `raw` is true or stdout is no terminal."""
        shown = sys.stdout.isatty() and not raw
        self._escapes = EscapeFilter() if shown else None
        self._form: Form | None = WordWrap(lambda: shutil.get_terminal_size().columns) if shown else None
        self._importing: threading.Thread | None = None
        self._ends_line = False
        if shown and markdown:  # rich takes as long as a short prompt, beside which it is imported
            self._importing = threading.Thread(target=_import_markdown, daemon=True)
            self._importing.start()

    def write(self, text: str) -> None:
        """Print a piece."""
        if self._importing and text:
            self._importing.join()
            self._importing = None
            self._form = _markdown() or self._form
        self._print(self._escapes.feed(text) if self._escapes else text)

    def end(self) -> None:
        """Print what was held back, and end the line; an empty answer is an empty line."""
        if self._escapes:
            self._print(self._escapes.end())
        if self._form:
            self._show(self._form.end())
        print("" if self._ends_line else "\n", end="", flush=True)

    def _print(self, text: str) -> None:
        if text:
            self._show(self._form.feed(text) if self._form else text)

    def _show(self, text: str) -> None:
        if text:
            self._ends_line = text.endswith("\n")
            print(text, end="", flush=True)


def _import_markdown() -> None:
    import phiplug.cli.streamed  # noqa: F401


def _markdown() -> Form | None:
    """Return what shows Markdown on stdout; None where the terminal cannot."""
    from phiplug.cli.markdown import console
    from phiplug.cli.streamed import StreamedMarkdown

    found = console()
    return StreamedMarkdown(found, shutil.get_terminal_size) if found else None


class EscapeFilter:
    """Removes escape sequences and control characters from a text that comes in pieces."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what may be shown so far; the beginning of a sequence is held back until the rest is there."""
        text = _SEQUENCE.sub("", self._held + text)
        found = _INTRODUCER.search(text)
        start = found.start() if found else len(text)
        if "\n" in text[start:] or len(text) - start > LONGEST_SEQUENCE:  # it is none
            start = len(text)
        self._held = text[start:]
        return _CONTROLS.sub("", text[:start])

    def end(self) -> str:
        """Return what was held back, without its control characters."""
        held, self._held = self._held, ""
        return _CONTROLS.sub("", held)


class WordWrap:
    """Breaks the lines of a text that comes in pieces between words.

    A word is shown as it comes, and moves to the next line when it reaches the edge. Lines of code between fences, and
    words that are wider than the terminal, are left to the terminal, so that they can be copied whole.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        """Ask `width` for the terminal's columns at each piece: it may change."""
        self._width_now = width
        self._width = 0
        self._column = 0
        self._word = ""  # the part of it that is on this line
        self._head = ""  # the first characters of the line, blanks left out
        self._in_code = False

    def feed(self, text: str) -> str:
        """Return the text with line breaks, and with what moves a word to the next line."""
        self._width = self._width_now()
        return "".join(map(self._placed, text))

    def end(self) -> str:
        """Nothing is held back."""
        return ""

    def _placed(self, character: str) -> str:
        if character == "\n":
            self._in_code ^= self._head == FENCE
            self._head = ""
            self._begin_line()
            return character
        if len(self._head) < len(FENCE):
            self._head += character.strip()
        cells = _cells(character)
        if self._in_code or self._column + cells <= self._width:
            return self._here(character, cells)
        if character == " ":
            self._begin_line()
            return "\n"
        return self._on_the_next_line(character, cells)

    def _here(self, character: str, cells: int) -> str:
        self._column += cells
        self._word = "" if character in " \t" or cells > 1 else self._word + character  # wide scripts have no spaces
        return character

    def _on_the_next_line(self, character: str, cells: int) -> str:
        """Take the word that meets the edge to the next line, unless it fills this one."""
        word = self._word
        before = self._column - sum(map(_cells, word))
        self._begin_line()
        if not word or not before:  # the terminal itself goes on in the next line
            return self._here(character, cells)
        moved = "".join(self._here(each, _cells(each)) for each in word + character)
        return f"\x1b[{before + 1}G\x1b[K\n{moved}"

    def _begin_line(self) -> None:
        self._column, self._word = 0, ""


def _cells(character: str) -> int:
    """Return how many columns a character takes; a tab at most eight."""
    from rich.cells import get_character_cell_size

    return 8 if character == "\t" else get_character_cell_size(character)
