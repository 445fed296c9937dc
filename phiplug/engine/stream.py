"""An answer as it comes: an iterator of chunks that may be read, closed or dropped at any time, in any thread."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeAlias

from phiplug.errors import PhiplugWarning
from phiplug.types import Chunk, Completion, PromptProgress, Request, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Sequence as Streams
    from types import TracebackType

    from phiplug.engine.engine import Engine
    from phiplug.engine.sequence import Sequence
    from phiplug.errors import PhiplugError

    Observer: TypeAlias = Callable[[Request, Usage, Timings], None]


class Stream:
    """An iterator of chunks that knows its request; also a context manager, which closes it.

    Closing it, or letting go of it, cancels: the next step of the loop frees its slot. A stream that is left half read
    is no burden to others: the loop carries it to its end and keeps its chunks.

    Attributes:
        request: what was asked, with the prompt's ids and the seed in force.
    """

    def __init__(self, engine: Engine, sequence: Sequence, finished: Observer | None = None) -> None:
        self.request: Request = sequence.request
        self._engine = engine
        self._sequence = sequence
        self._finished = finished
        self._read: list[Chunk] = []
        self._ended = False

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        """Return the next chunk; make steps of the loop until there is one.

        Raises:
            GenerationError: the backend failed, or its logits leave no token to choose; what was read before stands.
            KeyboardInterrupt: the user interrupted a logits processor of this request.
            RequestError: the model was closed.
        """
        if self._ended:
            raise StopIteration
        if not self._engine.advance([self._sequence]):
            self._ended = True
            if self._sequence.error is not None:
                raise _as_meant(self._sequence.error)
            raise StopIteration
        chunk: Chunk = self._sequence.outbox.popleft()
        self._read.append(chunk)
        if chunk.finish_reason:
            self._ended = True
            self._warn_of_silence()
            if self._finished and chunk.usage and chunk.timings:
                self._finished(self.request, chunk.usage, chunk.timings)
        return chunk

    @property
    def is_ready(self) -> bool:
        """Whether `next` would return, or raise, without waiting for the model."""
        return self._ended or bool(self._sequence.outbox) or self._sequence.is_over

    @property
    def progress(self) -> PromptProgress:
        """How much of the prompt the model has read; another thread may ask while this one waits for the answer."""
        return self._sequence.progress

    @staticmethod
    def wait_any(streams: Streams[Stream]) -> None:
        """Make steps until one of several streams of one engine is ready."""
        if not any(stream.is_ready for stream in streams):
            streams[0]._engine.advance([stream._sequence for stream in streams])

    def close(self) -> None:
        """Cancel; what was not read is dropped."""
        self._ended = True
        self._sequence.cancelled = True

    def __del__(self) -> None:
        sequence = getattr(self, "_sequence", None)
        if sequence is not None:
            sequence.cancelled = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def completion(self) -> Completion:
        """Read to the end and return the whole answer, with what was read before.

        Raises:
            RequestError: the stream was closed, or failed, before its end.
        """
        for _ in self:
            pass
        return Completion.of(self.request, self._read)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<Stream of {len(self.request.prompt_ids)} prompt tokens, {len(self._read)} chunks read, {state}>"

    def _warn_of_silence(self) -> None:
        """Say why an answer is empty that has tokens; its vocabulary may be damaged."""
        tokens = [token for chunk in self._read for token in chunk.tokens]
        if tokens and not any(map(self._engine.tokenizer.token_bytes, tokens)):
            told = f"the answer has no text: each of its tokens ({len(tokens)}) is a control token"
            warnings.warn(told, PhiplugWarning, stacklevel=3)


def _as_meant(error: PhiplugError) -> BaseException:
    """Return what ended a request; who interrupts one of its logits processors means the reader."""
    return error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else error
