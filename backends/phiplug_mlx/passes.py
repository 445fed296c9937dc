"""Passes that MLX computes while Python goes on, and guesses of the token behind them.

They know their slots and arrays, and leave it to the model to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from phiplug.errors import BackendFailed

if TYPE_CHECKING:
    from phiplug.spi import Logits


class Waits(Protocol):
    """The model of a pass."""

    def wait(self, asked: MLXPass, rows: Any, arrays: list[Any]) -> None:  # Any: mx.array
        """Wait until a pass is computed."""
        ...

    def read(self, guess: MLXGuess, ids: Any) -> list[int]:  # Any: mx.array
        """Wait for drawn ids and return them."""
        ...


class MLXPass:
    """A `phiplug.spi.Pass` that is under way.

    Args:
        model: waits for it.
        slots: of its steps, in their order.
        counts: how many rows each of them has.
        rows: mx.array, float32 (sum of counts, V).
        arrays: of the caches, which it computes too.
    """

    def __init__(self, model: Waits, slots: Sequence[int], counts: Sequence[int], rows: Any, arrays: list[Any]) -> None:
        self.slots = slots
        self._model = model
        self._counts = counts
        self._rows = rows
        self._arrays = arrays
        self._settled = False

    def logits(self) -> Logits:
        """Wait for the rows and return them where MLX computed them, without a copy."""
        self.settle()
        if self._rows is None:
            raise BackendFailed("this pass has failed")
        if self._rows.size == 0:
            return np.zeros(self._rows.shape, np.float32)
        logits: Logits = np.asarray(memoryview(self._rows))
        logits.flags.writeable = False
        return logits

    def settle(self) -> None:
        """Wait until the pass has taken effect."""
        if self._settled:
            return
        rows, arrays, self._settled = self._rows, self._arrays, True
        self._rows, self._arrays = None, []
        self._model.wait(self, rows, arrays)
        self._rows = rows

    def fail(self) -> None:
        """Note that it will never be computed."""
        self._rows, self._arrays, self._settled = None, [], True

    def last_rows(self) -> list[tuple[int, int]]:
        """Return the slot of each step, and the index of its last row."""
        return [(slot, end - 1) for slot, end in zip(self.slots, accumulate(self._counts), strict=True)]

    def release(self) -> Any:  # Any: mx.array
        """Return the rows, which may still be computed, and let go of the caches' arrays.

        MLX appends to an array in place only where nobody else holds it.
        """
        if self._rows is None:
            raise BackendFailed("this pass has failed")
        self._arrays = []
        return self._rows


class MLXGuess(MLXPass):
    """A `phiplug.spi.Guess` that is under way: a pass whose tokens the device draws from the one before."""

    def __init__(
        self,
        model: Waits,
        slots: Sequence[int],
        rows: Any,  # Any: mx.array, as below
        arrays: list[Any],
        before: MLXPass,
        ids: Any,
    ) -> None:
        super().__init__(model, slots, [1] * len(slots), rows, arrays)
        self._before: MLXPass | None = before
        self._ids = ids
        self._tokens: list[int] | None = None

    def tokens(self) -> list[int]:
        """Wait for the drawn ids, and not for the pass that they are fed to."""
        if self._tokens is None:
            self._tokens = self._model.read(self, self._ids)
        return self._tokens

    def settle(self) -> None:
        """Wait until the pass before, and then this one, has taken effect."""
        before, self._before = self._before, None
        if before is not None:
            before.settle()
        super().settle()
