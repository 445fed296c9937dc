"""What the values of one render amount to, and what they may.

Two rules keep every single operation short, so that a deadline can do the rest:

* No value is larger than the allowance, written out in full: a list that holds one long text a thousand times counts it
  a thousand times. So nothing that Python does with a value in one go, such as printing or comparing, takes long.
* All values made together are not larger than `_TURNOVER` allowances, as they lie in memory.

Sizes are in characters, roughly. This file knows nothing of Jinja.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from typing import Any, TypeVar

from markupsafe import Markup

Value = TypeVar("Value")

OWN = 256 * 1024
"""Characters that a template may add to what it was given."""

_TURNOVER = 32  # a template that takes a long message apart makes about ten copies of it
_ENTRY = 8  # bytes of a reference in a list; what is in memory for each item
_SCALAR = 8  # characters of a number, True, None, or an object that prints short


class BoundExceeded(Exception):
    """A template went beyond its bounds. No ValueError or such, which some filters catch."""


class Ledger:
    """The account of one render.

    Attributes:
        allowance: the size that no value and no output may exceed: `OWN` and twice what the template was given, because
            JSON may need an escape for every character.
    """

    def __init__(self, given: object) -> None:
        self._sizes: dict[int, tuple[object, int]] = {}  # by id; the object is kept, so that no other gets its id
        self.allowance = OWN + 2 * self.size_of(given)
        self._left = _TURNOVER * self.allowance

    def size_of(self, value: object) -> int:
        """Return how many characters `value` has, written out in full."""
        if isinstance(value, str):
            return len(value)
        if isinstance(value, int):
            return max(_SCALAR, value.bit_length() // 3)
        if isinstance(value, KeysView | ItemsView | ValuesView):
            return self.size_of(value.mapping) if hasattr(value, "mapping") else _SCALAR
        if not isinstance(value, list | tuple | dict | set | frozenset):
            return _SCALAR
        known = self._sizes.get(id(value))
        if known is None:
            known = self._sizes[id(value)] = (value, self._size_of_items(value))
        return known[1]

    def reserve(self, size: int) -> None:
        """Raise `BoundExceeded` unless a value of this size may be made."""
        if size > self.allowance:
            raise BoundExceeded(f"it makes a value of {size:,} characters, and {self.allowance:,} are allowed")

    def admit(self, value: Value) -> Value:
        """Return a value that was just made, if it may exist."""
        if not isinstance(value, Markup | str | list | tuple | dict | set | frozenset):
            return value
        self.reserve(self.size_of(value))
        self._left -= len(value) if isinstance(value, str) else _ENTRY * (1 + len(value))
        if self._left < 0:
            raise BoundExceeded(f"it makes values of {_TURNOVER * self.allowance:,} characters together")
        return value

    def _size_of_items(self, value: Iterable[object]) -> int:
        items = sum(map(self.size_of, value)) + 4 * sum(1 for _ in value)  # 4: quotes, a comma, a space
        if isinstance(value, Mapping):
            items += sum(map(self.size_of, value.values()))
        return items


LEDGER: ContextVar[Ledger] = ContextVar("ledger")
"""The account of the render that this thread is busy with."""


def admit(value: Value) -> Value:
    """Return a value that the template just made, or raise `BoundExceeded`."""
    return LEDGER.get().admit(value)


def reserve(size: int) -> None:
    """Raise `BoundExceeded` unless the template may make a value of this size."""
    LEDGER.get().reserve(size)


def size_of(value: Any) -> int:  # Any: whatever a template holds
    """Return the size of a value that a template holds."""
    return LEDGER.get().size_of(value)
