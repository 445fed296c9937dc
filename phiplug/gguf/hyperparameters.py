"""Reads the numbers of a model from the metadata of a GGUF, each checked, since the file is not trusted.

It serves engines that compute from a file's numbers themselves; it knows nothing of tensors.
"""

from __future__ import annotations

import math

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf.header import Header

LARGEST = 2**24  # of a dimension: the largest vocabulary has some 2**18 tokens
LONGEST = 2**31 - 1  # of a context, as llama.cpp counts its tokens
OTHERS = "use -b llama-cpp"


def whole(header: Header, key: str, default: int | None = None, *, largest: int = LARGEST) -> int:
    """Return a positive whole number of the architecture; one for each layer counts if all are the same.

    Raises:
        ModelCorrupt: it is missing, no such number, or more than `largest`.
        ModelUnsupported: the layers differ in it.
    """
    value = header.hyperparameter(key)
    if isinstance(value, tuple) and value:
        if len(set(value)) > 1:
            raise ModelUnsupported(f"{header.path.name}: the layers differ in {key}", hint=OTHERS)
        value = value[0]
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise _damaged(header, key, value)
    return value


def real(header: Header, key: str, default: float | None = None) -> float:
    """Return a positive number of the architecture; raises ModelCorrupt if it is missing or something else."""
    value = header.hyperparameter(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise _damaged(header, key, value)
    return float(value)


def trained_context(header: Header) -> int:
    """Return how many tokens the model was trained for; raises ModelCorrupt if the file does not say."""
    return whole(header, "context_length", largest=LONGEST)


def _damaged(header: Header, key: str, value: object) -> ModelCorrupt:
    return ModelCorrupt(f"{header.path.name} is damaged: {header.architecture}.{key} is {value!r}")
