"""Passes for engines that compute in the thread that calls them: a pass begins when it is read, and not before.

So the text of the last token is out before the next pass holds the thread. A plugin may use this; an engine that
computes in the background needs a pass of its own, which has begun when `forward` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from phiplug.errors import BackendFailed

if TYPE_CHECKING:
    from phiplug.spi import Logits, Step

    Compute: TypeAlias = Callable[[Sequence[Step]], Logits]
    Continue: TypeAlias = Callable[[Logits], Sequence[Step]]


class DeferredPass:
    """A `phiplug.spi.Pass` that begins when it is read."""

    def __init__(self, steps: Sequence[Step], compute: Compute) -> None:
        self._steps = steps
        self._compute: Compute | None = compute
        self._logits: Logits | None = None
        self._reason = "this pass failed before"

    @property
    def is_due(self) -> bool:
        """Whether it is still to be computed."""
        return self._compute is not None

    @property
    def has_failed(self) -> bool:
        """Whether it will never return a row."""
        return self._compute is None and self._logits is None

    def logits(self) -> Logits:
        """Compute the rows at the first call, and return them at every one.

        Raises:
            BackendFailed: the pass failed before, or was dropped; and what computing it raises.
        """
        if self._logits is None:
            compute, self._compute = self._compute, None
            if compute is None:
                raise BackendFailed(self._reason)
            self._logits = compute(self._steps)
            self._logits.flags.writeable = False
        return self._logits

    def drop(self) -> None:
        """Never compute it: the model is closed."""
        if self._compute is not None:
            self._compute, self._reason = None, "the model was closed before this pass was read"


class DeferredGuess(DeferredPass):
    """A `phiplug.spi.Guess` that begins when it is read: it saves nobody a wait, and shows that a core guesses well."""

    def __init__(self, asked: DeferredPass, draw: Continue, compute: Compute) -> None:
        super().__init__((), compute)
        self._asked = asked
        self._draw: Continue | None = draw

    @property
    def is_due(self) -> bool:
        """Whether it is still to be computed; where the pass failed that it goes on from, it never will."""
        return super().is_due and not self._asked.has_failed

    def tokens(self) -> list[int]:
        """Compute the pass that was asked for, and draw from its rows at the first call.

        Raises:
            BackendFailed: that pass failed; and what computing it raises.
        """
        rows = self._asked.logits()
        if self._draw is not None:
            self._steps, self._draw = self._draw(rows), None
        return [step.tokens[0] for step in self._steps]

    def logits(self) -> Logits:
        """Compute the rows at the first call, and return them at every one; errors are those of `DeferredPass`."""
        if self.is_due:
            self.tokens()
        return super().logits()


class DeferredPasses:
    """The pass that a model was asked for last. Call `settle` before the model is touched in any other way."""

    def __init__(self, compute: Compute) -> None:
        """Compute passes by `compute`, which appends the tokens of the steps and returns rows as `Pass.logits` does."""
        self._compute = compute
        self._last: DeferredPass | None = None

    def ask(self, steps: Sequence[Step]) -> DeferredPass:
        """Return a pass of these steps; raises what the pass before it raises, if nobody has read that."""
        self.settle()
        self._last = DeferredPass(steps, self._compute)
        return self._last

    def guess(self, asked: DeferredPass, draw: Continue) -> DeferredGuess:
        """Return the pass behind `asked`, whose steps `draw` makes from its rows; nothing is computed yet."""
        self._last = guess = DeferredGuess(asked, draw, self._compute)
        return guess

    def settle(self) -> None:
        """Compute the pass that was asked for, and the guess behind it, if nobody has read it."""
        last, self._last = self._last, None
        if last is not None and last.is_due:
            last.logits()

    def close(self) -> None:
        """Drop the pass that was asked for."""
        if self._last is not None:
            self._last.drop()
