"""The token loop: requests -> chunks of text, one sequence or many at once.

The engine owns the ids; the backend owns the key-value cache behind them, slot by slot. What a row of logits becomes is
`phiplug.engine.sequence`'s business. The engine knows nothing of templates, files or how a backend was found.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from phiplug.engine.backend import GuardedModel
from phiplug.engine.sequence import Answer
from phiplug.errors import InvalidParameter, ModelBusy, NonFiniteLogits, PromptTooLong
from phiplug.spi import Step

if TYPE_CHECKING:
    from phiplug.spi import Logits, Model, Pass, Tokenizer
    from phiplug.types import Chunk, Request, Reuse


class Engine:
    """A model, its tokenizer, and the ids that each slot of the model holds.

    May be used from several threads: streams on one engine take turns.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, *, backend: str = "the backend") -> None:
        """Drive `model`, all of whose slots are empty; `backend` is its name in errors."""
        info = model.info
        self.model = model
        self.tokenizer = tokenizer
        self._guarded = GuardedModel(model, backend)
        self._vocab_size, self._context, self._chunk = info.vocab_size, info.context_length, info.chunk
        self._slots = [_Slot(index) for index in range(info.slots)]
        self._turn = _Turn()

    def stream(self, request: Request) -> Generator[Chunk]:
        """Continue one prompt; the last chunk says why it ended. Closing the iterator cancels between tokens.

        Raises:
            PromptTooLong: at once; the context does not hold the prompt and one token more.
            InvalidParameter: at once; the prompt has an id that the model does not have.
            ModelBusy: an earlier stream is open that this thread, or one that has ended, was the last to read.
            GenerationError: the backend failed, or its logits leave no token to choose.
        """
        return _alone(self.stream_all([request]))

    def stream_all(self, requests: Sequence[Request]) -> Generator[tuple[int, Chunk]]:
        """Continue several prompts at once, each in a slot of its own, and yield (index of the request, chunk).

        Raises:
            As `stream` does, and InvalidParameter for more requests than the model has slots.
        """
        self._admit(requests)
        return self._run(requests, started=time.perf_counter())

    def score(self, ids: Sequence[int], *, chunk: int | None = None) -> Generator[Logits]:
        """Yield the logits after every id of a text, a chunk at a time, reusing nothing.

        Args:
            ids: the text, at most as long as the context.
            chunk: how many ids each pass takes; the model's own chunk if None, 1 to decode one by one.

        Yields:
            float32, shape (ids in the chunk, V), valid until the next is asked for.
        """
        if len(ids) > self._context:
            raise PromptTooLong(len(ids), self._context)
        size = chunk or self._chunk
        slot = self._slots[0]
        with self._turn:
            slot.cut(self._guarded.rewind(slot.index, 0), self._chunk)
            for start in range(0, len(ids), size):
                piece = tuple(ids[start : start + size])
                asked = self._ask([Step(slot.index, piece, rows=len(piece))])
                rows = self._guarded.logits(asked, len(piece))
                with self._turn.paused():
                    yield rows

    def close(self) -> None:
        """Close the model when the streams of other threads are done; one that nobody else reads ends in an error."""
        with self._turn.step if self._turn.is_stuck() else self._turn:
            self._guarded.close()

    def _run(self, requests: Sequence[Request], *, started: float) -> Generator[tuple[int, Chunk]]:
        with self._turn:
            self._autotune(requests)
            live = self._begin(requests, started)
            while live:
                going = [sequence for sequence in live if sequence.answer.finish_reason is None]
                steps = [Step(sequence.slot.index, (sequence.answer.token,)) for sequence in going]
                asked = self._ask(steps) if steps else None
                for sequence in live:  # asked before we talk: the device works while the caller handles the text
                    chunk = sequence.answer.chunk()
                    with self._turn.paused():
                        yield sequence.request, chunk
                if asked:
                    for sequence, row in zip(going, self._guarded.logits(asked, len(going)), strict=True):
                        self._take(sequence.answer, row)
                live = going

    def _begin(self, requests: Sequence[Request], started: float) -> list[_Sequence]:
        """Prefill each request in a slot of its own and draw its first token."""
        free = list(self._slots)
        live = []
        for index, request in enumerate(requests):
            slot = max(free, key=lambda slot: slot.shared_with(request.prompt_ids))  # the first of equals
            free.remove(slot)
            limit = min(request.max_tokens, self._context - len(request.prompt_ids))
            answer = Answer(request, self.tokenizer, limit=limit, started=started)
            answer.cached, row = self._prefill(slot, request)
            self._take(answer, row)
            live.append(_Sequence(index, slot, answer))
        return live

    def _prefill(self, slot: _Slot, request: Request) -> tuple[int, Logits]:
        """Bring `slot` to the end of the prompt; return how much of it needed no computing, and the last row."""
        ids = request.prompt_ids
        wanted = min(slot.reusable(ids, request.reuse, self._chunk), len(ids) - 1)  # the last id is always run again
        kept = self._guarded.rewind(slot.index, wanted)
        if kept < wanted and request.reuse == "chunks":  # less than whole chunks would start the next ones elsewhere
            kept = self._guarded.rewind(slot.index, kept // self._chunk * self._chunk)
        slot.cut(kept, self._chunk)
        pieces = [ids[start : start + self._chunk] for start in range(kept, len(ids), self._chunk)]
        for piece in pieces[:-1]:
            self._ask([Step(slot.index, piece, rows=0)])
        return kept, self._guarded.logits(self._ask([Step(slot.index, pieces[-1])]), 1)[0]

    def _ask(self, steps: list[Step]) -> Pass:
        """Ask the backend for a pass, and write down what its slots will hold."""
        for step in steps:
            self._slots[step.slot].extend(step.tokens, self._chunk)
        return self._guarded.forward(steps)

    def _take(self, answer: Answer, row: Logits) -> None:
        """Hand a row to its answer; a row that leaves no token to choose names the backend it came from."""
        try:
            answer.take(row)
        except NonFiniteLogits as error:
            raise NonFiniteLogits(
                f"nothing can be drawn from a row of {self._guarded.name}: {error.message}"
            ) from error

    def _admit(self, requests: Sequence[Request]) -> None:
        """Refuse what cannot be done before anything is computed."""
        if len(requests) > len(self._slots):
            raise InvalidParameter("requests", f"{len(requests)} at once, but the model has {len(self._slots)} slots")
        for request in requests:
            if len(request.prompt_ids) >= self._context:
                raise PromptTooLong(len(request.prompt_ids), self._context)
            if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= self._vocab_size:
                raise InvalidParameter("prompt", f"has an id outside the model's vocabulary of {self._vocab_size}")

    def _autotune(self, requests: Sequence[Request]) -> None:
        if all(request.may_autotune for request in requests):
            self._guarded.autotune()


class _Slot:
    """What one slot of the model holds: its ids, of which the first `chunked` were prefilled as whole chunks.

    After a pass that failed it may hold less; `Model.rewind` says how much.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._ids: list[int] = []
        self._chunked = 0

    def shared_with(self, ids: Sequence[int]) -> int:
        """Return the length of the prefix that this slot shares with `ids`."""
        pairs = zip(self._ids, ids, strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(self._ids), len(ids)))

    def reusable(self, ids: Sequence[int], reuse: Reuse, chunk: int) -> int:
        """Return how much of `ids` need not be computed again; `Request.reuse` says what the kinds promise."""
        if reuse == "none":
            return 0
        shared = self.shared_with(ids)
        return shared if reuse == "all" else min(shared, self._chunked, len(ids) - 1) // chunk * chunk

    def extend(self, ids: Sequence[int], chunk: int) -> None:
        if self._chunked == len(self._ids) and len(ids) == chunk:
            self._chunked += chunk
        self._ids.extend(ids)

    def cut(self, length: int, chunk: int) -> None:
        del self._ids[length:]
        self._chunked = min(self._chunked, length // chunk * chunk)


class _Sequence(NamedTuple):
    """An answer in the making, the index of its request, and where its cache is."""

    request: int
    slot: _Slot
    answer: Answer


class _Turn:
    """The turn of one stream, and the steps that it makes: a stream may be read by one thread after another.

    Attributes:
        step: held while a stream computes, and free while its reader has the word.
    """

    def __init__(self) -> None:
        self.step = threading.RLock()  # a stream that is collected while its thread closes the model takes it again
        self._whole = threading.Lock()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> None:
        """Wait for the turn.

        Raises:
            ModelBusy: that would last for ever.
        """
        if self.is_stuck():
            raise ModelBusy("another stream of this model is open", hint="read it to its end or close() it first")
        self._whole.acquire()
        self._resume()

    def __exit__(self, *_: object) -> None:
        self._reader = None
        self.step.release()
        self._whole.release()

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Let go of the step, but not of the turn, until the next one is asked for."""
        self.step.release()
        try:
            yield
        finally:
            self._resume()

    def is_stuck(self) -> bool:
        """Whether the last to read the open stream is this thread, or one that has ended."""
        reader = self._reader
        return reader is not None and (reader is threading.current_thread() or not reader.is_alive())

    def _resume(self) -> None:
        self.step.acquire()
        self._reader = threading.current_thread()


def _alone(chunks: Generator[tuple[int, Chunk]]) -> Generator[Chunk]:
    with contextlib.closing(chunks):
        for _, chunk in chunks:
            yield chunk
