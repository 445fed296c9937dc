"""Bounds the time that one rendering takes and the size of what it makes.

Every value that a template makes is admitted here, and every round of a loop passes by. No value is larger than the
allowance, written out in full: a list that holds one long text a thousand times counts it a thousand times. So nothing
that happens between two checks takes long, and a check is enough to end the work. This needs no second thread and no
signal, so it works in any thread and on Windows. Sizes are in characters, roughly. This module knows nothing of Jinja.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

OWN = 256 * 1024
"""Characters that a template may add to what it was given."""

_TURNOVER = 32  # allowances; a template that takes a long message apart makes about ten copies of it
_ITEM = 4  # characters of quotes, a comma, a space
_SCALAR = 8  # characters of a number, True, None, or an object that prints short
_MAX_DEPTH = 100  # Python computes the hash of nested tuples without looking at what is left of the stack
_MAX_BITS = 14_000  # of a number; Python prints none of more than 4,300 digits, and dividing longer ones is slow
_NOTHING: dict[object, object] = {}
_VIEWS = (type(_NOTHING.keys()), type(_NOTHING.values()), type(_NOTHING.items()))
_CONTAINERS = (list, tuple, dict, set, frozenset, *_VIEWS)


class BoundExceeded(Exception):
    """A template went beyond its bounds. No ValueError or such, which some filters catch."""


class Limits:
    """The bounds of one rendering.

    Args:
        given: what the template is given; what it makes may be twice as large, because JSON may escape each character.
        seconds: of the processor, in the thread that renders; a busy machine does not shorten them.
    """

    def __init__(self, given: object, seconds: float) -> None:
        self._measures: dict[int, tuple[object, int, int]] = {}  # by id, with the object, so that no other gets its id
        self.allowance = OWN + 2 * self.size_of(given)
        self._left = _TURNOVER * self.allowance
        self._seconds = seconds
        self._end = time.thread_time() + seconds

    def tick(self) -> None:
        """Raise `BoundExceeded` when the time is up."""
        if time.thread_time() > self._end:
            raise BoundExceeded(f"it took more than {self._seconds:g} s")

    def size_of(self, value: object) -> int:
        """Return how many characters `value` has, written out in full."""
        return self._measure(value)[0]

    def reserve(self, size: int) -> None:
        """Raise `BoundExceeded` unless a value of this size may be made."""
        if size > self.allowance:
            raise BoundExceeded(f"it makes a value of {size:,} characters, and {self.allowance:,} are allowed")

    def admit(self, value: T) -> T:
        """Return a value that was just made, if it may exist; an iterator is bounded in each of its steps."""
        self.tick()
        if isinstance(value, Iterator):
            return _each(value)  # type: ignore[return-value]  # a template sees no difference
        self.reserve(self.size_of(value))
        if isinstance(value, str | list | tuple | dict):
            self._left -= len(value) if isinstance(value, str) else 2 * _ITEM * (1 + len(value))
        if self._left < 0:
            raise BoundExceeded(f"it makes values of {_TURNOVER * self.allowance:,} characters together")
        return value

    def _measure(self, value: object) -> tuple[int, int]:
        """Return the size of `value` and how deeply it is nested, which is 0 for a text or a number."""
        if isinstance(value, str):
            return len(value), 0
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise BoundExceeded("it computes with a number of more than 4,000 digits")
        if not isinstance(value, _CONTAINERS):
            return _SCALAR, 0
        known = self._measures.get(id(value))
        if known is None:
            known = self._measures[id(value)] = (value, *self._measure_items(value))
        return known[1], known[2]

    def _measure_items(self, value: Any) -> tuple[int, int]:  # Any: a container of whatever a template holds
        mapping = getattr(value, "mapping", value)  # what a view shows
        items = [*mapping.keys(), *mapping.values()] if hasattr(mapping, "keys") else list(mapping)
        if set(map(type, items)) == {str}:  # as of a long text that was split; this takes a tenth of the time
            return _ITEM * (1 + len(items)) + sum(map(len, items)), 1
        measures = [self._measure(item) for item in items]
        depth = 1 + max((depth for _, depth in measures), default=0)
        if depth > _MAX_DEPTH:
            raise BoundExceeded(f"it nests values more than {_MAX_DEPTH} deep")
        return _ITEM * (1 + len(items)) + sum(size for size, _ in measures), depth


LIMITS: ContextVar[Limits] = ContextVar("limits")
"""The bounds of the rendering that this thread is busy with."""


def admit(value: T) -> T:
    """Return a value that the template just made, or raise `BoundExceeded`."""
    return LIMITS.get().admit(value)


def tick(value: T = None) -> T:  # type: ignore[assignment]  # as a statement it returns None, which nobody reads
    """Return `value`, unless the time is up."""
    LIMITS.get().tick()
    return value


def reserve(size: int) -> None:
    """Raise `BoundExceeded` unless the template may make a value of this size."""
    LIMITS.get().reserve(size)


def concatenate(parts: Iterable[object]) -> str:
    """Return the texts of `parts` as one text; printing and `~` come here."""
    pieces, length = [], 0
    for part in parts:
        pieces.append(part if type(part) is str else str(part))
        length += len(pieces[-1])
        reserve(length)
    return admit("".join(pieces))


def _each(items: Iterator[T]) -> Iterator[T]:
    for item in items:
        tick()
        yield item
