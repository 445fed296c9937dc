"""Keeps the contract with a llama.cpp context: passes wait until they are read, slots rewind and copy.

A pass is deferred: llama_decode holds the thread that calls it, so starting early would gain nothing. The context holds
one stream of key-value cells for each slot and not a common one (`kv_unified`), for two reasons that were measured.
With a common one, logits of a slot depended on what the others held, by up to 1.0, and four sequences decoded 5 to 20%
slower. And copying works all the same: llama.cpp aborts at a copy of a part of a stream, but copies a whole one, which
is then cut.

Beside llama_decode a pass over one token costs 5 us, of 5 ms and more: as much as a bare loop over the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from phiplug.errors import BackendFailed, BackendUnavailable, GenerationError, OutOfMemory
from phiplug.spi import ModelInfo, Step
from phiplug_llama_cpp.batch import Batch, rows_at
from phiplug_llama_cpp.functions import AbortCallback
from phiplug_llama_cpp.interrupt import CtrlC
from phiplug_llama_cpp.library import Library
from phiplug_llama_cpp.mapped import MappedFiles
from phiplug_llama_cpp.tuning import Tuning

if TYPE_CHECKING:
    from phiplug.spi import Logits
    from phiplug_llama_cpp.contexts import Context

TIMED = 1024  # passes are timed up to this position: far beyond, attention is mistaken for a busy machine

LONG = 16  # tokens; a pass of fewer is over soon and does not ask whether Ctrl-C was pressed

_DONE, _NO_MEMORY = 0, -2  # what llama_decode returns


class LlamaCppPass:
    """A `phiplug.spi.Pass`: steps that the model computes when it is told to."""

    def __init__(self, model: LlamaCppModel, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.error: GenerationError | None = None
        self._model = model

    def logits(self) -> Logits:
        """Compute, if that is still to be done, and look at the rows; see `phiplug.spi.Pass`."""
        return self._model.rows_of(self)


class LlamaCppModel:
    """A `phiplug.spi.Model` of one llama.cpp context, with the methods of `phiplug.spi.Autotunes`.

    Attributes:
        info: see `phiplug.spi.ModelInfo`; replaced when the number of threads changes.
    """

    def __init__(
        self, library: Library, context: Context, info: ModelInfo, files: MappedFiles, tuning: Tuning | None = None
    ) -> None:
        """Take over `context` and `files`, which `close` frees; without `tuning` the number of threads is fixed."""
        self.info = info
        self._library = library
        self._api = library.api
        self._context = context
        self._files = files
        self._threads = (info.threads, info.threads)  # for passes of one token, and for others
        self._tuning = tuning
        self._batch = Batch(library.layout.structure("llama_batch"), context.capacity)
        self._lengths = [0] * info.slots
        self._pending: LlamaCppPass | None = None
        self._finished: LlamaCppPass | None = None
        self._rows: Logits = np.empty((0, info.vocab_size), np.float32)
        self._rows_at = 0
        self._ctrl_c = ctrl_c = CtrlC()
        self._abort = AbortCallback(lambda _: ctrl_c.pressed)
        self._never = AbortCallback()
        self._closed = False

    def forward(self, steps: Sequence[Step]) -> LlamaCppPass:
        """Ask for a pass; see `phiplug.spi.Model`. What the pass before raises is raised here."""
        self._settle()
        self._finished = None
        self._pending = LlamaCppPass(self, steps)
        return self._pending

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most `length` tokens of `slot`; a recurrent model keeps all or nothing."""
        self._settle()
        if length < self._lengths[slot]:
            self._cut(slot, length)
        return self._lengths[slot]

    def copy(self, source: int, target: int, length: int) -> int:
        """Copy the whole slot, which takes some 20 ms for each 100 MB of its cells, and keep `length` tokens of it."""
        self._settle()
        if source != target:
            self._cut(target, 0)
            self._api.llama_memory_seq_cp(self._context.memory, source, target, -1, -1)
            self._lengths[target] = self._lengths[source]
        return self.rewind(target, length)

    def check_batch(self) -> None:
        """Run a pass whose positions are read back: nothing else tells the pointers of a llama_batch apart.

        Raises:
            BackendUnavailable: they are others, as in a library whose layout only seemed to fit.
        """
        self.forward([Step(0, (0, 0, 0))]).logits()
        last = self._api.llama_memory_seq_pos_max(self._context.memory, 0)
        self.rewind(0, 0)
        if last != 2:
            raise BackendUnavailable(f"{self._library.provider.name} takes a batch in a way that phiplug does not know")

    def autotune(self) -> None:
        """Choose the number of threads by what was measured; see `threads`."""
        if self._tuning is None:
            return
        self._settle()
        self._tuning.learn()
        threads = self._tuning.choice.choose()
        if threads != self.info.threads:
            self.info = replace(self.info, threads=threads)

    def forget(self) -> None:
        """Have every number of threads tried again by the next calls of `autotune`."""
        if self._tuning is not None:
            self._tuning.choice.forget()

    def close(self) -> None:
        """Free the context and the weights, and remember what was measured; a pass that nobody read is dropped."""
        if self._closed:
            return
        self._closed = True
        self._pending = self._finished = None
        self._rows = np.empty((0, self.info.vocab_size), np.float32)
        self._api.llama_free(self._context.handle)
        self._api.llama_model_free(self._context.weights)
        self._files.close()
        if self._tuning is not None:
            self._tuning.learn()

    def rows_of(self, asked: LlamaCppPass) -> Logits:
        """Return the rows of a pass, which is computed if it is the one that waits."""
        if asked is self._pending:
            self._settle()
        if asked is self._finished:
            return self._rows
        raise asked.error or BackendFailed("the logits of this pass are gone: the model was closed or has moved on")

    def _settle(self) -> None:
        """Compute the pass that waits, if there is one."""
        if self._closed:  # llama.cpp would read freed memory
            raise BackendFailed("the model was closed")
        asked, self._pending = self._pending, None
        if asked is None:
            return
        before = [self._lengths[step.slot] for step in asked.steps]
        try:
            self._compute(asked.steps)
        except BaseException as error:  # Ctrl-C, too, may come between the pass and what is written down of it
            for step, length in zip(asked.steps, before, strict=True):
                self._cut(step.slot, length)
            asked.error = error if isinstance(error, GenerationError) else None
            raise
        self._finished = asked

    def _compute(self, steps: Sequence[Step]) -> None:
        self._files.check()
        self._set_threads(steps)
        first = self._batch.fill(steps, self._lengths)
        since = self._library.log.count
        code = self._decode() if self._batch.struct.n_tokens < LONG else self._decode_long()
        if code != _DONE:
            raise _failure(code, self._library.log.complaints(since))
        for step in steps:
            self._lengths[step.slot] += len(step.tokens)
        self._look(first, sum(step.rows for step in steps))

    def _set_threads(self, steps: Sequence[Step]) -> None:
        """Give a piece of a prompt all cores, if the number of threads is not fixed; no bit of a row depends on it."""
        single = together = self.info.threads
        if self._tuning is not None and any(len(step.tokens) >= LONG for step in steps):
            together = self._tuning.cores
        if self._threads != (single, together):
            self._threads = (single, together)
            self._api.llama_set_n_threads(self._context.handle, single, together)

    def _decode(self) -> int:
        """Run the batch; time it where that tells something."""
        started = time.perf_counter()
        code: int = self._api.llama_decode(self._context.handle, self._batch.struct)
        if self._tuning is not None and self._batch.is_timeable(TIMED):
            self._tuning.choice.record(time.perf_counter() - started)
        return code

    def _decode_long(self) -> int:
        """Run the batch so that Ctrl-C stops it.

        llama.cpp asks after each operation, 515 times in a pass of SmolLM2, whatever its length. That is 2.3% of a pass
        over one token, which therefore goes without: it is over soon, and Python then notices Ctrl-C by itself.
        """
        self._api.llama_set_abort_callback(self._context.handle, self._abort, None)
        try:
            with self._ctrl_c:
                code: int = self._api.llama_decode(self._context.handle, self._batch.struct)
        finally:
            self._api.llama_set_abort_callback(self._context.handle, self._never, None)
        self._ctrl_c.raise_if_pressed()
        return code

    def _look(self, first: int, rows: int) -> None:
        """Point `_rows` at the logits of the pass that was just computed; llama.cpp keeps them in one block."""
        if rows == 0:
            self._rows, self._rows_at = self._rows[:0], 0
            return
        address = self._api.llama_get_logits_ith(self._context.handle, first)
        if not address:
            raise BackendFailed("llama.cpp computed a pass and kept no logits")
        if address != self._rows_at or rows != len(self._rows):
            self._rows, self._rows_at = rows_at(address, rows, self.info.vocab_size), address

    def _cut(self, slot: int, length: int) -> None:
        """Bring a slot to `length` tokens, or to none where the model cannot forget a part of it."""
        api, memory = self._api, self._context.memory
        self._lengths[slot] = length
        cut = length and api.llama_memory_seq_rm(memory, slot, length, -1)
        if cut and api.llama_memory_seq_pos_min(memory, slot) == 0:  # a sliding window may have let go of the beginning
            return
        api.llama_memory_seq_rm(memory, slot, -1, -1)
        self._lengths[slot] = 0


def _failure(code: int, complaints: Sequence[str]) -> GenerationError:
    """Name what llama_decode returned, with what it logged about it."""
    reason = complaints[0] if complaints else f"llama_decode returned {code}"
    if code == _NO_MEMORY:
        return OutOfMemory(f"llama.cpp ran out of memory: {reason}", hint="lower `ctx_size`")
    return BackendFailed(f"llama.cpp failed: {reason}")
