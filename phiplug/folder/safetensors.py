"""Reads the header of a safetensors file and checks it against the file's size.

Engines map tensors at the offsets that the header names, so a wrong one would be read past the end of the file. This
module reads no weights and knows nothing of models. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported

MAX_HEADER = 100_000_000  # bytes: the format's own limit

_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One entry of a header, checked.

    Attributes:
        dtype: "F32", "BF16", "U32", ...
        shape: rows first.
        nbytes: how many bytes it takes in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds, as they are stored."""
        return math.prod(self.shape)


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Read the header of one file; every tensor in it lies within the file and takes the bytes that its shape needs.

    Raises:
        ModelNotFound: the file cannot be opened.
        ModelCorrupt: it is cut off or damaged.
        ModelUnsupported: a tensor is of a type that is not known here.
    """
    entries, room = _header(path)
    return {name: _tensor(path, name, entry, room) for name, entry in entries.items() if name != "__metadata__"}


def _header(path: Path) -> tuple[Mapping[str, Any], int]:  # Any: what JSON holds
    """Return the entries, and how many bytes follow the header."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                raise ModelCorrupt(f"{path} is cut off, or no safetensors file", hint="download it again")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelCorrupt(f"{path} is damaged: its header is no JSON", hint="download it again") from None
    if not isinstance(header, dict):
        raise ModelCorrupt(f"{path} is damaged: its header is no JSON object")
    return header, size - 8 - length


def _tensor(path: Path, name: str, entry: Any, room: int) -> StoredTensor:  # Any: what JSON holds
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [start, end, *shape]
    except (KeyError, TypeError, ValueError):
        raise ModelCorrupt(f"{path} is damaged: its entry for {name} is incomplete") from None
    if not isinstance(dtype, str) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ModelCorrupt(f"{path} is damaged: its entry for {name} has a size that is no whole number")
    if dtype not in _BITS:
        raise ModelUnsupported(f"{path}: {name} is of the type {dtype!r}")
    if 8 * (end - start) != math.prod(shape) * _BITS[dtype]:
        raise ModelCorrupt(f"{path} is damaged: {name} does not take the bytes that its shape needs")
    if end > room:
        raise ModelCorrupt(f"{path} is cut off: {name} goes beyond its end", hint="download it again")
    return StoredTensor(dtype, tuple(shape), end - start)
