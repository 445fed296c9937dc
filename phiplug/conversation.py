"""A conversation with a model: questions in, answers out, and everything said so far.

It holds the messages, so that a turn is prefilled only from where it differs from what the model's cache holds already.
It knows nothing of terminals; `phiplug.transcript` knows its form on disk.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from phiplug.errors import InvalidParameter, RequestError
from phiplug.llm import PromptOptions
from phiplug.transcript import AnswerOptions, Transcript, read_transcript
from phiplug.types import Message

if TYPE_CHECKING:
    from phiplug.llm import LLM, Stream
    from phiplug.types import Chunk, MessageLike, PromptProgress, Request


class Conversation:
    """Messages that a model answers. They grow by a question and its answer at once, or not at all.

    Attributes:
        llm: what answers next; another one may take over between two turns, and has to read everything once.
        options: how it answers.
    """

    def __init__(self, llm: LLM, *, system: str | None = None, options: AnswerOptions | None = None) -> None:
        """Begin with nothing said, but for a system message where `system` is one."""
        self.llm = llm
        self.options = options or AnswerOptions()
        self._turns: list[Message] = []
        self._system: Message | None = None
        self._last: weakref.ref[Reply] | None = None  # one that was dropped is closed
        self.system = system

    @property
    def system(self) -> str | None:
        """The system message, or None; it may be changed between two turns."""
        return self._system.content if self._system else None

    @system.setter
    def system(self, text: str | None) -> None:
        self._system = None if text is None else Message("system", text)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything said so far, the system message first."""
        return (*([self._system] if self._system else []), *self._turns)

    @property
    def turns(self) -> tuple[Message, ...]:
        """Everything said so far, but for the system message."""
        return tuple(self._turns)

    def send(self, text: str) -> Reply:
        """Say something, and have it answered. Read the reply to its end, or close it, before the next one.

        The cache serves for all that it shares with the conversation, so an answer with a seed may depend, in the last
        bits of its logits, on how the conversation came to be. How long that is shows in the reply's usage.

        Raises:
            InvalidParameter: there is no text, or it has control tokens where they are refused.
            TemplateFailed: the model has no chat template, or it refused the messages.
            PromptTooLong: the context does not hold what was said so far.
            RequestError: the reply before this one was neither read to its end nor closed.
            GenerationError: while reading; then nothing of this turn is kept.
        """
        last = self._last() if self._last else None
        if last is not None and last.is_open:
            raise RequestError("the reply before this one is open", hint="read it to its end or close() it first")
        question = Message("user", text)
        if not text.strip():
            raise InvalidParameter("prompt", "is empty")
        request = self.llm.request(
            (*self.messages, question),
            self.options.sampling,
            PromptOptions(strict_content=self.options.strict_content, variables=self.options.variables),
            max_tokens=self.options.max_tokens,
            stop=self.options.stop,
        )
        # Whatever the last turn left in a slot may serve this one, so nothing is asked of how it was computed.
        free = replace(request, repeatable=False, may_autotune=True)
        reply = Reply(self.llm.submit(free), lambda answer: self._turns.extend((question, answer)))
        self._last = weakref.ref(reply)
        return reply

    def undo(self) -> str | None:
        """Take the last question and what was answered back; return the question, or None where there is none."""
        asked = [at for at, message in enumerate(self._turns) if message.role == "user"]
        if not asked:
            return None
        question = self._turns[asked[-1]].content
        del self._turns[asked[-1] :]
        return question

    def resume(self, messages: Sequence[MessageLike]) -> None:
        """Go on after these messages, in the place of what was said; the system message and the options stay.

        Raises:
            InvalidParameter: one of them is no message.
        """
        self._turns = [Message.of(each) for each in messages]

    def reset(self) -> None:
        """Forget what was said; the system message and the options stay."""
        self._turns.clear()

    def save(self, path: Path) -> None:
        """Write the conversation to a file; raises as `Transcript.write`."""
        Transcript(self.messages, self.options.values(), self.llm.files.reference, self.llm.backend).write(path)

    def load(self, path: Path) -> Transcript:
        """Go on with the conversation in a file, and with its options; the model stays. Return what the file says.

        Raises:
            InvalidParameter: it cannot be read, or is no conversation, or an option is out of range.
        """
        transcript = read_transcript(path)
        self.options = self.options.changed(transcript.options)
        system, turns = None, transcript.messages
        if turns and turns[0].role == "system":
            system, turns = turns[0], turns[1:]
        self._system, self._turns = system, list(turns)
        return transcript


class Reply:
    """An answer as it comes: an iterator of chunks, whose end becomes part of the conversation.

    Attributes:
        request: what was asked, with the prompt's ids and the seed in force.
        text: what was read of the answer so far.
        reasoning: what was read of the reasoning before it.
        tokens: how many tokens that is.
    """

    def __init__(self, stream: Stream, keep: Callable[[Message], None]) -> None:
        self.request: Request = stream.request
        self.text = self.reasoning = ""
        self.tokens = 0
        self._stream = stream
        self._keep = keep
        self._open = True

    @property
    def is_open(self) -> bool:
        """Whether more may come of it."""
        return self._open

    @property
    def progress(self) -> PromptProgress:
        """How much of the prompt the model has read; any thread may ask."""
        return self._stream.progress

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            chunk = next(self._stream)
        except Exception:
            self._open = False
            raise
        self.text += chunk.text
        self.reasoning += chunk.reasoning
        self.tokens += len(chunk.tokens)
        if chunk.finish_reason:
            self._end()
        return chunk

    def close(self) -> None:
        """Stop. What was read of the answer is kept; where nothing was, the question is taken back too."""
        self._stream.close()
        if self.text:
            self._end()
        self._open = False

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._keep(Message("assistant", self.text, self.reasoning))
