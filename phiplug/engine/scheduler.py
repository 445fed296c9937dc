"""The loop: one pass after another, which requests join and leave between passes.

A step reads the pass that was asked for last, lets sequences leave and join, and asks for the next pass, so that the
device works while readers print. It has no thread and no lock, and it knows nothing of templates or files.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from phiplug.engine.answer import Answer
from phiplug.engine.lookahead import Lookahead
from phiplug.engine.plan import decode_together, plan_of, prefill_together
from phiplug.engine.sequence import Sequence, admit
from phiplug.engine.slots import Slots
from phiplug.errors import InvalidParameter, ModelBusy, NonFiniteLogits, PhiplugError
from phiplug.sampling import Row
from phiplug.text.constraint import Grammars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Ids

    import numpy as np
    from numpy.typing import NDArray

    from phiplug.engine.backend import GuardedModel
    from phiplug.engine.plan import Plan
    from phiplug.spi import Logits, Pass, Tokenizer
    from phiplug.types import Request

QUEUE = 256
"""Requests that may wait for a slot."""


class Scheduler:
    """The sequences of one model: those that wait, those that run, and the pass that was asked for.

    `grammars` compiles their constraints; a thread may have one compiled there before it is brought here. `lookahead`
    asks for a pass before the host knows its tokens, where that was turned on.
    """

    def __init__(self, model: GuardedModel, tokenizer: Tokenizer) -> None:
        """Drive `model`, all of whose slots are empty."""
        self._model = model
        self._tokenizer = tokenizer
        self.grammars = Grammars(tokenizer, model.info.vocab_size)
        self._slots = Slots(model)
        self.lookahead = Lookahead(model, self._slots)
        self._row = Row(model.info.vocab_size)
        self._arrived: deque[Sequence] = deque()  # appended to by any thread, emptied by the next step
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._suspects: deque[Sequence] = deque()
        self._pending: tuple[Plan, Pass] | None = None
        self._prefilled = False
        self._threads = model.info.threads

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._pending or self._running or self._waiting or self._arrived)

    def add(self, request: Request) -> Sequence:
        """Queue a request.

        Raises:
            PromptTooLong: the context does not hold the prompt.
            InvalidParameter: the prompt has an id that the model does not have.
            ModelBusy: too many requests wait already.
        """
        return self.enqueue(self._sequence(request))

    def add_choices(self, request: Request, count: int) -> list[Sequence]:
        """Queue `count` answers to one prompt, the i-th with the seed + i; the prompt is computed once.

        Raises:
            As `add` does.
        """
        return self.add_family([request.choice(index) for index in range(count)])

    def add_family(self, requests: Ids[Request]) -> list[Sequence]:
        """Queue requests of one prompt, which is computed once: all draw their first token from the same logits.

        Raises:
            As `add` does.
        """
        first, *others = [self._sequence(each) for each in requests]
        first.siblings = others
        self.enqueue(first)
        return [first, *others]

    def enqueue(self, sequence: Sequence) -> Sequence:
        """Queue a sequence; this may be called while another thread makes a step.

        Raises:
            ModelBusy: too many wait already.
        """
        if len(self._arrived) + len(self._waiting) >= QUEUE:
            raise ModelBusy(f"{QUEUE} requests wait for this model already", hint="try again later")
        self._arrived.append(sequence)
        return sequence

    def admit(self, ids: Ids[int]) -> None:
        """Refuse a prompt that cannot be computed, as `add` does.

        Raises:
            PromptTooLong: the context does not hold it.
            InvalidParameter: it has an id that the model does not have.
        """
        admit(ids, self._model.info)

    def tidy(self) -> None:
        """Forget those that were cancelled while they waited."""
        self._leave()

    def step(self) -> list[tuple[Sequence, Any]]:
        """Do one turn of the loop.

        Returns:
            What the pass that was read has brought: a `Chunk` for each sequence that drew or scored something.

        Raises:
            KeyboardInterrupt: the user interrupted the pass; every sequence is where it was before it.
        """
        produced = self._read()
        self._leave()
        self.lookahead.settle(self._running, queued=bool(self._waiting))
        self._join()
        plan = self._plan()
        if plan is not None:
            self._ask(plan)
        return produced

    def fail(self, error: PhiplugError) -> None:
        """End every sequence with `error`, and drop the pass that was asked for."""
        self._leave()
        self._pending = None
        self.lookahead.forget()
        for sequence in [*self._running, *self._waiting]:
            for member in (sequence, *sequence.siblings):
                member.error = member.error or error
        self._running.clear()
        self._waiting.clear()

    # The five stages

    def _read(self) -> list[tuple[Sequence, Any]]:
        """Wait for the pass that was asked for, and hand each sequence its rows."""
        if self._pending is None:
            return []
        (plan, asked), self._pending = self._pending, None
        for sequence in plan.sequences:
            sequence.prepare()
        try:
            logits = self._model.logits(asked, plan.rows)
        except PhiplugError as error:
            self._blame(plan, error)
            return []
        except BaseException:
            self._undo(plan)
            raise
        normalizers = plan.normalizers(logits)
        produced, at = [], 0
        for index, (sequence, step) in enumerate(zip(plan.sequences, plan.steps, strict=True)):
            rows, at = logits[at : at + step.rows], at + step.rows
            self._slots[step.slot].extend(step.tokens, pure=plan.pure)
            sequence.fed += len(step.tokens)
            if step.rows and not sequence.is_over:
                produced += self._accept(sequence, rows, normalizers.get(index))
        return produced

    def _leave(self) -> None:
        """Let go of the slots of those that are over; what a slot holds stays, for whoever shares it."""
        while self._arrived:
            self._waiting.append(self._arrived.popleft())
        for sequence in [sequence for sequence in self._running if sequence.is_over]:
            self._running.remove(sequence)
            if sequence.slot is not None:
                sequence.slot.owner, sequence.slot = None, None
            self._bequeath(sequence)
        if any(sequence.is_over for sequence in self._waiting):
            over = [sequence for sequence in self._waiting if sequence.is_over]
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.is_over)
            for sequence in over:
                self._bequeath(sequence)

    def _join(self) -> None:
        """Give slots to those that wait, in the order in which they came; one may wait for a prefix being computed."""
        passed_over: list[Sequence] = []
        while self._waiting and self._slots.any_free and len(passed_over) < len(self._slots):
            sequence = self._waiting.popleft()
            if not self._running and sequence.request.may_autotune:
                self._autotune(sequence)
            with self._blaming(sequence):
                placed = self._slots.place(sequence)
                if placed is None:
                    passed_over.append(sequence)
                else:
                    sequence.begin(*placed)
                    self._running.append(sequence)
        self._waiting.extendleft(reversed(passed_over))

    def _plan(self) -> Plan | None:
        """Choose the next pass: of prompts and of drawn tokens in turn, so that neither waits long for the other."""
        info = self._model.info
        while self._suspects:
            suspect = self._suspects.popleft()
            if not suspect.is_over and suspect.slot is not None:
                return plan_of([suspect], info)
        if not self._running:
            return None
        decoding = [sequence for sequence in self._running if sequence.is_decoding]
        prefilling = [sequence for sequence in self._running if not sequence.is_decoding]
        self._prefilled = bool(prefilling) and not (self._prefilled and decoding)
        if self._prefilled:
            return plan_of(prefill_together(prefilling, info), info)
        chosen = decode_together(decoding, info)
        if len(chosen) < len(decoding):  # the others come first next time
            self._running = [sequence for sequence in self._running if sequence not in chosen] + chosen
        return plan_of(chosen, info)

    def _ask(self, plan: Plan) -> None:
        """Ask the backend for a pass."""
        try:
            asked = self.lookahead.forward(plan)
            if not (self._waiting or self._suspects):
                self.lookahead.guess(plan, asked, self._running)
            self._pending = plan, asked
        except PhiplugError as error:
            self._blame(plan, error)
        except BaseException:
            self._undo(plan)
            raise

    # When something goes wrong

    def _accept(
        self, sequence: Sequence, rows: Logits, normalizers: NDArray[np.float64] | None
    ) -> list[tuple[Sequence, Any]]:
        """Hand a sequence its rows; one that cannot go on ends alone."""
        family = sequence.siblings
        try:
            produced = sequence.accept(rows, normalizers)
        except NonFiniteLogits as error:
            named = NonFiniteLogits(f"a row of {self._model.name} is of no use: {error.message}")
            named.__cause__ = error
            for member in (sequence, *family):
                member.error = named
            return []
        except PhiplugError as error:
            sequence.error = error
            return []
        self._waiting.extendleft(member for member in reversed(family) if not member.is_over)
        return produced

    def _blame(self, plan: Plan, error: PhiplugError) -> None:
        """Undo a pass that failed. Where several shared it, each is run again alone, to see who it is."""
        self._undo(plan)
        if len(plan.sequences) == 1:
            plan.sequences[0].error = error
        else:
            self._suspects.extend(plan.sequences)

    def _undo(self, plan: Plan) -> None:
        """Ask the model what its slots still hold after a pass that failed, and go on from there."""
        self.lookahead.forget()
        for sequence, step in zip(plan.sequences, plan.steps, strict=True):
            slot = self._slots[step.slot]
            with self._blaming(sequence):
                kept = self._model.rewind(slot.index, len(slot.ids))
                slot.cut(kept)
                sequence.fed = min(sequence.fed, kept)

    @contextlib.contextmanager
    def _blaming(self, sequence: Sequence) -> Iterator[None]:
        """Make what a call raises the error of one sequence."""
        try:
            yield
        except PhiplugError as error:
            sequence.error = error

    def _bequeath(self, sequence: Sequence) -> None:
        """Let the siblings of a sequence that ended before its first row go on, or end with its error."""
        heirs, sequence.siblings = sequence.siblings, []
        if sequence.error is not None:
            for heir in heirs:
                heir.error = sequence.error
        elif alive := [heir for heir in heirs if not heir.is_over]:
            alive[0].siblings = alive[1:]
            self._waiting.appendleft(alive[0])

    # Small change

    def _sequence(self, request: Request) -> Sequence:
        info = self._model.info
        self.admit(request.prompt_ids)
        if max(request.replayed, default=0) >= info.vocab_size:
            raise InvalidParameter("replayed", f"has an id outside the model's vocabulary of {info.vocab_size}")
        answer = Answer(
            request,
            self._tokenizer,
            limit=min(request.max_tokens, info.context_length - len(request.prompt_ids) + 1),
            started=time.perf_counter(),
            row=self._row,
            guide=self.grammars.guide(request.constraint, request.markup) if request.has_grammar else None,
        )
        return Sequence(answer, chunk=info.chunk)

    def _autotune(self, sequence: Sequence) -> None:
        """Let the model choose its threads anew; bits that were computed with another number are no longer its own."""
        with self._blaming(sequence):
            self._model.autotune()
        if self._model.info.threads != self._threads:
            self._threads = self._model.info.threads
            self._slots.forget_bits()
