"""Tests a forward pass: what its logits look like, and when two passes must agree."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phiplug.spi import Model, Step
from phiplug.testing.fixtures import TOLERANCE_CAP, ContractFixtures, Record, ask, held, require_slots, some_tokens
from phiplug.testing.violation import conformance_test, difference, expect, expect_close

if TYPE_CHECKING:
    from phiplug.spi import Logits


class PassTests(ContractFixtures):
    """What `Model.forward` and `Pass.logits` must do."""

    @conformance_test
    def test_logits_are_finite_read_only_float32_rows(self, loaded: Model) -> None:
        """Logits are float32, finite, read-only, and (sum of rows, vocab_size) in shape."""
        slots = range(min(loaded.info.slots, 2))
        rows = [3, 0][: len(slots)]
        steps = [Step(slot, some_tokens(loaded, 4, slot), rows[slot]) for slot in slots]
        logits = loaded.forward(steps).logits()
        expect(isinstance(logits, np.ndarray), f"logits() returned {type(logits).__name__}, which is no NumPy array")
        expect(logits.dtype == np.float32, f"the logits are {logits.dtype}")
        wanted = (sum(rows), loaded.info.vocab_size)
        expect(logits.shape == wanted, f"the shape is {logits.shape} where {wanted} was asked for")
        expect(bool(np.isfinite(logits).all()), f"{int((~np.isfinite(logits)).sum())} logits are not finite")
        expect(not logits.flags.writeable, "the logits can be written to")

    @conformance_test
    def test_logits_have_the_precision_that_is_declared(self, loaded: Model) -> None:
        """Logits have the precision of float32, unless ModelInfo.logits_precision declares less."""
        logits = ask(loaded, self._prompt(loaded), rows=3)
        declared = loaded.info.logits_precision
        for precision, rounded in (("float16", _is_float16(logits)), ("bfloat16", _is_bfloat16(logits))):
            expect(
                not rounded or declared != "float32",
                f"every one of {logits.size} logits is a {precision} number, and logits_precision is {declared!r}",
            )

    @conformance_test
    def test_an_inner_chunk_returns_no_row(self, loaded: Model, reference: Model) -> None:
        """A step with rows=0 returns no row, and its tokens count all the same."""
        chunks = self._chunks(loaded)
        empty = ask(loaded, chunks[0], rows=0)
        expect(empty.shape == (0, loaded.info.vocab_size), f"the shape is {empty.shape}")
        after = ask(loaded, chunks[1])
        ask(reference, chunks[0], rows=1)
        expect_close(after, ask(reference, chunks[1]), self.chunking_tolerance, "the next rows differ")

    @conformance_test
    def test_rows_are_those_of_the_last_tokens(self, loaded: Model) -> None:
        """rows=n gives the rows of the last n tokens, in their order."""
        tokens = self._prompt(loaded)
        every = ask(loaded, tokens, rows=len(tokens))
        for rows in (1, 2, len(tokens) - 1):
            loaded.rewind(0, 0)
            last = ask(loaded, tokens, rows=rows)
            expect_close(last, every[-rows:], self.chunking_tolerance, f"rows={rows} gave other rows")

    @conformance_test
    def test_rows_come_in_the_order_of_the_steps(self, loaded: Model, reference: Model) -> None:
        """Rows come in the order of the steps."""
        require_slots(loaded, 2)
        prompts = {slot: some_tokens(loaded, 5, seed=slot) for slot in (1, 0)}
        together = loaded.forward([Step(slot, tokens, rows=2) for slot, tokens in prompts.items()]).logits().copy()
        alone = np.concatenate([ask(reference, tokens, slot=slot, rows=2) for slot, tokens in prompts.items()])
        expect_close(
            together, alone, self.batching_tolerance, "a pass over slots 1 and 0 gave other rows than each alone"
        )

    @conformance_test
    def test_a_replay_in_the_same_chunks_is_bit_equal(self, loaded: Model) -> None:
        """Equal chunks give bit-equal logits: a rewound slot that is given the same chunks gives the same rows."""
        chunks = self._chunks(loaded)
        first = [ask(loaded, chunk, rows=len(chunk)) for chunk in chunks]
        for replayed in (0, 1, 2):
            length = sum(map(len, chunks[:replayed]))
            kept = loaded.rewind(0, length)
            start = replayed if kept == length else 0
            if kept != length:
                loaded.rewind(0, 0)  # a backend that cannot cut here may keep less; then all is replayed
            for chunk, before in zip(chunks[start:], first[start:], strict=True):
                again = ask(loaded, chunk, rows=len(chunk))
                expect_close(again, before, 0.0, f"a replay from token {length} gave other rows")

    @conformance_test
    def test_a_slot_computes_the_same_beside_others(
        self, loaded: Model, reference: Model, record_property: Record
    ) -> None:
        """A slot gives the same logits alone and beside others in one pass, bit-equal or within batching_tolerance."""
        require_slots(loaded, 2)
        apart = 0.0
        for turn, length in enumerate((6, 1, 1)):  # a prefill, then tokens one by one
            given = [some_tokens(loaded, length, seed=10 * turn + slot) for slot in range(loaded.info.slots)]
            together = loaded.forward([Step(slot, tokens) for slot, tokens in enumerate(given)]).logits().copy()
            alone = np.concatenate([ask(reference, tokens, slot=slot) for slot, tokens in enumerate(given)])
            apart = max(apart, expect_close(together, alone, self.batching_tolerance, "beside others a slot differs"))
        record_property("measured", _against(apart, self.batching_tolerance))

    @conformance_test
    def test_split_and_whole_prefill_agree(self, loaded: Model, record_property: Record) -> None:
        """A prompt gives the same logits whole and split, within chunking_tolerance."""
        whole = ask(loaded, self._prompt(loaded))
        loaded.rewind(0, 0)
        split = [ask(loaded, chunk) for chunk in self._chunks(loaded)][-1]
        apart = expect_close(split, whole, self.chunking_tolerance, "split and whole differ")
        record_property("measured", _against(apart, self.chunking_tolerance))

    @conformance_test
    def test_decoding_and_prefilling_agree(self, loaded: Model, record_property: Record) -> None:
        """Decoding tokens one by one gives the logits of prefilling them, within chunking_tolerance."""
        tokens = self._prompt(loaded)
        whole = ask(loaded, tokens, rows=len(tokens))
        loaded.rewind(0, 0)
        single = np.concatenate([ask(loaded, [token]) for token in tokens])
        apart = expect_close(single, whole, self.chunking_tolerance, "one by one and at once differ")
        record_property("measured", _against(apart, self.chunking_tolerance))

    @conformance_test
    def test_a_long_prompt_agrees_with_itself_in_other_chunks(self, loaded: Model, record_property: Record) -> None:
        """A long prompt gives the same last logits in chunks of other sizes, within long_prompt_tolerance."""
        tokens = some_tokens(loaded, min(self.long_prompt_tokens, loaded.info.context_length))
        whole = _prefilled(loaded, tokens, loaded.info.chunk)
        loaded.rewind(0, 0)
        pieces = _prefilled(loaded, tokens, 7)
        apart = expect_close(pieces, whole, self.long_prompt_tolerance, "other chunks give other rows")
        record_property("measured", _against(apart, self.long_prompt_tolerance))

    @conformance_test
    def test_logits_depend_on_the_whole_prefix(self, loaded: Model) -> None:
        """Logits depend on every token that the slot holds, and on their order."""
        tokens = self._prompt(loaded)
        base = ask(loaded, tokens)
        swapped = [tokens[1], tokens[0], *tokens[2:]]
        for changed, how in ((tokens[1:], "without its first token"), (swapped, "with its first two tokens swapped")):
            loaded.rewind(0, 0)
            expect(difference(ask(loaded, changed), base) > 0, f"a prompt {how} gave the same logits")

    @conformance_test
    def test_a_pass_can_be_read_twice(self, loaded: Model) -> None:
        """Reading a pass twice gives the same rows and takes effect once."""
        asked = loaded.forward([Step(0, self._prompt(loaded), rows=2)])
        first = asked.logits().copy()
        expect_close(asked.logits(), first, 0.0, "the second reading gave other rows")
        length = held(loaded, 0)
        expect(
            length == len(self._prompt(loaded)), f"the slot then holds {length} tokens of {len(self._prompt(loaded))}"
        )

    @conformance_test
    def test_another_thread_may_take_over(self, loaded: Model) -> None:
        """The core calls a model from one thread at a time, and not always the same one."""
        first, second, *_ = self._chunks(loaded)
        ask(loaded, first)
        here = ask(loaded, second)
        loaded.rewind(0, 0)
        ask(loaded, first)
        there: list[Logits | Exception] = []

        def elsewhere() -> None:
            try:
                there.append(ask(loaded, second))
            except Exception as error:  # noqa: BLE001  raised again below, in the thread that tests
                there.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        outcome = there[0]
        if isinstance(outcome, Exception):
            raise outcome
        expect_close(outcome, here, 0.0, "another thread got other rows")

    @conformance_test
    def test_the_declared_tolerances_are_under_the_cap(self) -> None:
        """A declared tolerance is at most a tenth of a row's range."""
        for name in ("chunking_tolerance", "batching_tolerance", "long_prompt_tolerance"):
            declared = getattr(self, name)
            expect(0 <= declared <= TOLERANCE_CAP, f"{name} is {declared}")

    def _prompt(self, model: Model) -> list[int]:
        return some_tokens(model, min(self.prompt_tokens, model.info.chunk, model.info.context_length // 4))

    def _chunks(self, model: Model) -> list[Sequence[int]]:
        """The same prompt in three uneven pieces."""
        prompt = self._prompt(model)
        return [prompt[: len(prompt) // 2], prompt[len(prompt) // 2 : -3], prompt[-3:]]


def _prefilled(model: Model, tokens: Sequence[int], chunk: int) -> Logits:
    """Append `tokens` in pieces of `chunk` and return the last row."""
    pieces = [tokens[start : start + chunk] for start in range(0, len(tokens), chunk)]
    return [ask(model, piece, rows=int(piece is pieces[-1])) for piece in pieces][-1]


def _against(measured: float, declared: float) -> str:
    return f"{measured:.2g} of a row's range apart; {declared:.2g} is declared"


def _is_float16(logits: Logits) -> bool:
    with np.errstate(over="ignore"):
        return bool((logits.astype(np.float16).astype(np.float32) == logits).all())


def _is_bfloat16(logits: Logits) -> bool:
    return not (np.ascontiguousarray(logits).view(np.uint32) & 0xFFFF).any()
