"""Logs the answers of `run` and `chat`. No failure of the log ends an answer: it is one warning, and the log is left.

Whether there is a log at all: the flag decides, then the environment, then the user's `config.toml`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from phiplug.cli import note
from phiplug.cli.flags import OUTPUT
from phiplug.errors import InvalidParameter, LogFailed, PhiplugWarning
from phiplug.places import config_file, log_file

if TYPE_CHECKING:
    from phiplug.answerlog import AnswerLog, LoggedConversation
    from phiplug.llm import LLM
    from phiplug.types import Chunk, Message, Request, SamplingParams

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogFlags:
    """Whether answers are logged."""

    log: Annotated[
        bool | None,
        typer.Option(
            "--log/--no-log", rich_help_panel=OUTPUT, help="Keep it for `phiplug logs`.", show_default="on, off in CI"
        ),
    ] = None

    def journal(self, command: str) -> Journal:
        """Return what logs the answers of a command.

        Raises:
            InvalidParameter: the user's `config.toml` has a mistake.
        """
        return Journal(log_file() if is_on(self.log)[0] else None, command)


def is_on(flag: bool | None = None) -> tuple[bool, str]:
    """Return whether answers are logged, and what says so; nothing where that is the default.

    Raises:
        InvalidParameter: the user's `config.toml` has a mistake.
    """
    if flag is not None:
        return flag, "--log" if flag else "--no-log"
    for name in ("PHIPLUG_NO_LOG", "CI"):
        if os.environ.get(name):
            return False, name
    file = config_file()
    if file is None or not file.exists():
        return True, ""
    from phiplug.config import ConfigFile  # a millisecond, and most users have no such file

    wanted = ConfigFile(file).read().values.get("log")
    return wanted is not False, "" if wanted is None else str(file)


def last_conversation() -> LoggedConversation:
    """Return the conversation that was logged last.

    Raises:
        InvalidParameter: there is none.
        LogFailed: the log cannot be read.
    """
    from phiplug.answerlog import AnswerLog

    file = log_file()
    found = None
    if file is not None and file.exists():
        log = AnswerLog(file)
        try:
            found = log.conversation()
        finally:
            log.close()
    if found is None:
        raise InvalidParameter("continue", "no chat is logged yet")
    return found


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the user's message or the raw text, the system message, and how the answer is to begin."""

    prompt: str
    system: str | None = None
    raw: bool = False
    prefill: str = ""


