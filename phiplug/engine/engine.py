"""The loop for callers in any thread: submit a request and read its stream; whoever needs a chunk steps for all.

A lock is held for one step, and never while a caller has the word. It knows nothing of templates, files or how a
backend was found.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from phiplug.engine.answer import Answer
from phiplug.engine.backend import GuardedModel
from phiplug.engine.scheduler import QUEUE, Scheduler
from phiplug.engine.sequence import RowSequence, Sequence
from phiplug.engine.stream import Stream
from phiplug.errors import InvalidParameter, ModelBusy, PromptTooLong, RequestError
from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from collections.abc import Sequence as Ids

    from phiplug.engine.stream import Observer
    from phiplug.spi import Logits, Model, Tokenizer
    from phiplug.types import Chunk, Completion

T = TypeVar("T")


class Engine:
    """A model, its tokenizer, and the loop that drives it. May be used from several threads.

    Attributes:
        model: what computes; only a benchmark of the bare engine should call it.
        tokenizer: spells what was drawn.
        scheduler: the loop, for a process that makes all steps itself and calls nothing else here but `close`.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, *, backend: str = "the backend") -> None:
        """Drive `model`, all of whose slots are empty; `backend` is its name in errors."""
        self.model = model
        self.tokenizer = tokenizer
        self._guarded = GuardedModel(model, backend)
        self.scheduler = Scheduler(self._guarded, tokenizer)
        self._lock = threading.Lock()
        self._closed = False
        self._stepping: int | None = None  # the thread that makes a step

    def submit(self, request: Request, finished: Observer | None = None) -> Stream:
        """Queue a request; nothing is computed before a chunk is asked for. `finished` is told when it ran to its end.

        A stream that nobody reads is carried on by the steps of others.

        Raises:
            PromptTooLong: the context does not hold the prompt.
            InvalidParameter: the prompt has an id that the model does not have.
            ModelBusy: too many requests wait already.
            RequestError: the model was closed.
        """
        return Stream(self, self._queued(lambda: self.scheduler.add(request)), finished)

    def choices(self, request: Request, count: int, finished: Observer | None = None) -> list[Stream]:
        """Queue `count` answers to one prompt, which is computed once; the i-th has the request's seed + i.

        Raises:
            As `submit` does.
        """
        if count < 1:
            raise InvalidParameter("n", f"{count} is not at least 1")
        sequences = self._queued(lambda: self.scheduler.add_choices(request, count))
        return [Stream(self, sequence, finished) for sequence in sequences]

    def completions(self, requests: Ids[Request], finished: Observer | None = None) -> Iterator[Completion]:
        """Yield the answers to requests in their order, however many there are; they are computed side by side.

        Only a few for each slot are queued at once, so that the queue has room for others.

        Raises:
            As `submit` does, before anything is computed; and what reading a stream raises.
        """
        for request in requests:
            self.scheduler.admit(request.prompt_ids)
        at_once = min(QUEUE // 2, 4 * self.model.info.slots)
        streams: deque[Stream] = deque()
        try:
            for request in requests:
                if len(streams) == at_once:
                    yield streams[0].completion()
                    streams.popleft()
                streams.append(self.submit(request, finished))
            for stream in streams:
                yield stream.completion()
        finally:
            for stream in streams:
                stream.close()

    def stream_all(self, requests: Iterable[Request]) -> Generator[tuple[int, Chunk]]:
        """Continue several prompts side by side and yield (index of the request, chunk) as chunks come."""
        return merged([self.submit(request) for request in requests])

    def rows(self, ids: Ids[int], *, chunk: int | None = None) -> Iterator[Logits]:
        """Yield the logits after every id of a text, a chunk at a time, reusing nothing.

        Args:
            ids: the text, at most as long as the context.
            chunk: how many ids each pass takes; the model's own chunk if None, 1 to decode one by one.

        Yields:
            float32, shape (ids in the chunk, V).
        """
        info = self.model.info
        if len(ids) > info.context_length:
            raise PromptTooLong(len(ids), info.context_length)
        request = Request(tuple(ids), SamplingParams(seed=0), reuse=False, repeatable=True)
        answer = Answer(request, self.tokenizer, limit=request.max_tokens, started=time.perf_counter())
        sequence = RowSequence(answer, chunk=chunk or info.chunk)
        self._queued(lambda: self.scheduler.enqueue(sequence))
        try:
            while self.advance([sequence]):
                yield sequence.outbox.popleft()
            if sequence.error is not None:
                raise sequence.error
        finally:
            sequence.cancelled = True

    def advance(self, sequences: Ids[Sequence]) -> bool:
        """Make steps until one of these sequences has something to read; return False where none ever will.

        Raises:
            KeyboardInterrupt: the user interrupted a step; nothing is lost.
        """
        self._refuse_reentry()
        while not any(sequence.outbox for sequence in sequences):
            with self._lock:  # whoever steps holds it until the last chunk of those that have ended is in its outbox
                if any(sequence.outbox for sequence in sequences):
                    break
                if all(sequence.is_over for sequence in sequences):
                    return False
                if self._closed:
                    self.scheduler.fail(_closed())
                    continue
                for sequence, chunk in self._step():
                    sequence.outbox.append(chunk)
        return True

    def close(self) -> None:
        """Give back the model's memory, after the pass that runs; open streams end in an error. May be called twice."""
        self._refuse_reentry()
        self._closed = True  # before the lock, for which a reader that steps would leave nobody the time
        with self._lock:
            self.scheduler.fail(_closed())
            self._guarded.close()

    def _step(self) -> list[tuple[Sequence, Any]]:  # Any: as `Scheduler.step` says
        self._stepping = threading.get_ident()
        try:
            return self.scheduler.step()
        finally:
            self._stepping = None

    def _refuse_reentry(self) -> None:
        """Refuse what would wait for itself for ever: a logits processor that asks the model whose step calls it."""
        if self._stepping == threading.get_ident():
            raise RequestError("a logits processor asks the model that calls it", hint="load a second one for that")

    def _queued(self, add: Callable[[], T]) -> T:
        """Queue without waiting for the step that another thread makes."""
        if self._closed:
            raise _closed()
        try:
            return add()
        except ModelBusy:
            with self._lock:
                self.scheduler.tidy()
            return add()


def merged(streams: Ids[Stream]) -> Generator[tuple[int, Chunk]]:
    """Yield (index of the stream, chunk) of several streams of one engine, each chunk as soon as it is there.

    A stream that another thread closes brings no more chunks, and the others go on.
    """
    live = dict(enumerate(streams))
    try:
        while live:
            Stream.wait_any(list(live.values()))
            for index, stream in list(live.items()):
                while stream.is_ready:
                    chunk = next(stream, None)
                    if chunk is not None:
                        yield index, chunk
                    if chunk is None or chunk.finish_reason:
                        del live[index]
                        break
    finally:
        for stream in streams:
            stream.close()


def _closed() -> RequestError:
    return RequestError("the model was closed", hint="load it again")
