"""What the values of one render amount to, and what they may.

Two rules keep every single operation short, so that a deadline can do the rest:

* No value is larger than the allowance, written out in full: a list that holds one long text a thousand times counts it
  a thousand times. So nothing that Python does with a value in one go, such as printing or comparing, takes long.
* All values made together are not larger than `_TURNOVER` allowances, as they lie in memory.

Sizes are in characters, roughly. This file knows nothing of Jinja.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeVar, cast

Value = TypeVar("Value")

_NOTHING: dict[object, object] = {}
_VIEWS: tuple[Any, ...] = (type(_NOTHING.keys()), type(_NOTHING.values()), type(_NOTHING.items()))
_CONTAINERS: tuple[Any, ...] = (list, tuple, dict, set, frozenset, *_VIEWS)  # Any: so may be what they contain

OWN = 256 * 1024
"""Characters that a template may add to what it was given."""

_TURNOVER = 32  # a template that takes a long message apart makes about ten copies of it
_ENTRY = 8  # bytes of a reference in a list; what is in memory for each item
_ITEM = 4  # characters of quotes, a comma, a space
_MAX_DEPTH = 100  # Python computes the hash of nested tuples without looking at what is left of the stack
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
        self._measures: dict[int, tuple[object, int, int]] = {}  # by id, with the object, so that no other gets its id
        self.allowance = OWN + 2 * self.size_of(given)
        self._left = _TURNOVER * self.allowance

    def size_of(self, value: object) -> int:
        """Return how many characters `value` has, written out in full.

        Raises:
            BoundExceeded: it is nested too deeply.
        """
        return self._measure(value)[0]

    def reserve(self, size: int) -> None:
        """Raise `BoundExceeded` unless a value of this size may be made."""
        if size > self.allowance:
            raise BoundExceeded(f"it makes a value of {size:,} characters, and {self.allowance:,} are allowed")

    def admit(self, value: Value) -> Value:
        """Return a value that was just made, if it may exist."""
        if isinstance(value, str):
            self._left -= len(value)
        elif isinstance(value, _CONTAINERS):
            self._left -= _ENTRY * (1 + len(value))
        self.reserve(self.size_of(value))
        if self._left < 0:
            raise BoundExceeded(f"it makes values of {_TURNOVER * self.allowance:,} characters together")
        return value

    def _measure(self, value: object) -> tuple[int, int]:
        """Return the size of `value` and how deeply it is nested, which is 0 for a text or a number."""
        if isinstance(value, str):
            return len(value), 0
        if isinstance(value, int):
            return max(_SCALAR, value.bit_length() // 3), 0
        if not isinstance(value, _CONTAINERS):
            return _SCALAR, 0
        known = self._measures.get(id(value))
        if known is None:
            known = self._measures[id(value)] = (value, *self._measure_items(_items_of(value)))
        return known[1], known[2]

    def _measure_items(self, items: list[object]) -> tuple[int, int]:
        size = _ITEM * (1 + len(items))
        if set(map(type, items)) == {str}:  # as of a long text that was split
            return size + sum(map(len, cast("list[str]", items))), 1
        measures = [self._measure(item) for item in items]
        depth = 1 + max((depth for _, depth in measures), default=0)
        if depth > _MAX_DEPTH:
            raise BoundExceeded(f"it nests values more than {_MAX_DEPTH} deep")
        return size + sum(item_size for item_size, _ in measures), depth


def _items_of(value: Any) -> list[object]:  # Any: a container of whatever a template holds
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, _VIEWS):
        return _items_of(dict(value.mapping))
    return list(value)


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
