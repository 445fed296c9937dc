"""One row of logits, laid out so that most of it need not be looked at again.

A row is copied once into a buffer of 16 lines; the maximum of each column bounds 16 logits at a time. A peaked row is
then searched through its few high columns, and its exponentials are taken for those alone. It knows nothing of
parameters or history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phiplug.sampling.noise import NoiseBuffers

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK = 1e-3  # what float32 arithmetic may be off by, relatively and generously, where it only narrows a search
_LINES = 16  # logits per column: fewer give tighter bounds, more give fewer columns
_SPARSE = 0.2  # share of high columns up to which gathering them is cheaper than a pass over the row


class Row:
    """A buffer for rows of one width, filled anew for each token so that its pages stay in place.

    Attributes:
        x: float32, shape (V,): the logits, free to be adjusted between `fill` and `apply_temperature`.
    """

    def __init__(self, width: int) -> None:
        self._columns = -(-width // _LINES)
        padded = np.full(_LINES * self._columns, -np.inf, np.float32)
        self._lines = padded.reshape(_LINES, self._columns)
        self._e = np.empty(width, np.float32)
        self._high = np.empty(self._columns, np.float32)
        self._top = self._temperature = np.float32(1)
        self._is_scaled = False
        self.x = padded[:width]
        self.every_id = np.arange(width)
        self.buffers = NoiseBuffers(width)

    def fill(self, logits: NDArray[np.float32]) -> None:
        """Copy a row in."""
        self.x[:] = logits
        self._is_scaled = False

    def apply_temperature(self, temperature: np.float32) -> np.float32:
        """Settle t = (x - max) / temperature, in float32, for what is asked from here on; return the maximum.

        The maximum is NaN, +inf or -inf for a row that nothing can be drawn from, and then nothing else may be asked.
        """
        np.maximum.reduce(self._lines, axis=0, out=self._high)
        self._top, self._temperature = self._high.max(), temperature
        self._scale(self._high)
        return self._top

    def t(self) -> NDArray[np.float32]:
        """Return t for every id, shape (V,), in place of the logits."""
        if not self._is_scaled:
            self._scale(self.x)
            self._is_scaled = True
        return self.x

    def weights(self) -> NDArray[np.float32]:
        """Return exp(t) for every id, shape (V,)."""
        return np.exp(self.t(), out=self._e)

    def mass_below(self, limit: float) -> float:
        """Return an upper bound of the sum of exp(t) over the ids with t < limit."""
        return (1.0 + SLACK) * _LINES * float(np.exp(np.minimum(self._high, np.float32(limit))).sum())

    def largest_bound(self, k: int) -> float:
        """Return a t that at least k ids reach, or -inf where the columns do not tell."""
        if k > self._columns:
            return -np.inf
        return float(np.partition(self._high, self._columns - k)[self._columns - k])

    def is_sparse(self, limit: float) -> bool:
        """Say whether few columns hold an id with t >= limit."""
        return int(np.count_nonzero(self._high >= limit)) <= _SPARSE * self._columns

    def above(self, limit: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the ids with t >= limit, ascending, and their t."""
        if not self._is_scaled and self.is_sparse(limit):
            return self.above_sparsely(limit)
        t = self.t()
        ids = np.flatnonzero(t >= limit)
        return ids, t[ids]

    def above_sparsely(self, limit: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return what `above` does, from the columns that hold such ids alone; `t` has not been asked for."""
        columns = np.flatnonzero(self._high >= limit)
        t = self._lines[:, columns]
        self._scale(t)
        line, column = np.nonzero(t >= limit)
        return line * self._columns + columns[column], t[line, column]

    def _scale(self, x: NDArray[np.float32]) -> None:
        x -= self._top
        if self._temperature != 1:
            x /= self._temperature
