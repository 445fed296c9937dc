"""Reads what a person types for `phiplug chat`, and leaves the terminal as it was.

prompt_toolkit brings line editing, history and completion. It is imported only where both ends are a terminal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from phiplug.cli.quotes import is_open

if TYPE_CHECKING:
    from types import FrameType

    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "
RESET = b"\x1b[?2004l\x1b[?25h\x1b[0m\r\n"
"""Ends bracketed paste, shows the cursor and drops colours: what prompt_toolkit may have set."""

Completions = Mapping[str, Any]  # Any: None, or the completions of the word after it
"""By the first word: None, or what may follow it."""


def is_interactive() -> bool:
    """Whether a person is at both ends."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def typed_lines(completions: Completions) -> Iterator[str]:
    """Yield what is typed, edited with prompt_toolkit, until Ctrl-D; Ctrl-C drops a line."""
    session = _session(completions)
    while True:
        try:
            yield session.prompt()
        except EOFError:
            return
        except KeyboardInterrupt:
            if not session.default_buffer.text:
                typer.secho("Ctrl-D or /exit leaves", dim=True, err=True)


@contextlib.contextmanager
def restored_when_killed() -> Iterator[None]:
    """Restore the terminal where SIGTERM ends the process: without this, what is typed next would not show."""
    try:
        import termios
    except ImportError:  # Windows, where a console has no such state
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def die(number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # which would stop a process in the background
        termios.tcsetattr(keyboard, termios.TCSANOW, before)
        os.write(sys.stdout.fileno(), RESET)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    was = signal.signal(signal.SIGTERM, die)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, was)


@contextlib.contextmanager
def unechoed() -> Iterator[None]:
    """Keep what is typed out of the answer that is being printed; it is there for the next prompt."""
    try:
        import termios
    except ImportError:  # Windows, where nothing is echoed unless somebody reads
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(keyboard, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _session(completions: Completions) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.formatted_text import FormattedText

    return PromptSession(
        FormattedText([("ansigreen bold", PROMPT)]),
        completer=_completer(completions),
        complete_while_typing=False,
        history=_history(),
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=" " * len(PROMPT),
    )


def _completer(completions: Completions) -> Completer:
    """Complete the first word, slash and all, and the second where the first has a list for it."""
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Words(Completer):
        def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
            first, space, rest = document.text_before_cursor.partition(" ")
            begun, words = (rest, completions.get(first) or ()) if space else (first, completions)
            return (Completion(word, -len(begun)) for word in words if word.startswith(begun) and (begun or space))

    return Words()


def _keys() -> KeyBindings:
    """Enter sends; Alt-Enter begins a new line, and so does Enter between three quotes."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        if is_open(event.current_buffer.text):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history() -> History:
    """Return what was typed in earlier chats, in a file for this user's eyes; without one, in memory."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_path()
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def history_path() -> Path | None:
    """Return the file with what was typed in chats, which may not exist; None for a user without a home folder."""
    import platformdirs

    with contextlib.suppress(RuntimeError):
        return platformdirs.user_state_path("phiplug") / "chat_history"
    return None
