"""Random JSON schemas of the shapes that function calls, configurations and interfaces have, and documents for each.

A document comes with its label, by `jsonschema`; half of them are damaged at one place. Keys keep the schema's order,
as an answer does.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import jsonschema

from phiplug.text.constraint import Guide

Schema = dict[str, Any]

WORDS = ("name", "id", "größe", "価格", "tags", "a/b", "kind", "x y", "emoji 😀", "value")
FORMATS = {
    "date": "2026-02-03",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "10.0.200.1",
    "email": "a.b@example.org",
}
PATTERNS = {"^[A-Z]{2}[0-9]{3}$": "AB123", "^(red|green)$": "green", "[0-9]+": "7 of 9", "^\\S+$": "no-space"}
TEXTS = ("", "plain", 'quote " and \\', "line\nbreak", "日本語", "😀 é", "tab\t")


@dataclass(frozen=True)
class Case:
    """A schema, and documents as JSON text with whether each is of it."""

    schema: Schema
    documents: tuple[tuple[str, bool], ...]


def cases(count: int, *, seed: int) -> list[Case]:
    """Return `count` schemas with up to six documents each; the same for the same seed."""
    return [_case(random.Random(f"{seed}/{index}")) for index in range(count)]


def accepts(guide: Guide, tokens: list[int]) -> bool:
    """Tell whether a grammar takes these tokens as a whole text, by its masks."""
    for token in tokens:
        if guide.must_end or guide.forbidden()[token]:
            return False
        guide.accept(token)
    return guide.is_complete


def _case(source: random.Random) -> Case:
    maker = _Maker(source)
    schema, sound = maker.root()
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    documents = []
    for index in range(6):
        value = sound() if index % 2 == 0 else maker.damaged(sound())
        text = json.dumps(value, ensure_ascii=False, indent=source.choice((None, None, 2)))
        documents.append((text, validator.is_valid(value)))
    return Case(schema, tuple(documents))


class _Maker:
    """Makes a schema together with the function that makes documents of it."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.definitions: dict[str, Any] = {}

    def root(self) -> tuple[Schema, Any]:
        schema, sound = self.object(3)
        return schema | (
            {"$defs": {name: each[0] for name, each in self.definitions.items()}} if self.definitions else {}
        ), sound

    def any(self, depth: int) -> tuple[Schema, Any]:
        leaves = [self.integer, self.number, self.string, self.boolean, self.enum, self.const, self.nullable]
        nested = [self.object, self.array, self.union, self.reference, self.map] if depth else []
        make = self.source.choice(leaves + nested)
        return make(depth - 1) if make in nested else make()

    def object(self, depth: int) -> tuple[Schema, Any]:
        names = self.source.sample(WORDS, self.source.randint(1, 5))
        parts = {name: self.any(depth) for name in names}
        required = [name for name in names if self.source.random() < 0.6]
        schema: Schema = {"type": "object", "properties": {name: part[0] for name, part in parts.items()}}
        if required:
            schema["required"] = required
        if self.source.random() < 0.6:
            schema["additionalProperties"] = False

        def sound() -> dict[str, Any]:
            chosen = [name for name in names if name in required or self.source.random() < 0.5]
            return {name: parts[name][1]() for name in chosen}

        return schema, sound

    def map(self, depth: int) -> tuple[Schema, Any]:
        schema, sound = self.any(depth)
        names = self.source.sample(WORDS, 2)
        return {"type": "object", "additionalProperties": schema}, lambda: {name: sound() for name in names}

    def array(self, depth: int) -> tuple[Schema, Any]:
        schema, sound = self.any(depth)
        low, high = self.source.randint(0, 2), self.source.randint(2, 4)
        return {"type": "array", "items": schema, "minItems": low, "maxItems": high}, lambda: [
            sound() for _ in range(self.source.randint(low, high))
        ]

    def union(self, depth: int) -> tuple[Schema, Any]:
        parts = [self.any(depth) for _ in range(2)]
        return {"anyOf": [part[0] for part in parts]}, lambda: self.source.choice(parts)[1]()  # noqa: PLW0108  another each time

    def reference(self, depth: int) -> tuple[Schema, Any]:
        name = f"part{depth}"
        if name not in self.definitions:
            self.definitions[name] = self.any(depth)
        return {"$ref": f"#/$defs/{name}"}, lambda: self.definitions[name][1]()  # noqa: PLW0108  it may be made later

    def integer(self) -> tuple[Schema, Any]:
        low = self.source.choice((-1000, -7, 0, 1))
        high = low + self.source.choice((0, 5, 99, 12345))
        return {"type": "integer", "minimum": low, "maximum": high}, lambda: self.source.randint(low, high)

    def number(self) -> tuple[Schema, Any]:
        return {"type": "number", "exclusiveMinimum": 0, "maximum": 10}, lambda: round(self.source.uniform(0.1, 10), 2)

    def string(self) -> tuple[Schema, Any]:
        way = self.source.randrange(4)
        if way == 0:
            name, text = self.source.choice(list(FORMATS.items()))
            return {"type": "string", "format": name}, lambda: text
        if way == 1:
            pattern, text = self.source.choice(list(PATTERNS.items()))
            return {"type": "string", "pattern": pattern}, lambda: text
        if way == 2:
            return {"type": "string", "minLength": 1, "maxLength": 6}, lambda: self.source.choice(
                ("日本", "é", "abcdef", '"\n')
            )
        return {"type": "string", "description": "Any text."}, lambda: self.source.choice(TEXTS)

    def boolean(self) -> tuple[Schema, Any]:
        return {"type": "boolean"}, lambda: self.source.random() < 0.5

    def enum(self) -> tuple[Schema, Any]:
        values = self.source.sample(["a", "ab", "日本", "😀", 1, -2.5, None, True], 3)
        return {"enum": values}, lambda: self.source.choice(values)

    def const(self) -> tuple[Schema, Any]:
        value = self.source.choice(["fixed", 7, None])
        return {"const": value}, lambda: value

    def nullable(self) -> tuple[Schema, Any]:
        return {"type": ["string", "null"]}, lambda: self.source.choice((None, "text"))

    def damaged(self, value: Any) -> Any:
        """Return the value with one change somewhere in it: which may leave it of the schema."""
        inner = (
            list(value.items())
            if isinstance(value, dict)
            else list(enumerate(value))
            if isinstance(value, list)
            else []
        )
        if inner and self.source.random() < 0.7:
            at, part = self.source.choice(inner)
            changed = dict(value) if isinstance(value, dict) else list(value)
            changed[at] = self.damaged(part)
            return changed
        if isinstance(value, dict) and value:
            dropped = self.source.choice(list(value))
            return self.source.choice(({key: each for key, each in value.items() if key != dropped}, value | {"zz": 0}))
        return self.source.choice([v for v in (123456789, "!", None, [], {}, 0.001, "x" * 9) if v != value])
