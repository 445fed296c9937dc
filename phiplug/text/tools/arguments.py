"""Reads the arguments of a call, character by character, and turns them into JSON text as they come.

Each reader is a generator: it asks for the next character by yielding, and returns when the arguments are over. It
knows nothing of what stands around them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from phiplug.errors import InvalidParameter
from phiplug.markup import ID, ParameterMarks
from phiplug.text.markers import cut

_IN_IDS = re.compile(r"[A-Za-z0-9_-]")

T = TypeVar("T")
Reading: TypeAlias = Generator[None, str, T]
"""Yields where it needs a character, which is sent to it."""

WHITE_SPACE = " \t\r\n"
MOST_KEYS = 500
"""Of an object, in forms that are not JSON; llguidance takes no 1,000 that may all be left out."""


class NoCall(Exception):
    """What comes is not in the form of a call."""


class Characters:
    """The characters of a text that is read while it comes, some of which may be looked at before they are taken."""

    def __init__(self) -> None:
        self.ahead = ""

    def peek(self) -> Reading[str]:
        """Return the next character and leave it there."""
        if not self.ahead:
            self.ahead = yield
        return self.ahead[0]

    def take(self) -> Reading[str]:
        """Return the next character."""
        character = yield from self.peek()
        self.ahead = self.ahead[1:]
        return character

    def literal(self, text: str) -> Reading[None]:
        """Read a text of a row, in which white space stands for any white space, also none, and `ID` for an id.

        Raises:
            NoCall: something else comes.
        """
        for at, part in enumerate(text.split(ID)):
            while at and _IN_IDS.match((yield from self.peek())):
                yield from self.take()
            for expected in part:
                if expected in WHITE_SPACE:
                    yield from self.skip()
                elif (yield from self.take()) != expected:
                    raise NoCall

    def either(self, one: str, other: str) -> Reading[bool]:
        """Read one of two texts of a row, neither of which is the beginning of the other; return whether it is `one`.

        Raises:
            NoCall: something else comes.
        """
        shared = next(at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
        yield from self.literal(one[:shared])
        is_one = (yield from self.peek()) == one[shared]
        yield from self.literal((one if is_one else other)[shared:])
        return is_one

    def skip(self) -> Reading[None]:
        """Read white space."""
        while (yield from self.peek()) in WHITE_SPACE:
            yield from self.take()

    def until(self, *ends: str, emit: Callable[[str], None]) -> Reading[None]:
        """Read up to the first of some texts, and that; `emit` is given what comes before, as soon as it is certain."""
        held = ""
        while True:
            before, end, held = cut(held + (yield from self.take()), ends)
            emit(before)
            if end:
                return


Arguments: TypeAlias = Callable[[Characters, Callable[[str], None]], Reading[None]]
"""Reads the arguments of one call; its second argument is given the JSON text, piece by piece."""


def json_object(characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
    """Read a JSON object, and return after its last brace."""
    depth, in_text, is_escaped = 0, False, False
    while True:
        character = yield from characters.take()
        if not depth and character != "{":
            raise NoCall
        emit(character)
        if in_text:
            in_text = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            in_text = True
        else:
            depth += (character in "{[") - (character in "}]")
        if not depth:
            return


def parameters(schema: dict[str, Any], marks: ParameterMarks, end: str) -> Arguments:  # Any: what JSON holds
    """Return the reader of one argument after the other, up to `end`, which it leaves.

    A schema says which values are texts, where the marks do not tell.
    """
    shared, *rest = marks.after_key.split(" ", 1)
    after_key, after_text_key = "".join(rest), marks.after_text_key.removeprefix(shared).strip()

    def read(characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
        emit("{")
        separator = ""
        while (yield from characters.either(marks.before_key, end)):
            key: list[str] = []
            yield from characters.until(shared, emit=key.append)
            name = "".join(key)
            emit(f"{separator}{json.dumps(name, ensure_ascii=False)}: ")
            separator = ", "
            is_written = is_text(schema.get("properties", {}).get(name, {}))
            if rest:
                yield from characters.skip()
            if after_text_key:
                is_written = yield from characters.either(after_text_key, after_key)
            else:
                yield from characters.literal(after_key)
            yield from _value(characters, emit, marks, is_text=is_written)
            yield from characters.skip()
        characters.ahead = end + characters.ahead
        emit("}")

    return read


def is_text(schema: object) -> bool:
    """Return whether a value of a schema is written as it is, and not in JSON."""
    if not isinstance(schema, dict):
        return False
    values = fixed_values(schema)
    return schema.get("type") == "string" or (values is not None and all(isinstance(value, str) for value in values))


def fixed_values(schema: dict[str, Any]) -> list[Any] | None:  # Any: what JSON holds
    """Return what a value may be by `enum` or `const`; None where they say nothing.

    Raises:
        InvalidParameter: it may be nothing.
    """
    values: list[Any] | None = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values == []:
        raise InvalidParameter("json_schema", "enum: an empty list allows no value")
    return values


def keys_of(schema: dict[str, Any]) -> list[str]:  # Any: as above
    """Return the keys of an object, in the schema's order.

    Raises:
        InvalidParameter: they are more than a grammar of a form that is not JSON can have.
    """
    keys = list(schema.get("properties", ()))
    if len(keys) > MOST_KEYS:
        raise InvalidParameter(
            "json_schema", f"{len(keys)} properties; in this model's form of calls {MOST_KEYS} may be"
        )
    return keys


def _value(
    characters: Characters, emit: Callable[[str], None], marks: ParameterMarks, *, is_text: bool
) -> Reading[None]:
    """Read one value and its end, without the line breaks at both ends where those are no part of it."""
    begun = not marks.on_lines

    def pass_on(piece: str) -> None:
        nonlocal begun
        text = piece if begun else piece.removeprefix("\n")
        begun = begun or bool(piece)
        emit(_escaped(text) if is_text else text)

    ends = (f"\n{marks.end}", marks.end) if marks.on_lines else (marks.end,)
    emit('"' if is_text else "")
    yield from characters.until(*ends, emit=pass_on)
    emit('"' if is_text else "")


class Braces:
    """Reads `{key:value}`, whose texts stand between two quotes of the model's own."""

    def __init__(self, quote: str) -> None:
        self._quote = quote

    def __call__(self, characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
        """Read the arguments of one call."""
        if (yield from characters.peek()) != "{":
            raise NoCall
        yield from self._value(characters, emit)

    def _value(self, characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
        character = yield from characters.peek()
        if character == self._quote[0]:
            yield from self._text(characters, emit)
        elif character in "{[":
            yield from self._items(characters, emit)
        else:
            emit((yield from self._bare(characters)))

    def _items(self, characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
        opened = yield from characters.take()
        end = "}" if opened == "{" else "]"
        emit(opened)
        while (yield from characters.peek()) != end:
            if opened == "{":
                yield from self._key(characters, emit)
            yield from self._value(characters, emit)
            if (yield from characters.peek()) == ",":
                emit(", ")
                yield from characters.take()
            elif characters.ahead[0] != end:
                raise NoCall
        yield from characters.take()
        emit(end)

    def _key(self, characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
        if (yield from characters.peek()) == self._quote[0]:
            yield from self._text(characters, emit)
        else:
            emit(json.dumps((yield from self._bare(characters)), ensure_ascii=False))
        yield from characters.literal(":")
        emit(": ")

    def _text(self, characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
        yield from characters.literal(self._quote)
        emit('"')
        yield from characters.until(self._quote, emit=lambda piece: emit(_escaped(piece)))
        emit('"')

    def _bare(self, characters: Characters) -> Reading[str]:
        found = ""
        while (yield from characters.peek()) not in ",:{}[]":
            found += yield from characters.take()
        return found.strip()


def _escaped(text: str) -> str:
    """Return a text as it stands between the quotes of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
