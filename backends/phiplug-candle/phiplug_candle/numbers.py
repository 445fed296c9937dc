"""Reads the numbers of a model from a GGUF's metadata, each checked, since the file is not trusted."""

from __future__ import annotations

import math

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header

LARGEST = 2**24  # of a dimension: the largest vocabulary has some 2**18 tokens
LONGEST = 2**31 - 1  # of a context, as `phiplug.gguf` has it
OTHERS = "use -b llama-cpp"


def whole(header: Header, key: str, default: int | None = None, *, largest: int = LARGEST) -> int:
    """Return a positive whole number of the architecture, `largest` at most.

    Raises:
        ModelCorrupt: it is missing, or no such number.
        ModelUnsupported: the layers differ in it.
    """
    value = header.hyperparameter(key)
    if isinstance(value, tuple) and value:
        if len(set(value)) > 1:
            raise ModelUnsupported(f"{header.path.name}: the layers differ in {key}", hint=OTHERS)
        value = value[0]
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise ModelCorrupt(f"{header.path.name} is damaged: {header.architecture}.{key} is {value!r}")
    return value


def real(header: Header, key: str, default: float | None = None) -> float:
    """Return a positive number of the architecture; raises ModelCorrupt if it is missing or something else."""
    value = header.hyperparameter(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise ModelCorrupt(f"{header.path.name} is damaged: {header.architecture}.{key} is {value!r}")
    return float(value)
