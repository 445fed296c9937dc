"""Reads the values of the GGUF format, one after the other.

The bytes are not trusted: every count and length is checked against a limit, and against what is left, before it is
used. This file knows how GGUF writes a value, and nothing of which values there are.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

from phiplug.errors import ModelCorrupt

MAX_STRING = 2**20  # bytes; the longest strings are chat templates, of some 10 kB
MAX_ARRAY = 2**21  # elements; the longest arrays are merges, about two for each of 262k tokens

UINT32 = 4  # the id of this type
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}  # struct's letters


class StringArray(Sequence[str]):
    """The strings of a metadata array, decoded at the first look.

    Raises:
        ModelCorrupt: at that look, when one of them is not UTF-8.
    """

    def __init__(self, name: str, encoded: list[bytes]) -> None:
        self._name = name
        self._encoded = encoded

    def __repr__(self) -> str:
        return f"<{len(self)} strings>"

    def __len__(self) -> int:
        return len(self._encoded)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.strings[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.strings)

    @cached_property
    def strings(self) -> list[str]:
        """All of them."""
        try:
            return [encoded.decode() for encoded in self._encoded]
        except UnicodeDecodeError:
            raise self._not_utf8() from None

    def joined(self, separator: str) -> str:
        """Return all of them in one string; faster than to join `strings`, for it decodes once."""
        try:
            return separator.encode().join(self._encoded).decode()
        except UnicodeDecodeError:
            raise self._not_utf8() from None

    def _not_utf8(self) -> ModelCorrupt:
        return ModelCorrupt(f"the file is damaged: not every string of {self._name} is UTF-8")


class ValueReader:
    """Reads values one after the other.

    Attributes:
        data: the whole file.
        name: the file's, for messages.
        at: where the next value begins.

    Every method raises `ModelCorrupt` where the bytes end too soon or cannot be what they claim to be.
    """

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self.data = data
        self.name = name
        self.at = 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes; `what` they are goes into the message when they are missing."""
        if size > len(self.data) - self.at:
            raise self.cut_off(what)
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, letter: str, what: str) -> int | float:
        """Return the next number; `letter` is struct's for it."""
        (value,) = struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter), what))
        return value  # type: ignore[no-any-return]  # struct's letter says int or float

    def count(self, letter: str, limit: int, what: str) -> int:
        """Return the next integer, which must not exceed `limit`."""
        value = int(self.number(letter, what))
        if value > limit:
            raise ModelCorrupt(
                f"{self.name} is damaged: {what} is {value:,}, and more than {limit:,} is no sound model"
            )
        return value

    def string(self, what: str) -> str:
        """Return the next string."""
        length = self.count("Q", MAX_STRING, f"the length of {what}")
        try:
            return str(self.take(length, what), "utf-8")
        except UnicodeDecodeError:
            raise ModelCorrupt(f"{self.name} is damaged: {what} is not UTF-8") from None

    def value(self, type_: int, what: str) -> Any:  # Any: the file says what it holds
        """Return the next value, of one of the types of metadata."""
        if type_ == _STRING:
            return self.string(what)
        if type_ == _ARRAY:
            return self.array(what)
        if type_ not in _NUMBERS:
            raise ModelCorrupt(f"{self.name} is damaged: {what} is of the unknown type {type_}")
        value = self.number(_NUMBERS[type_], what)
        return bool(value) if type_ == _BOOL else value

    def array(self, what: str) -> Any:  # Any: the file says what it holds
        """Return the next array: a tuple of numbers, or a `StringArray`."""
        type_ = int(self.number("I", what))
        count = self.count("Q", MAX_ARRAY, f"the number of elements of {what}")
        if type_ == _STRING:
            return self.strings(count, what)
        if type_ not in _NUMBERS:
            raise ModelCorrupt(f"{self.name} is damaged: {what} is an array of the unknown type {type_}")
        letters = f"<{count}{_NUMBERS[type_]}"
        values = struct.unpack(letters, self.take(struct.calcsize(letters), what))
        return tuple(map(bool, values)) if type_ == _BOOL else values

    def strings(self, count: int, what: str) -> StringArray:
        """Return the next strings; this loop is what reading a large vocabulary takes."""
        length_at, data, end, encoded = struct.Struct("<Q").unpack_from, self.data, self.at, []
        try:
            for _ in range(count):
                begin, length = end + 8, length_at(data, end)[0]
                if length > MAX_STRING:
                    raise ModelCorrupt(f"{self.name} is damaged: a string of {what} is {length:,} bytes long")
                end = begin + length
                encoded.append(data[begin:end])
        except struct.error:
            raise self.cut_off(what) from None
        if end > len(data):
            raise self.cut_off(what)
        self.at = end
        return StringArray(what, encoded)

    def cut_off(self, what: str) -> ModelCorrupt:
        """Say that the bytes end too soon."""
        return ModelCorrupt(
            f"{self.name} is cut off: it has {len(self.data):,} bytes and ends within {what}", hint="download it again"
        )
