"""Fills the one llama_batch that every pass of a context reuses: flat arrays of tokens, positions and sequences."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiplug.spi import Step


class Batch:
    """Room for `capacity` tokens, in memory of our own: llama_batch_init makes an allocation for each token.

    Attributes:
        struct: the llama_batch, which points into this object's arrays.
    """

    def __init__(self, structure: type[ctypes.Structure], capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._slots = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._ones = np.ones(capacity, np.int32)  # each token belongs to one sequence
        address = self._slots.ctypes.data
        self._slot_pointers = np.arange(address, address + 4 * capacity, 4, dtype=np.uintp)
        self.struct: Any = structure()  # Any: its fields are those of the library's layout
        for field, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._ones),
            ("seq_id", self._slot_pointers),
            ("logits", self._wanted),
        ):
            setattr(self.struct, field, array.ctypes.data)

    def fill(self, steps: Sequence[Step], lengths: Sequence[int]) -> int:
        """Lay the steps out, each after the `lengths[slot]` tokens that its slot holds.

        Returns:
            The place of the first token whose logits are wanted; the row that belongs to it comes first.
        """
        if len(steps) == 1 and len(steps[0].tokens) == 1:
            return self._fill_one(steps[0], lengths[steps[0].slot])
        end = 0
        for step in steps:
            start, end = end, end + len(step.tokens)
            length = lengths[step.slot]
            self._tokens[start:end] = step.tokens
            self._positions[start:end] = np.arange(length, length + end - start)
            self._slots[start:end] = step.slot
            self._wanted[start:end] = 0
            self._wanted[end - step.rows : end] = 1
        self.struct.n_tokens = end
        return int(self._wanted[:end].argmax())

    def is_timeable(self, position: int) -> bool:
        """Whether it is a single token before `position`: such passes take about the same time."""
        return bool(self.struct.n_tokens == 1 and self._positions[0] < position)

    def _fill_one(self, step: Step, length: int) -> int:
        """The same for decoding, where each microsecond is paid for every token."""
        self._tokens[0] = step.tokens[0]
        self._positions[0] = length
        self._slots[0] = step.slot
        self._wanted[0] = step.rows
        self.struct.n_tokens = 1
        return 0


def rows_at(address: int, rows: int, width: int) -> NDArray[np.float32]:
    """Look at the engine's own memory as float32 (rows, width), read-only; nothing is copied."""
    floats = (ctypes.c_float * (rows * width)).from_address(address)
    view: NDArray[np.float32] = np.ctypeslib.as_array(floats).reshape(rows, width)
    view.flags.writeable = False
    return view
