"""Keeps the contract of `phiplug.spi` around one method that is yours to write: `ExampleModel.compute`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from phiplug.deferred import DeferredPass, DeferredPasses
from phiplug.spi import ModelInfo, Step

if TYPE_CHECKING:
    from phiplug.spi import Logits


class ExampleModel:
    """A `phiplug.spi.Model`: what each slot holds, and the pass that was asked for last."""

    def __init__(self, weights: Any, info: ModelInfo) -> None:  # Any: whatever `loading` made of the files
        self.info = info
        self._weights = weights
        self._held: list[list[int]] = [[] for _ in range(info.slots)]
        self._passes = DeferredPasses(self._compute)

    def compute(self, slot: int, tokens: Sequence[int], rows: int) -> Logits:
        """Append `tokens` to a slot and compute logits.

        The slot holds `self._held[slot]` already. Keep its keys and values beside those ids, so that each token is
        computed once; `rewind` has cut the list of ids, and the cache must be read no further than that.

        Args:
            slot: which sequence.
            tokens: at least one id, each in [0, V).
            rows: how many of the tokens, counted from the end, logits are wanted for; it may be 0.

        Returns:
            float32 (rows, V).
        """
        raise NotImplementedError("ExampleModel.compute is still to be written")

    def forward(self, steps: Sequence[Step]) -> DeferredPass:
        """Note what is asked; it is computed when the pass is read, or before the model is touched again."""
        return self._passes.ask(steps)

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most the first `length` tokens of `slot`; return how many were kept."""
        self._passes.settle()
        del self._held[slot][length:]
        return len(self._held[slot])

    def copy(self, source: int, target: int, length: int) -> int:  # noqa: ARG002  what a model with "copy" would use
        """Share a prefix; this model has not the feature "copy", so the target is emptied."""
        return self.rewind(target, 0)

    def close(self) -> None:
        """Let go of the weights, the slots and the pending pass."""
        self._passes.close()
        self._weights, self._held = None, []

    def _compute(self, steps: Sequence[Step]) -> Logits:
        """Compute the steps, one after the other."""
        found = []
        for step in steps:
            found.append(self.compute(step.slot, step.tokens, step.rows))
            self._held[step.slot].extend(step.tokens)
        return np.concatenate(found)
