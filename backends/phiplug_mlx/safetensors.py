"""A .safetensors file -> nothing, or the reason why it is damaged.

MLX maps tensors at the offsets that the header names and reads them later, so these are checked against the file first.
Format: https://github.com/huggingface/safetensors. It knows nothing of models.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported

_MAX_HEADER = 100_000_000  # bytes: the format's own limit
_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4}
_SIZES |= {"U64": 8, "I64": 8, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}


def check_shard(path: Path) -> None:
    """Check that the header is sound and every tensor lies within the file.

    Raises:
        ModelNotFound: the file cannot be opened.
        ModelCorrupt: it is cut off or damaged.
        ModelUnsupported: a tensor is of a type that is not known here.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise ModelCorrupt(f"{path} is cut off, or no safetensors file", hint="download it again")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelCorrupt(f"{path} is damaged: its header is no JSON", hint="download it again") from None
    if not isinstance(header, dict):
        raise ModelCorrupt(f"{path} is damaged: its header is no JSON object")
    for name, entry in header.items():
        if name != "__metadata__":
            _check_tensor(path, name, entry, size - 8 - length)


def _check_tensor(path: Path, name: str, entry: Any, room: int) -> None:  # Any: what JSON holds
    try:
        kind, shape, (start, end) = str(entry["dtype"]), entry["shape"], entry["data_offsets"]
        numbers = [start, end, *shape]
    except (KeyError, TypeError, ValueError):
        raise ModelCorrupt(f"{path} is damaged: its entry for {name} is incomplete") from None
    if kind not in _SIZES:
        raise ModelUnsupported(f"{path}: {name} is of the type {kind!r}")
    sound = all(type(number) is int and number >= 0 for number in numbers)
    if not sound or end - start != math.prod(shape) * _SIZES[kind]:
        raise ModelCorrupt(f"{path} is damaged: {name} does not take the bytes that its shape needs")
    if end > room:
        raise ModelCorrupt(f"{path} is cut off: {name} goes beyond its end", hint="download it again")
