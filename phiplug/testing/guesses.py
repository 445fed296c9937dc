"""Tests the feature "guess": a pass that goes on from tokens which the device draws. Models without it pass them by."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from phiplug.spi import Draw, Model, Step
from phiplug.testing.fixtures import ContractFixtures, ask, held, require_slots, some_tokens
from phiplug.testing.violation import conformance_test, expect, expect_close
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from phiplug.spi import Guess, Guesses, Pass

GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
DEFAULT = SamplingParams(seed=7)


class GuessTests(ContractFixtures):
    """What `Guesses.guess` and `Guess.tokens` must do."""

    @conformance_test
    def test_a_guess_is_the_pass_of_the_tokens_that_are_drawn(self, loaded: Model, reference: Model) -> None:
        """The tokens of a guess are those that its draws make of the rows, and its rows are those of such a pass."""
        prompt = some_tokens(loaded, 6, seed=30)
        for params in (GREEDY, DEFAULT):
            loaded.rewind(0, 0)
            reference.rewind(0, 0)
            asked = loaded.forward([Step(0, prompt)])
            draw = _draw(params, len(prompt), seen=prompt)
            guess = _guess(loaded, asked, [draw])
            row = ask(reference, prompt)
            wanted = int(draw(np, row[0]))
            expect_close(asked.logits(), row, 0.0, "while a guess is out, the rows that it goes on from changed")
            expect([*guess.tokens()] == [wanted], f"the guess drew {[*guess.tokens()]} where its row gives {wanted}")
            rows = guess.logits().copy()
            expect_close(rows, ask(reference, [wanted]), 0.0, "the rows of a guess are not those of a pass")
            expect(held(loaded, 0) == len(prompt) + 1, f"after a guess the slot holds {held(loaded, 0)} tokens")

    @conformance_test
    def test_a_guess_that_is_taken_back_leaves_no_trace(self, loaded: Model, reference: Model) -> None:
        """A guess is undone by a rewind of one token; the pass that is asked for then is as if there had been none."""
        prompt, other = some_tokens(loaded, 6, seed=31), some_tokens(loaded, 1, seed=32)
        for is_read in (False, True):
            loaded.rewind(0, 0)
            reference.rewind(0, 0)
            guess = _guess(loaded, loaded.forward([Step(0, prompt)]), [_draw(DEFAULT, len(prompt))])
            if is_read:
                guess.logits()
            kept = loaded.rewind(0, len(prompt))
            expect(kept == len(prompt), f"a rewind by the guessed token keeps {kept} of {len(prompt)}")
            ask(reference, prompt)
            expect_close(ask(loaded, other), ask(reference, other), 0.0, "a guess that was taken back changed a row")

    @conformance_test
    def test_guesses_go_on_from_guesses(self, loaded: Model, reference: Model) -> None:
        """A guess may go on from a guess; each row stays valid until the pass after the guess is asked for."""
        prompt = some_tokens(loaded, 5, seed=33)
        asked: Pass = loaded.forward([Step(0, prompt)])
        row = ask(reference, prompt)
        for place in range(len(prompt), len(prompt) + 5):
            guess = _guess(loaded, asked, [_draw(DEFAULT, place)])
            expect_close(asked.logits(), row, 0.0, f"the rows of guess {place - len(prompt)} differ")
            row = ask(reference, guess.tokens())
            asked = guess
        expect_close(asked.logits(), row, 0.0, "the rows of the last guess differ")

    @conformance_test
    def test_a_row_without_a_draw_does_not_go_on(self, loaded: Model) -> None:
        """Where a draw is None, the sequence does not go on; the rows are those of the others."""
        require_slots(loaded, 2)
        asked = loaded.forward([Step(1, some_tokens(loaded, 4), 2), Step(0, some_tokens(loaded, 3, seed=34))])
        guess = _guess(loaded, asked, [None, _draw(GREEDY, 3)])
        drawn, wanted = [*guess.tokens()], int(asked.logits()[-1].argmax())
        expect(drawn == [wanted], f"the guess drew {drawn} where the row of its step gives {wanted}")
        shape = guess.logits().shape
        expect(shape == (1, loaded.info.vocab_size), f"one of two rows goes on, and the shape is {shape}")
        lengths = held(loaded, 0), held(loaded, 1)
        expect(lengths == (4, 4), f"slots of 3 and 4 tokens, the first of which goes on, hold {lengths}")

    @conformance_test
    def test_a_guess_takes_effect_before_the_next_pass(self, loaded: Model, reference: Model) -> None:
        """A guess that nobody read takes effect at the next forward, after the pass that it goes on from."""
        prompt, more = some_tokens(loaded, 6, seed=35), some_tokens(loaded, 2, seed=36)
        guess = _guess(loaded, loaded.forward([Step(0, prompt)]), [_draw(GREEDY, len(prompt))])
        drawn = guess.tokens()
        rows = ask(loaded, more)
        ask(reference, prompt)
        ask(reference, drawn)
        expect_close(rows, ask(reference, more), 0.0, "a pass after an unread guess gave other rows")

    @conformance_test
    def test_another_thread_may_go_on_from_a_guess(self, loaded: Model, reference: Model) -> None:
        """A guess that one thread asked for may be read, and gone on from, in another."""
        prompt = some_tokens(loaded, 6, seed=37)
        first = _guess(loaded, loaded.forward([Step(0, prompt)]), [_draw(GREEDY, len(prompt))])
        found: list[object] = []

        def elsewhere() -> None:
            try:
                second = _guess(loaded, first, [_draw(GREEDY, len(prompt) + 1)])
                found.append((*first.tokens(), *second.tokens(), second.logits().copy()))
            except Exception as error:  # noqa: BLE001  raised again below, in the thread that tests
                found.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        outcome = found[0]
        if isinstance(outcome, Exception):
            raise outcome
        *tokens, rows = cast("tuple[int, int, np.ndarray]", outcome)
        ask(reference, prompt)
        ask(reference, tokens[:1])
        expect_close(rows, ask(reference, tokens[1:]), 0.0, "another thread got other rows")


def _draw(params: SamplingParams, position: int, seen: Sequence[int] = ()) -> Draw:
    ids = np.unique(np.array(seen, np.intp))
    return Draw(params, 12345, position, ids, ids[:0], np.zeros(0, np.float32))


def _guess(model: Model, asked: Pass, draws: Sequence[Draw | None]) -> Guess:
    """Ask for a guess; skip the test where the model has none."""
    if "guess" not in model.info.features:
        pytest.skip("the backend does not guess")
    guess = cast("Guesses", model).guess(asked, draws)
    if guess is None:
        pytest.skip("the model's cache cannot take a token back")
    return guess
