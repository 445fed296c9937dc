"""Compares a backend with the contract's own model of one, call by call; hypothesis chooses the calls and their order.

The model of the contract is a list of tokens for each slot. What the backend answers must agree with those lists; what
it computes, with what a second instance computes from the same list in an empty slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from phiplug.spi import Model, Step
from phiplug.testing.fixtures import ContractFixtures, held, some_tokens
from phiplug.testing.violation import conformance_test, difference, expect

if TYPE_CHECKING:
    from phiplug.spi import Logits, Pass

Wanted: TypeAlias = "Callable[[tuple[int, ...]], Logits]"

LIMIT = 40
"""Tokens that a slot is given at most: what is remembered falsely shows in short sequences too."""


class Interleaving(RuleBasedStateMachine):
    """Calls in any order on `model`, each answer compared with the lists of tokens."""

    def __init__(self, model: Model, wanted: Wanted, tolerance: float) -> None:
        super().__init__()
        self.model, self.wanted, self.tolerance = model, wanted, tolerance
        self.limit = min(LIMIT, model.info.context_length)
        self.held: list[list[int]] = [[] for _ in range(model.info.slots)]
        self.unread: tuple[Pass, list[tuple[int, ...]]] | None = None
        self.calls: list[str] = []
        for slot in range(model.info.slots):
            model.rewind(slot, 0)

    @rule(data=st.data())
    def forward(self, data: st.DataObject) -> None:
        """Append some tokens to some slots, in any order."""
        slots = data.draw(st.lists(st.sampled_from(range(len(self.held))), min_size=1, unique=True), label="slots")
        steps, prefixes = [], []
        for slot in slots:
            room = self.limit - len(self.held[slot])
            if not room:
                continue
            count = data.draw(st.integers(1, min(room, 6)), label=f"tokens for slot {slot}")
            rows = data.draw(st.integers(0, count), label=f"rows of slot {slot}")
            tokens = some_tokens(self.model, count, seed=data.draw(st.integers(0, 5), label="which"))
            self.held[slot] += tokens
            steps.append(Step(slot, tokens, rows))
            prefixes += [tuple(self.held[slot][:end]) for end in _ends(len(self.held[slot]), rows)]
        if steps:
            self.calls.append("forward " + ", ".join(f"{len(it.tokens)} to {it.slot} (rows {it.rows})" for it in steps))
            self.unread = self.model.forward(steps), prefixes

    @rule()
    def read(self) -> None:
        """Read the last pass, perhaps for the second time."""
        if self.unread is None:
            return
        asked, prefixes = self.unread
        self.calls.append("read")
        logits = asked.logits()
        self._expect(len(logits) == len(prefixes), f"{len(logits)} rows came where {len(prefixes)} were wanted")
        for row, prefix in zip(logits, prefixes, strict=True):
            apart = difference(row[None], self.wanted(prefix))
            self._expect(apart <= self.tolerance, f"a row after {len(prefix)} tokens is {apart:.2g} of its range off")

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        """Cut a slot somewhere, or beyond its end."""
        slot = data.draw(st.sampled_from(range(len(self.held))), label="slot")
        length = data.draw(st.integers(0, len(self.held[slot]) + 1), label="length")
        self.calls.append(f"rewind {slot} to {length}")
        kept = self.model.rewind(slot, length)
        most = min(length, len(self.held[slot]))
        self._expect(0 <= kept <= most, f"rewind to {length} of {len(self.held[slot])} tokens says that it kept {kept}")
        del self.held[slot][kept:]
        self.unread = None  # its logits may be gone

    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        """Copy a part of a slot over another one."""
        if len(self.held) < 2:
            return
        source, target = data.draw(st.permutations(range(len(self.held))), label="source and target")[:2]
        length = data.draw(st.integers(0, len(self.held[source]) + 1), label="length")
        self.calls.append(f"copy {length} from {source} to {target}")
        count = self.model.copy(source, target, length)
        most = min(length, len(self.held[source]))
        self._expect(0 <= count <= most, f"a copy of {length} of {len(self.held[source])} tokens says {count}")
        self.held[target] = self.held[source][:count]
        self.unread = None

    @invariant()
    def every_slot_holds_what_it_was_given(self) -> None:
        """Count the tokens of each slot, unless a pass waits to be read: counting would settle it."""
        if self.unread is None:
            for slot, tokens in enumerate(self.held):
                count = held(self.model, slot)
                self._expect(count == len(tokens), f"slot {slot} holds {count} tokens and was given {len(tokens)}")

    def _expect(self, kept: bool, otherwise: str) -> None:
        expect(kept, f"{otherwise}, after: {'; '.join(self.calls) or 'nothing'}")


class InterleavingTests(ContractFixtures):
    """Slots must be independent."""

    @conformance_test
    def test_slots_do_not_touch_each_other(self, loaded: Model, reference: Model) -> None:
        """Slots do not touch each other, whatever the order of forward, read, rewind and copy."""
        rows: dict[tuple[int, ...], Logits] = {}

        def wanted(prefix: tuple[int, ...]) -> Logits:
            if prefix not in rows:
                reference.rewind(0, 0)
                rows[prefix] = reference.forward([Step(0, prefix)]).logits().copy()
            return rows[prefix]

        class Bound(Interleaving):
            def __init__(self) -> None:
                super().__init__(loaded, wanted, tolerance)

        tolerance = self.chunking_tolerance + self.batching_tolerance
        for steps in (self.interleaving_steps // 2, self.interleaving_steps):  # short ones first, for they explain more
            _try(Bound, self.interleavings // 2, steps)


def _try(machine: type[Interleaving], examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=max(examples, 1),
        stateful_step_count=max(steps, 1),
        phases=[Phase.generate],  # shrinking an example on a slow engine would take minutes
        deadline=None,
        database=None,
        derandomize=True,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except FlakyFailure as error:  # the broken backend carried something over from one order of calls to the next
        raise error.exceptions[0] from error


def _ends(length: int, rows: int) -> range:
    return range(length - rows + 1, length + 1)
