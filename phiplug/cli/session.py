"""A chat under way: it sends each line to the model, prints the answer, and lets no error end the conversation.

`phiplug.conversation` keeps the messages. Lines that begin with a slash go to a function that the caller gives.
"""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from phiplug.cli import as_phiplug_error, complain, is_lost_output, note
from phiplug.cli.journal import Question
from phiplug.cli.quotes import quoted, whole_messages
from phiplug.cli.reasoning import ReasoningFlags
from phiplug.cli.screen import AnswerPrinter
from phiplug.cli.statistics import counted
from phiplug.cli.terminal import unechoed
from phiplug.cli.waiting import awaited
from phiplug.errors import InvalidParameter, PhiplugError, PhiplugWarning

if TYPE_CHECKING:
    from phiplug.answerlog import LoggedAnswer, LoggedConversation
    from phiplug.cli.flags import LoadFlags
    from phiplug.cli.journal import Journal
    from phiplug.conversation import Conversation, Reply
    from phiplug.types import Chunk, Message

    Obey: TypeAlias = Callable[[str, "Session"], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """Where answers are shown, and what of them.

    Attributes:
        interactive: on a terminal, where Ctrl-C stops an answer and not the chat.
        raw_output: escape sequences stay.
        markdown: a terminal shows it rendered.
        reasoning: whether that is shown.
    """

    interactive: bool = False
    raw_output: bool = False
    markdown: bool = False
    reasoning: ReasoningFlags = field(default_factory=ReasoningFlags)


class Session:
    """A conversation and whoever has it.

    Attributes:
        conversation: what is said.
        load: the flags that loaded the model, with which another engine would load it.
        journal: logs the answers.
        last: the last chunk of the last answer that came to its end.
        logged: the numbers of this conversation's answers in the log, the newest last.
        held: how many tokens the conversation was at the end of the last answer.
        failure: the first error, or None.
        leaving: the chat is over.
    """

    def __init__(
        self,
        conversation: Conversation,
        load: LoadFlags,
        obey: Obey,
        *,
        journal: Journal,
        shown: Shown,
    ) -> None:
        """Answer with `conversation`; `obey` is given the lines that begin with a slash, and `journal` the answers."""
        self.conversation = conversation
        self.load = load
        self.journal = journal
        self.last: Chunk | None = None
        self.logged: list[int | None] = []
        self.held = 0
        self.failure: PhiplugError | None = None
        self.leaving = False
        self._obey = obey
        self._shown = shown
        self._warned: set[str] = set()

    def run(self, lines: Iterable[str]) -> None:
        """Handle line after line; any error costs a turn, and never the conversation."""
        for line in whole_messages(lines):
            try:
                self._handle(line)
            except KeyboardInterrupt:
                if not self._shown.interactive:
                    raise
                note("stopped")
            except Exception as error:  # an engine or a plugin may raise anything
                if is_lost_output(error):
                    raise
                self._fail(line, error)
            if self.leaving:
                return
            if self._shown.interactive and line.strip():
                note("")

    def go_on(self, kept: LoggedConversation) -> None:
        """Go on with a conversation of the log."""
        self.journal.go_on(kept.id)
        self.logged = [answer.id for answer in kept.answers]
        self.conversation.resume([*kept.messages, *_said(kept.answers)])
        note(f"going on after {counted(len(self.conversation.turns), 'message')}")

    def undo(self) -> str:
        """Take the last question and its answer back, also in the log; return the question.

        Raises:
            InvalidParameter: nothing was asked yet.
        """
        question = self.conversation.undo()
        if question is None:
            raise InvalidParameter("undo", "nothing was asked yet")
        if self.logged and (number := self.logged.pop()):
            self.journal.undo(number)
        self.forget()
        return question

    def forget(self) -> None:
        """Drop what is known of the last answer: it is no longer one of this conversation, or of this engine."""
        self.last, self.held = None, 0

    def _handle(self, line: str) -> None:
        if line.startswith("/"):
            self._obey(line, self)
        elif line.strip():
            self.answer(quoted(line))

    def _fail(self, line: str, error: Exception) -> None:
        """Print one line about what cost this turn."""
        typed = as_phiplug_error(error)
        self.failure = self.failure or typed
        complain(typed)
        if not line.startswith("/"):
            note("your message was taken back; the chat goes on without it")

    def answer(self, text: str) -> None:
        """Send a message, and print what comes."""
        with self._each_warning_once():
            reply = self.conversation.send(text)
        printer = AnswerPrinter(raw=self._shown.raw_output, markdown=self._shown.markdown)
        question = Question(text, self.conversation.system)
        chunks: list[Chunk] = []
        before = len(self.conversation.messages)
        self.journal.prepare()
        try:
            with unechoed() if self._shown.interactive else contextlib.nullcontext():
                self._print(reply, printer, chunks)
        except KeyboardInterrupt:
            if not self._shown.interactive:
                raise
            with _deaf():
                reply.close()
                if reply.text:
                    printer.end()
                note("stopped; " + ("what was said is kept" if reply.text else "your message was taken back"))
        finally:
            self.held = len(reply.request.prompt_ids) + reply.tokens
            number = self.journal.add(self.conversation.llm, reply.request, question, chunks) if chunks else None
            if len(self.conversation.messages) > before:
                self.logged.append(number)
            elif number:  # taken back
                self.journal.undo(number)

    def _print(self, reply: Reply, printer: AnswerPrinter, chunks: list[Chunk]) -> None:
        thoughts = self._shown.reasoning.printer()
        try:
            for chunk in awaited(reply, lambda: reply.progress):
                chunks.append(chunk)
                thoughts.write(chunk.reasoning, chunk.text)
                printer.write(chunk.text)
            thoughts.end()
        except Exception:
            if reply.text:
                printer.end()
            raise
        self.last = chunk
        printer.end()  # an empty line for an empty answer: so a pipe can tell the answers apart
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


def _said(answers: Iterable[LoggedAnswer]) -> Iterator[Message]:
    """Yield the messages of answers that were logged."""
    from phiplug.types import Message

    for answer in answers:
        yield Message("user", answer.prompt)
        yield Message("assistant", answer.answer, answer.reasoning)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C: people press it more than once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
