"""Damages the header of a tiny GGUF in many ways, by the kinds that are known from fuzzing and from public reports.

A mutant is the file's bytes, changed: `mutants` gives each by a name that says what was done. What a loader must say of
it stands in tests/conformance/test_damaged_gguf.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf

U8, I8, U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 1, 4, 5, 6, 7, 8, 9, 10, 12
TYPES = {int: U32, float: F32, bool: BOOL, str: STRING}
LARGE = 2**62


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def number(type_: int, value: float) -> bytes:
    letters = {U8: "B", I8: "b", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", F64: "d"}
    return struct.pack("<" + letters[type_], value)


@dataclass(frozen=True)
class Row:
    """One row of the tensor table."""

    name: str
    dimensions: tuple[int, ...]  # as in the file: columns first
    type: int
    offset: int

    def encoded(self) -> bytes:
        count = len(self.dimensions)
        return text(self.name) + struct.pack(f"<I{count}QIQ", count, *self.dimensions, self.type, self.offset)


@dataclass(frozen=True)
class File:
    """A GGUF in parts that can be exchanged; `encoded` puts them together, with counts that fit unless they are set."""

    entries: Mapping[str, bytes]  # key -> type and value
    rows: tuple[Row, ...]
    weights: bytes
    version: int = 3
    tensor_count: int | None = None
    entry_count: int | None = None
    extra: bytes = field(default=b"")  # more entries, encoded

    def encoded(self) -> bytes:
        tensors = len(self.rows) if self.tensor_count is None else self.tensor_count
        entries = len(self.entries) if self.entry_count is None else self.entry_count
        head = b"GGUF" + struct.pack("<IQQ", self.version, tensors, entries)
        head += b"".join(text(key) + value for key, value in self.entries.items()) + self.extra
        head += b"".join(row.encoded() for row in self.rows)
        return head + bytes(-len(head) % 32) + self.weights

    def with_entry(self, key: str, type_: int, value: bytes) -> File:
        return replace(self, entries={**self.entries, key: struct.pack("<I", type_) + value})

    def without(self, key: str) -> File:
        return replace(self, entries={name: value for name, value in self.entries.items() if name != key})

    def with_row(self, changed: str, **changes: object) -> File:
        return replace(self, rows=tuple(replace(row, **changes) if row.name == changed else row for row in self.rows))


def parsed(path: Path) -> File:
    """Take a sound file apart."""
    reader, data = gguf.GGUFReader(path), path.read_bytes()
    entries = {}
    for key, entry in reader.fields.items():
        if not key.startswith("GGUF."):
            entries[key] = b"".join(bytes(part) for part in entry.parts[2:])
    rows = tuple(
        Row(
            tensor.name, tuple(tensor.shape.tolist()), tensor.tensor_type.value, tensor.data_offset - reader.data_offset
        )
        for tensor in reader.tensors
    )
    return File(entries, rows, data[reader.data_offset :])


def mutants(sound: File) -> Iterator[tuple[str, bytes]]:
    """Give every damaged file by its name."""
    yield from _of_the_start(sound)
    yield from _cut(sound)
    yield from _of_counts(sound)
    for name, file in (*_of_metadata(sound), *_of_numbers(sound), *_of_tensors(sound), *_of_tokens(sound)):
        yield name, file.encoded()


def _of_the_start(sound: File) -> Iterator[tuple[str, bytes]]:
    data = sound.encoded()
    starts = {
        "empty": b"", "magic": b"GGUX" + data[4:], "reversed magic": b"FUGG" + data[4:], "ggml": b"lmgg" + data[4:],
        "web page": b"<!DOCTYPE html><html>" + data, "LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "zip": b"PK\x03\x04" + data, "pickle": b"\x80\x02}q" + data, "gzip": b"\x1f\x8b\x08" + data,
        "JSON": b'{"model_type": "llama"}', "zeros": bytes(len(data)),
        "safetensors": struct.pack("<Q", 90) + b'{"a":{}}',
        "big-endian": b"GGUF" + struct.pack(">I", 3) + data[8:],
    }  # fmt: skip
    yield from starts.items()
    for version in (0, 1, 4, 99, 2**32 - 1):
        yield f"version {version}", replace(sound, version=version).encoded()


def _cut(sound: File) -> Iterator[tuple[str, bytes]]:
    data = sound.encoded()
    for size in (3, 6, 10, 20, 30, 200, 1000, len(data) - len(sound.weights) - 40, len(data) - 1, len(data) // 2):
        yield f"cut to {size} bytes" if size < 1001 else f"cut by {len(data) - size} bytes", data[:size]


def _of_counts(sound: File) -> Iterator[tuple[str, bytes]]:
    for count in (len(sound.rows) + 1, 2**20, LARGE):
        yield f"{count} tensors", replace(sound, tensor_count=count).encoded()
    for count in (0, len(sound.entries) + 1, 2**20, LARGE):
        yield f"{count} keys", replace(sound, entry_count=count).encoded()


def _of_metadata(sound: File) -> Iterator[tuple[str, File]]:
    more = len(sound.entries) + 1
    values = {
        "string of 2**62 bytes": struct.pack("<IQ", STRING, LARGE),
        "array of 2**62": struct.pack("<IIQ", ARRAY, U8, LARGE),
        "strings of 2**62 bytes": struct.pack("<IIQQ", ARRAY, STRING, 1, LARGE), "type 13": struct.pack("<I", 13),
        "type 2**32 - 1": struct.pack("<I", 2**32 - 1), "array of type 99": struct.pack("<IIQ", ARRAY, 99, 1) + b"\0",
        "array of arrays": struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", U8, 0),
        "string that is not UTF-8": struct.pack("<I", STRING) + text(b"\xff\xfe"),
    }  # fmt: skip
    for name, value in values.items():
        yield name, replace(sound, extra=text("phiplug.test") + value, entry_count=more)
    twice = text("general.architecture") + sound.entries["general.architecture"]
    yield "key twice", replace(sound, extra=twice, entry_count=more)
    yield "key of 2**62 bytes", replace(sound, extra=struct.pack("<Q", LARGE), entry_count=more)
    yield "key that is not UTF-8", replace(sound, extra=text(b"\xff") + struct.pack("<IB", U8, 0), entry_count=more)
    yield "no architecture", sound.without("general.architecture")
    yield "unknown architecture", sound.with_entry("general.architecture", STRING, text("nonsense"))
    yield "architecture is a number", sound.with_entry("general.architecture", U32, number(U32, 7))
    for type_, value in ((U32, 0), (U32, 1), (U32, 48), (U32, 2**31), (I32, 32), (U64, 32), (F32, 32.0), (BOOL, 1)):
        yield f"alignment {value} of type {type_}", sound.with_entry("general.alignment", type_, number(type_, value))


def _of_numbers(sound: File) -> Iterator[tuple[str, File]]:
    nan, infinite = float("nan"), float("inf")
    numbers = {
        "block_count": (0, 1, 3, 513, 2**32 - 1, 2.0, "2"), "context_length": (0, "256"),
        "embedding_length": (0, 1, 65, 2**31, "64"), "feed_forward_length": (0, 1, 97),
        "attention.head_count": (0, 3, 5, 2**31, 4.0), "attention.head_count_kv": (3, 8),
        "attention.layer_norm_rms_epsilon": (-1e-5, nan, infinite, 2.0, "small"),
        "rope.freq_base": (0.0, -1.0, nan, infinite), "rope.dimension_count": (0, 3, 1000),
        "rope.scaling.type": ("nonsense", 3), "rope.scaling.factor": (nan, "4"), "expert_count": (2, 2**31),
        "vocab_size": (1,),
    }  # fmt: skip
    for key, values in numbers.items():
        for value in values:
            type_ = TYPES[type(value)]
            payload = text(value) if isinstance(value, str) else number(type_, value)
            yield f"{key} = {value!r}", sound.with_entry(f"llama.{key}", type_, payload)
    for key in ("block_count", "context_length", "embedding_length", "attention.layer_norm_rms_epsilon"):
        yield f"no {key}", sound.without(f"llama.{key}")


def _of_tensors(sound: File) -> Iterator[tuple[str, File]]:
    name = "blk.0.attn_q.weight"
    (row,) = (row for row in sound.rows if row.name == name)
    for type_ in (4, 24, 26, 28, 99, 2**32 - 1):
        yield f"tensor of type {type_}", sound.with_row(name, type=type_)
    shapes = {
        "no": (0, 64),
        "transposed": (32, 128),
        "five": (64, 1, 1, 1, 64),
        "huge": (2**40, 2**40),
        "2**62": (LARGE,),
    }
    for what, dimensions in shapes.items():
        yield f"tensor of {what} dimensions", sound.with_row(name, dimensions=dimensions)
    for offset in (row.offset + 1, row.offset + 32, 2**40, LARGE):
        yield f"tensor at {offset}", sound.with_row(name, offset=offset)
    yield "tensor twice", replace(sound, rows=(*sound.rows, row))
    for missing in (name, "token_embd.weight", "output_norm.weight"):
        yield f"no {missing}", replace(sound, rows=tuple(row for row in sound.rows if row.name != missing))
    yield "tensor without a name", sound.with_row(name, name="")
    yield "tensor of another name", sound.with_row(name, name="blk.0.attn_z.weight")


def _of_tokens(sound: File) -> Iterator[tuple[str, File]]:
    def tokens(texts: list[str | bytes]) -> bytes:
        return struct.pack("<IQ", STRING, len(texts)) + b"".join(map(text, texts))

    count = struct.unpack_from("<Q", sound.entries["tokenizer.ggml.tokens"], 8)[0]
    names = [f"token {number}" for number in range(count)]
    yield "no tokens", sound.without("tokenizer.ggml.tokens")
    yield "no tokenizer", sound.without("tokenizer.ggml.model")
    yield "unknown tokenizer", sound.with_entry("tokenizer.ggml.model", STRING, text("nonsense"))
    yield "tokens are one text", sound.with_entry("tokenizer.ggml.tokens", STRING, text("a b c"))
    yield "tokens are numbers", sound.with_entry("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQI", U32, 1, 7))
    yield "token twice", sound.with_entry("tokenizer.ggml.tokens", ARRAY, tokens([*names[:-1], names[0]]))
    yield "token not UTF-8", sound.with_entry("tokenizer.ggml.tokens", ARRAY, tokens([*names[:-1], b"\xff\xfe"]))
    yield "one token", sound.with_entry("tokenizer.ggml.tokens", ARRAY, tokens(["a"]))
    yield "eos beyond the vocabulary", sound.with_entry("tokenizer.ggml.eos_token_id", U32, number(U32, 2**31))
