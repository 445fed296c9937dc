"""Changes logits by the history of a sequence.

Only ids that were seen, or that carry a bias, are touched, and the counts are kept from token to token, so a step costs
the size of the window, not of the vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Window:
    """How often each id occurs among the last tokens of a history.

    Args:
        length: how many tokens it reaches back; -1 is all of them, 0 none.
        history: the tokens so far, oldest first.
    """

    def __init__(self, length: int, history: Iterable[int] = ()) -> None:
        self._length = length
        self._order: deque[int] = deque()
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, np.intp)
        self._counts = np.empty(64, np.float32)
        for token in history:
            self.add(token)

    @property
    def ids(self) -> NDArray[np.intp]:
        """The distinct ids, in no particular order; a view that the next `add` changes."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often each of `ids` occurs; a view, as they are."""
        return self._counts[: len(self._places)]

    def add(self, token: int) -> None:
        """Append a token; the oldest leaves when the window is full."""
        if self._length == 0:
            return
        if self._length > 0:
            if len(self._order) == self._length:
                self._drop(self._order.popleft())
            self._order.append(token)
        place = self._places.get(token)
        if place is None:
            self._admit(token)
        else:
            self._counts[place] += 1

    def _admit(self, token: int) -> None:
        place = len(self._places)
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
        self._places[token] = place
        self._ids[place] = token
        self._counts[place] = 1

    def _drop(self, token: int) -> None:
        place = self._places[token]
        self._counts[place] -= 1
        if self._counts[place] > 0:
            return
        last = len(self._places) - 1  # the last id moves into the gap
        moved = int(self._ids[last])
        self._ids[place], self._counts[place] = self._ids[last], self._counts[last]
        self._places[moved] = place
        del self._places[token]


def repeat(row: NDArray[np.float32], ids: NDArray[np.intp], penalty: np.float32) -> None:
    """Divide the positive logits of `ids` by `penalty` and multiply the others by it, each once, in place."""
    x = row[ids]
    nearer = np.fmin if penalty >= 1 else np.fmax  # of x / r and x * r, for x of either sign; neither heeds a 0 / 0
    row[ids] = nearer(x / penalty, x * penalty)


def subtract(
    row: NDArray[np.float32],
    ids: NDArray[np.intp],
    counts: NDArray[np.float32],
    frequency: np.float32,
    presence: np.float32,
) -> None:
    """Subtract count * frequency + presence from the logits of `ids`, in place (OpenAI's definition)."""
    row[ids] -= counts * frequency + presence
