"""Tests what the slots hold: after rewinding, after copying, and after passes that nobody reads."""

from __future__ import annotations

from phiplug.spi import Model, Step
from phiplug.testing.fixtures import ContractFixtures, ask, held, require_slots, some_tokens
from phiplug.testing.violation import conformance_test, expect, expect_close


class CacheTests(ContractFixtures):
    """What `Model.rewind` and `Model.copy` must do, and a `Pass` that was asked for and never read."""

    @conformance_test
    def test_rewind_keeps_no_more_than_asked(self, loaded: Model) -> None:
        """Rewind keeps at most the tokens asked for, never more than there are, and returns how many it kept."""
        tokens = some_tokens(loaded, 8)
        for length in (0, 1, 5, 8, 9, loaded.info.context_length):
            loaded.rewind(0, 0)
            ask(loaded, tokens)
            kept = loaded.rewind(0, length)
            expect(0 <= kept <= min(length, 8), f"rewind to {length} of 8 tokens says that it kept {kept}")
            after = held(loaded, 0)
            expect(after == kept, f"rewind to {length} says that it kept {kept}, and the slot holds {after}")

    @conformance_test
    def test_a_slot_rewound_to_nothing_is_as_new(self, loaded: Model, reference: Model) -> None:
        """Rewind to 0 empties a slot."""
        ask(loaded, some_tokens(loaded, 9, seed=1))
        expect(loaded.rewind(0, 0) == 0, "it says that tokens were kept")
        tokens = some_tokens(loaded, 6, seed=2)
        expect_close(ask(loaded, tokens), ask(reference, tokens), 0.0, "the slot differs from one that was never used")

    @conformance_test
    def test_what_rewind_kept_is_the_beginning(self, loaded: Model, reference: Model) -> None:
        """What rewind kept is the beginning of what was held."""
        tokens, other = some_tokens(loaded, 8, seed=3), some_tokens(loaded, 4, seed=4)
        ask(loaded, tokens)
        kept = loaded.rewind(0, 5)
        if kept:
            ask(reference, tokens[:kept])
        expect_close(
            ask(loaded, other), ask(reference, other), self.chunking_tolerance, f"the {kept} kept tokens are others"
        )

    @conformance_test
    def test_a_slot_can_be_filled(self, loaded: Model) -> None:
        """A slot holds as many tokens as context_length says."""
        length, chunk = loaded.info.context_length, loaded.info.chunk
        tokens = some_tokens(loaded, length)
        for start in range(0, length, chunk):
            piece = tokens[start : start + chunk]
            loaded.forward([Step(0, piece, rows=int(start + chunk >= length))]).logits()
        count = held(loaded, 0)
        expect(count == length, f"it holds {count} of {length} tokens")

    @conformance_test
    def test_copy_shares_a_prefix_or_says_0(self, loaded: Model, reference: Model) -> None:
        """Copy shares a prefix and returns how many tokens the target then holds, or 0 where it cannot."""
        require_slots(loaded, 2)
        tokens, other = some_tokens(loaded, 8, seed=5), some_tokens(loaded, 4, seed=6)
        for length in (8, 5, 100, 0):
            _prepare(loaded, tokens)
            count = loaded.copy(0, 1, length)
            expect(0 <= count <= min(length, 8), f"a copy of {length} of 8 tokens says that the target holds {count}")
            after = held(loaded, 1)
            expect(after == count, f"a copy of {length} tokens says {count}, and the target holds {after}")
            expect(held(loaded, 0) == 8, f"a copy of {length} of 8 tokens left {held(loaded, 0)} in the source")
            reference.rewind(1, 0)
            if count:
                ask(reference, tokens[:count], slot=1)
            got, wanted = ask(loaded, other, slot=1), ask(reference, other, slot=1)
            expect_close(got, wanted, self.chunking_tolerance, "the target holds other tokens")

    @conformance_test
    def test_the_feature_copy_says_whether_it_can(self, loaded: Model) -> None:
        """A model with the feature "copy" can copy a whole slot; one without it always says 0."""
        require_slots(loaded, 2)
        _prepare(loaded, some_tokens(loaded, 8))
        count = loaded.copy(0, 1, 8)
        able = "copy" in loaded.info.features
        expect(
            count == 8 * able, f"its features {'' if able else 'do not '}name copy, and a copy of 8 tokens says {count}"
        )

    @conformance_test
    def test_after_a_copy_the_slots_go_on_apart(self, loaded: Model, reference: Model) -> None:
        """Source and target of a copy go on apart."""
        require_slots(loaded, 2)
        tokens = some_tokens(loaded, 6, seed=7)
        _prepare(loaded, tokens)
        loaded.copy(0, 1, 6)
        loaded.rewind(1, 0)
        ask(loaded, some_tokens(loaded, 7, seed=8), slot=1)
        ask(reference, tokens)
        more = some_tokens(loaded, 2, seed=9)
        expect_close(ask(loaded, more), ask(reference, more), 0.0, "what was done to the target changed the source")

    @conformance_test
    def test_an_unread_pass_takes_effect_once(self, loaded: Model, reference: Model) -> None:
        """A pass that nobody read takes effect once, at the next forward, rewind or copy."""
        tokens, more = some_tokens(loaded, 6, seed=10), some_tokens(loaded, 3, seed=11)
        loaded.forward([Step(0, tokens)])
        count = held(loaded, 0)
        expect(count == 6, f"a rewind after an unread pass over 6 tokens finds {count}")
        loaded.rewind(0, 0)
        loaded.forward([Step(0, tokens, rows=0)])
        ask(reference, tokens, rows=0)
        expect_close(ask(loaded, more), ask(reference, more), 0.0, "a forward after an unread pass gave other rows")
        count = held(loaded, 0)
        expect(count == 9, f"the slot holds {count} tokens after an unread pass over 6 and a read one over 3")

    @conformance_test
    def test_a_copy_sees_an_unread_pass(self, loaded: Model) -> None:
        """A pass that nobody read takes effect before a copy."""
        require_slots(loaded, 2)
        loaded.forward([Step(0, some_tokens(loaded, 6))])
        loaded.copy(0, 1, 6)
        count = held(loaded, 0)
        expect(count == 6, f"after an unread pass over 6 tokens and a copy the source holds {count}")
        if "copy" in loaded.info.features:
            expect(held(loaded, 1) == 6, f"the target holds {held(loaded, 1)} of the 6 tokens")

    @conformance_test
    def test_a_prompt_can_be_cancelled_between_chunks(self, loaded: Model, reference: Model) -> None:
        """A prompt may be abandoned between two chunks, and the slot used for another."""
        loaded.forward([Step(0, some_tokens(loaded, 12, seed=12), rows=0)])
        loaded.forward([Step(0, some_tokens(loaded, 12, seed=13), rows=0)])
        expect(loaded.rewind(0, 0) == 0, "the abandoned tokens stay")
        tokens = some_tokens(loaded, 6, seed=14)
        expect_close(ask(loaded, tokens), ask(reference, tokens), 0.0, "the abandoned prompt left a trace")

    @conformance_test
    def test_close_drops_what_is_pending_and_may_be_repeated(self, fresh: Model) -> None:
        """Close drops a pass that nobody read, and may be called twice."""
        ask(fresh, some_tokens(fresh, 4))
        fresh.forward([Step(0, some_tokens(fresh, 4))])
        fresh.close()
        fresh.close()


def _prepare(model: Model, tokens: list[int]) -> None:
    """Give slot 0 `tokens`, and slot 1 something that a copy must replace."""
    for slot in (0, 1):
        model.rewind(slot, 0)
    ask(model, tokens)
    ask(model, tokens[::-1], slot=1)