class Journal:
    """Logs answers, each when it is over.

    Attributes:
        conversation: the number of the one that answers belong to, or None.
    """

    def __init__(self, path: Path | None, command: str) -> None:
        """Log in the file `path`; without one, log nothing."""
        self.conversation: int | None = None
        self._command = command
        self._path = path
        self._began: Sequence[Message] | None = None
        self._log: AnswerLog | None = None
        self._failure: LogFailed | None = None
        self._opening: threading.Thread | None = None

    def prepare(self) -> None:
        """Open the log beside the engine, which computes while this waits for the disk: call it before an answer."""
        if self._path is not None and self._opening is None:
            self._opening = threading.Thread(target=self._open, daemon=True)
            self._opening.start()

    def begin(self, messages: Sequence[Message] = ()) -> None:
        """Let the next answers belong to a conversation of their own, which begins with these messages."""
        self._began = tuple(messages)

    def go_on(self, conversation: int) -> None:
        """Let the next answers belong to a conversation that is in the log."""
        self.conversation, self._began = conversation, None

    def undo(self, number: int) -> None:
        """Take an answer out of its conversation."""
        self._tried(lambda log: log.undo(number))

    @contextlib.contextmanager
    def keeping(self, llm: LLM, request: Request, question: Question) -> Iterator[list[Chunk]]:
        """Yield a list for the chunks of an answer; it is logged at the end, whatever ended it, if it has any."""
        chunks: list[Chunk] = []
        self.prepare()
        try:
            yield chunks
        finally:
            if chunks:
                self.add(llm, request, question, chunks)

    def add(self, llm: LLM, request: Request, question: Question, chunks: Sequence[Chunk]) -> int | None:
        """Log an answer, and return its number; None where there is no log, or it failed."""
        from phiplug.answerlog import LoggedAnswer

        if self._path is None:
            return None
        details = _details(llm, request, chunks) | ({"raw": True} if question.raw else {})
        answer = LoggedAnswer(
            self._command,
            llm.files.reference,
            llm.backend,
            question.prompt,
            question.prefill + "".join(chunk.text for chunk in chunks),
            question.system,
            "".join(chunk.reasoning for chunk in chunks),
            details,
        )
        number = self._tried(lambda log: log.add(replace(answer, conversation=self._conversation_in(log))))
        if number == 1:
            note(f"answers are kept in {self._path}; `phiplug logs` shows them, `phiplug logs off` ends that")
        return number

    def _conversation_in(self, log: AnswerLog) -> int | None:
        """Return the number of the conversation; one that was begun anew gets it with its first answer."""
        if self._began is not None:
            self.conversation = log.begin_conversation([message.as_dict() for message in self._began])
            self._began = None
        return self.conversation

    def _open(self) -> None:
        from phiplug.answerlog import AnswerLog

        try:
            self._log = AnswerLog(self._path or Path())
        except LogFailed as error:
            self._failure = error

    def close(self) -> None:
        """Close the log. May be called twice."""
        if self._opening is not None:
            self._opening.join()
        self._path = None
        if self._log is not None:
            with contextlib.suppress(LogFailed):
                self._log.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tried(self, act: Callable[[AnswerLog], T]) -> T | None:
        """Do something with the log, if there is one; what fails is a warning, and the end of logging."""
        if self._path is None:
            return None
        try:
            return act(self._opened())
        except LogFailed as error:
            self.close()
            warnings.warn(f"{error.message}; nothing more is logged", PhiplugWarning, stacklevel=2)
            return None

    def _opened(self) -> AnswerLog:
        self.prepare()
        if self._opening is not None:
            self._opening.join()
        if self._log is None:
            raise self._failure or LogFailed("the log cannot be opened")
        return self._log


def _details(llm: LLM, request: Request, chunks: Sequence[Chunk]) -> dict[str, Any]:  # Any: what JSON holds
    """Return what else is worth keeping of an answer; of one that was interrupted, less is known."""
    from phiplug.messages import calls_of

    last = chunks[-1]
    details: dict[str, Any] = {  # Any: as above
        "seed": request.sampling.seed,
        "finish_reason": last.finish_reason or "interrupted",
        "prompt_tokens": len(request.prompt_ids),
        "completion_tokens": sum(len(chunk.tokens) for chunk in chunks),
        "device": llm.info.device,
        "max_tokens": request.max_tokens,
        "sampling": _changed(request.sampling),
    }
    if last.timings:
        details |= {"ttft_s": last.timings.ttft_s, "decode_tps": last.timings.decode_tps}
    if calls := calls_of(delta for chunk in chunks for delta in chunk.tool_calls):
        details["tool_calls"] = [call.as_dict() for call in calls]
    if last.constraint:
        details["constraint"] = last.constraint
    return details


def _changed(sampling: SamplingParams) -> Mapping[str, Any]:  # Any: what JSON holds
    """Return the parameters that are not as they are by default; the seed has a place of its own."""
    from phiplug.types import SamplingParams

    default = SamplingParams(dialect=sampling.dialect, temperature=sampling.temperature).seeded()
    values = {each.name: getattr(sampling, each.name) for each in fields(sampling)}
    changed = {name: value for name, value in values.items() if value != getattr(default, name) and name != "seed"}
    if "logit_bias" in changed:
        from phiplug.transcript import biases_as_json

        changed["logit_bias"] = biases_as_json(changed["logit_bias"])
    return {"temperature": sampling.temperature, "dialect": sampling.dialect} | changed
