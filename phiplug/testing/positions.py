"""Tests long sequences: that logits stay right while a slot grows, and what ModelInfo declares of their bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, cycle, pairwise
from typing import TYPE_CHECKING

import pytest

from phiplug.spi import Model, Step
from phiplug.testing.fixtures import ContractFixtures, Record, ask, require_slots, some_tokens
from phiplug.testing.violation import conformance_test, difference, expect, expect_close

if TYPE_CHECKING:
    from phiplug.spi import Logits

PREFILLED, GROWN = 61, 17  # tokens of a pass: primes, so that no size at which a cache grows ends a pass of both
STARTS = (0, 250, 506)  # positions just below those where engines change kernels, and the first


class PositionTests(ContractFixtures):
    """What `Model.forward` must do far into a sequence, and what `equal_passes` and `row_independence` declare."""

    @conformance_test
    def test_logits_stay_right_while_a_slot_grows(
        self, loaded: Model, reference: Model, record_property: Record
    ) -> None:
        """A slot that grows in small steps gives the logits of one that grows in large ones, at every position."""
        length = min(self.long_positions, loaded.info.context_length)
        tokens = some_tokens(loaded, length, seed=20)
        grown = _rows(loaded, tokens, min(GROWN, loaded.info.chunk))
        furthest = 0.0
        for position, wanted in enumerate(_rows(reference, tokens, min(PREFILLED, loaded.info.chunk))):
            apart = difference(next(grown), wanted)
            expect(
                apart <= self.long_prompt_tolerance,
                f"the logits after {position + 1} tokens are {apart:.2g} of their range apart when the slot grows by "
                f"{GROWN} instead of {PREFILLED}, and {self.long_prompt_tolerance:.2g} is declared",
            )
            furthest = max(furthest, apart)
        record_property("measured", f"{furthest:.2g} of a row's range apart within {length} tokens")

    @conformance_test
    def test_equal_passes_are_bit_equal(self, loaded: Model, reference: Model) -> None:
        """Passes of 1 to ModelInfo.equal_passes tokens are interchangeable, bit for bit."""
        most = min(loaded.info.equal_passes, loaded.info.chunk)
        if most == 1:
            pytest.skip("equal_passes is 1: the backend declares nothing of larger passes")
        for start, tokens in self._stretches(loaded):
            for model in (loaded, reference):
                model.rewind(0, 0)
                _fill(model, 0, tokens[:start])
            rest = tokens[start:]
            wanted = [ask(reference, [token]) for token in rest][-1]
            got = [ask(loaded, piece) for piece in _pieces(rest, cycle([most, 1, max(most // 2, 1)]))][-1]
            expect_close(
                got,
                wanted,
                0.0,
                f"equal_passes is {most}, and after {start} tokens such passes differ from single ones",
            )

    @conformance_test
    def test_rows_are_as_independent_as_declared(self, loaded: Model, reference: Model) -> None:
        """Rows do not depend on other sequences of their pass, as far as ModelInfo.row_independence declares it."""
        require_slots(loaded, 2)
        declared = loaded.info.row_independence
        if declared == "none":
            pytest.skip("row_independence is 'none': the backend declares that neighbours may change a row")
        last = loaded.info.slots - 1
        for start, tokens in self._stretches(loaded):
            reference.rewind(0, 0)
            _fill(reference, 0, tokens[:start])
            for slot in range(loaded.info.slots):
                loaded.rewind(slot, 0)
                _fill(loaded, slot, tokens[: start if slot == 0 else 1 + slot])
            for turn, token in enumerate(tokens[start:]):
                others = {0: [], 1: [last], 2: range(1, last + 1)}[turn % 3]  # alone, with a gap between, beside all
                steps = [Step(0, [token]), *(Step(slot, [tokens[turn]]) for slot in others)]
                row = loaded.forward(steps).logits()[:1]
                how = f"after {start + turn} tokens a row beside {len(others)} others is not what it is alone"
                expect_close(row, ask(reference, [token]), 0.0, f"row_independence is {declared!r}, and {how}")

    def _stretches(self, model: Model) -> Iterator[tuple[int, list[int]]]:
        """Yield positions and the tokens up to twelve beyond each, as far as the context reaches."""
        for start in STARTS:
            if start + 12 <= model.info.context_length:
                yield start, some_tokens(model, start + 12, seed=start)


def _rows(model: Model, tokens: Sequence[int], size: int) -> Iterator[Logits]:
    """Append `tokens` in passes of `size`, and yield each row."""
    for piece in _pieces(tokens, cycle([size])):
        rows = ask(model, piece, rows=len(piece))
        yield from (rows[at : at + 1] for at in range(len(piece)))


def _fill(model: Model, slot: int, tokens: Sequence[int]) -> None:
    """Append `tokens` in equal chunks, without rows."""
    for piece in _pieces(tokens, cycle([model.info.chunk])):
        ask(model, piece, slot=slot, rows=0)


def _pieces(tokens: Sequence[int], sizes: Iterator[int]) -> Iterator[Sequence[int]]:
    """Cut `tokens` into pieces of these sizes; the last may be shorter."""
    for start, end in pairwise(accumulate(sizes, initial=0)):
        if start >= len(tokens):
            return
        yield tokens[start:end]
