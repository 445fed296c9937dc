"""`phiplug chat`: a conversation in a terminal, or out of a pipe. Answers go to stdout, all the rest to stderr.

What is said, kept and forgotten is `phiplug.conversation`'s affair; the lines that begin with a slash are
`phiplug.cli.slash`'s.
"""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli import complain
from phiplug.cli.flags import OUTPUT, PROMPT, LoadFlags, SamplingFlags, command_app, takes
from phiplug.cli.terminal import is_interactive, piped_lines, typed_lines, unechoed
from phiplug.errors import PhiplugError, PhiplugWarning, outcome_of

if TYPE_CHECKING:
    from phiplug.conversation import Conversation, Reply
    from phiplug.types import Chunk

app = command_app()


@dataclass(frozen=True, slots=True)
class ChatFlags:
    """What `chat` begins with."""

    system: Annotated[
        str | None, typer.Option("-s", "--system", rich_help_panel=PROMPT, help="A system message.", show_default=False)
    ] = None
    strict_content: Annotated[
        bool, typer.Option("--strict-content", rich_help_panel=PROMPT, help="Refuse control tokens in a message.")
    ] = False
    max_tokens: Annotated[
        int, typer.Option("-n", "--max-tokens", "--sample-len", rich_help_panel=OUTPUT, help="At most so many a turn.")
    ] = 512
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", rich_help_panel=OUTPUT, help="Ends an answer; may be repeated.", show_default=False),
    ] = None


@app.command()
@takes(LoadFlags, SamplingFlags, ChatFlags)
def chat(load: LoadFlags, sampling: SamplingFlags, flags: ChatFlags) -> None:
    """Talk with a model, turn after turn; /help lists what else it understands."""
    from phiplug.cli import slash
    from phiplug.conversation import Conversation
    from phiplug.transcript import AnswerOptions

    options = AnswerOptions(sampling.params(), flags.max_tokens, tuple(flags.stop or ()), flags.strict_content)
    interactive = is_interactive()
    session = Session(Conversation(load.load(), system=flags.system, options=options), load, interactive=interactive)
    try:
        if interactive:
            note(f"{slash.about(session.conversation.llm)}\n{GREETING}\n")
        session.run(typed_lines(slash.completions()) if interactive else piped_lines())
    finally:
        session.conversation.llm.close()
    if session.failure and not interactive:
        raise typer.Exit(outcome_of(session.failure).exit_code)


GREETING = "/help lists the commands · Ctrl-C stops an answer · Ctrl-D leaves"


class Session:
    """A conversation and whoever has it.

    Attributes:
        conversation: what is said.
        load: the flags that loaded the model, with which another engine would load it.
        last: the last chunk of the last answer that came to its end.
        held: how many tokens the conversation was at the end of the last answer.
        failure: the first error, or None.
        leaving: the chat is over.
    """

    def __init__(self, conversation: Conversation, load: LoadFlags, *, interactive: bool) -> None:
        self.conversation = conversation
        self.load = load
        self.last: Chunk | None = None
        self.held = 0
        self.failure: PhiplugError | None = None
        self.leaving = False
        self._interactive = interactive
        self._warned: set[str] = set()

    def run(self, lines: Iterable[str]) -> None:
        """Handle line after line; an error costs a turn, not the conversation."""
        for line in lines:
            try:
                self._handle(line)
            except PhiplugError as error:
                self.failure = self.failure or error
                complain(error)
                if not line.startswith("/"):
                    note("your message was taken back; the chat goes on without it")
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                note("stopped")
            if self.leaving:
                return
            if self._interactive and line.strip():
                note("")

    def forget(self) -> None:
        """Drop what is known of the last answer: it is no longer one of this conversation, or of this engine."""
        self.last, self.held = None, 0

    def _handle(self, line: str) -> None:
        from phiplug.cli import slash

        if line.startswith("/"):
            slash.obey(line, self)
        elif line.strip():
            self._answer(line)

    def _answer(self, text: str) -> None:
        with self._each_warning_once():
            reply = self.conversation.send(text)
        try:
            with unechoed() if self._interactive else contextlib.nullcontext():
                self._print(reply)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            with _deaf():
                reply.close()
                _end_line(reply)
                note("stopped; " + ("what was said is kept" if reply.text else "your message was taken back"))
        finally:
            self.held = len(reply.request.prompt_ids) + reply.tokens

    def _print(self, reply: Reply) -> None:
        try:
            for chunk in reply:
                print(chunk.text, end="", flush=True)
        except PhiplugError:
            _end_line(reply)
            raise
        self.last = chunk
        if not reply.text:
            print()  # for an empty answer an empty line: so a pipe can tell the answers apart
        _end_line(reply)
        if chunk.finish_reason == "length":
            limit = self.conversation.options.max_tokens
            full = chunk.usage and chunk.usage.completion_tokens < limit
            note("the context is full; /reset begins anew" if full else f"cut off after max_tokens, {limit}")

    @contextlib.contextmanager
    def _each_warning_once(self) -> Iterator[None]:
        """Show a warning at the first turn that it belongs to: a conversation is rendered anew for each."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PhiplugWarning)
            yield
        for warning in caught:
            if str(warning.message) not in self._warned:
                self._warned.add(str(warning.message))
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def note(text: str) -> None:
    """Print something that is no answer."""
    typer.secho(text, dim=True, err=True)


def _end_line(reply: Reply) -> None:
    print("" if not reply.text or reply.text.endswith("\n") else "\n", end="", flush=True)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C: people press it more than once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
