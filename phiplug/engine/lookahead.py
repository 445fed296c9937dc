"""One pass ahead of the loop, on devices that guess: the device draws a token and goes on; the host decides.

While a pass is computed, the one behind it is asked for, with tokens that the device will draw. The host then reads the
first, draws as always and compares: the guess is the next pass where the plan would be that very pass; else its slots
are rewound, and nothing has happened. So it changes no token, only who waits. It knows nothing of how a token is drawn.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.engine.plan import decode_together
from phiplug.errors import PhiplugError

if TYPE_CHECKING:
    from phiplug.engine.backend import GuardedModel
    from phiplug.engine.plan import Plan
    from phiplug.engine.sequence import Sequence
    from phiplug.engine.slots import Slot, Slots
    from phiplug.spi import Draw, Guess, Logits, Pass


@dataclass(frozen=True, slots=True)
class _Guessed:
    """A guess that was asked for: for whom, in which slots."""

    guess: Guess
    sequences: tuple[Sequence, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """A `phiplug.spi.Pass`: a guess that was right, of which some rows are wanted."""

    guess: Guess
    width: int
    rows: tuple[int, ...]

    def logits(self) -> Logits:
        """Return the rows of those that go on."""
        logits = self.guess.logits()
        return logits if len(self.rows) == self.width else logits[list(self.rows)]


class Lookahead:
    """The guess that is out, if any.

    Attributes:
        is_on: whether to guess; it may be changed at any time.
    """

    def __init__(self, model: GuardedModel, slots: Slots) -> None:
        self.is_on = False
        self._model = model
        self._slots = slots
        self._guessed: _Guessed | None = None
        self._confirmed: _Confirmed | None = None

    def guess(self, plan: Plan, asked: Pass, running: list[Sequence]) -> None:
        """Ask for the pass behind `asked`, where that can be foreseen; nobody may wait.

        Raises:
            GenerationError: the backend failed.
        """
        draws = self._draws(plan, running) if self.is_on else None
        if draws is None:
            return
        kept = asked.rows if isinstance(asked, _Confirmed) else range(len(draws))
        spread: list[Draw | None] = [None] * (asked.width if isinstance(asked, _Confirmed) else len(draws))
        for row, draw in zip(kept, draws, strict=True):
            spread[row] = draw
        guess = self._model.guess(asked.guess if isinstance(asked, _Confirmed) else asked, spread)
        if guess is None:
            return
        going = [index for index, draw in enumerate(draws) if draw is not None]
        sequences = tuple(plan.sequences[index] for index in going)
        self._guessed = _Guessed(guess, sequences, tuple(self._slots[plan.steps[index].slot] for index in going))
        for sequence in sequences:
            sequence.guesses["asked"] += 1

    def settle(self, running: list[Sequence], *, queued: bool) -> None:
        """Keep the guess where the next pass will be that one, but for rows that have ended; else drop it.

        Args:
            running: those that go on after their rows were read.
            queued: whether somebody waits, so that the next pass may be another.
        """
        guessed, self._guessed = self._guessed, None
        if guessed is None:
            return
        rows: list[int] = []
        try:
            rows = self._right_rows(guessed, running) if not queued else []
        finally:  # also where the drawing failed, or was interrupted
            for row, slot in enumerate(guessed.slots):
                if row not in rows:
                    self._rewind(slot)
        if rows:
            self._confirmed = _Confirmed(guessed.guess, len(guessed.slots), tuple(rows))
            for row in rows:
                guessed.sequences[row].guesses["right"] += 1

    def forward(self, plan: Plan) -> Pass:
        """Return the pass of a plan: the guess that was right, or one that is asked for now."""
        confirmed, self._confirmed = self._confirmed, None
        return confirmed or self._model.forward(plan.steps)

    def forget(self) -> None:
        """Note that the pass failed that the guess goes on from; its slots are rewound with those of that pass."""
        self._guessed = self._confirmed = None

    def _draws(self, plan: Plan, running: list[Sequence]) -> list[Draw | None] | None:
        """Return how each row of a plan is drawn from; None where the pass behind it cannot be foreseen."""
        if len(plan.sequences) != len(running):  # others take turns with these
            return None
        draws: list[Draw | None] = []
        width = self._model.info.vocab_size
        for sequence, step in zip(plan.sequences, plan.steps, strict=True):
            if not sequence.draws_after(len(step.tokens)):
                return None
            is_last = sequence.is_last_draw
            draw = None if is_last else sequence.ahead(width)
            if draw is None and not is_last:
                return None
            draws.append(draw)
        going = [sequence for sequence, draw in zip(plan.sequences, draws, strict=True) if draw is not None]
        return draws if going and decode_together(going, self._model.info) == going else None

    def _right_rows(self, guessed: _Guessed, running: list[Sequence]) -> list[int]:
        """Return the rows of a guess that may be kept: all, those whose sequences go on, or none."""
        rows = [row for row, sequence in enumerate(guessed.sequences) if sequence in running]
        if len(rows) < len(guessed.sequences) and self._model.info.row_independence == "none":
            return []
        try:
            tokens = self._model.tokens(guessed.guess, len(guessed.sequences))
        except PhiplugError:  # what is wrong shows when the pass is asked for again
            return []
        wrong = [row for row in rows if not guessed.sequences[row].goes_on_with(tokens[row])]
        for row in wrong:
            guessed.sequences[row].guesses["wrong"] += 1
        return [] if wrong else rows

    def _rewind(self, slot: Slot) -> None:
        """Take a guessed token back from a slot; whoever runs in it goes on from what is left."""
        kept = 0
        for _ in range(2):  # the first call may raise what the guess raises
            with contextlib.suppress(PhiplugError):
                kept = self._model.rewind(slot.index, len(slot.ids))
                break
        slot.cut(kept)
        if slot.owner is not None:
            slot.owner.fed = min(slot.owner.fed, kept)
