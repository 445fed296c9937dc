"""Holds what the header of a GGUF says: the metadata, and where each tensor is.

It reads no file, and knows nothing of what a model does with its metadata or weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiplug.gguf.quantization import FILE_TYPES


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor's bytes are, and what they hold.

    Attributes:
        name: as in the file: "blk.0.attn_q.weight".
        shape: rows first, as NumPy has it; ggml counts the other way round.
        type: "F32", "Q4_1", ...; "type 99" for an id that `phiplug.gguf.quantization` does not know.
        path: the file that holds it.
        offset: of its first byte in that file.
        nbytes: how many bytes it takes; for an unknown type, how many there are before the next tensor.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    path: Path
    offset: int
    nbytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Header:
    """What a GGUF says before its weights begin.

    Attributes:
        path: the file, or the first one of a split.
        version: of the format: 2 or 3.
        metadata: key -> int, float, bool, str, a tuple of numbers, or a `StringArray`.
        tensors: name -> where it is, in the order of the files.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]  # Any: the file says what it holds; whoever reads a key checks it
    tensors: Mapping[str, TensorInfo]

    @property
    def architecture(self) -> str:
        """The family of the model: "llama", "qwen3", ...; also the prefix of its own keys."""
        return str(self.metadata["general.architecture"])

    @property
    def parameter_count(self) -> int:
        """How many numbers the tensors hold together."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def weight_bytes(self) -> int:
        """How many bytes the tensors take together, without the padding between them."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """8 * weight_bytes / parameter_count; 0.0 for a file without tensors."""
        return 8 * self.weight_bytes / self.parameter_count if self.tensors else 0.0

    @property
    def quantization(self) -> str:
        """What such a file is called: "Q4_K_M", ...; without a known name, the type that holds most parameters."""
        name = FILE_TYPES.get(self.metadata.get("general.file_type", -1))
        if name is not None or not self.tensors:
            return name or "none"
        parameters: dict[str, int] = {}
        for tensor in self.tensors.values():
            parameters[tensor.type] = parameters.get(tensor.type, 0) + tensor.elements
        return max(parameters, key=lambda type_: parameters[type_])

    def hyperparameter(self, name: str) -> Any:  # Any: as in metadata
        """Return the value of `{architecture}.{name}`, or None."""
        return self.metadata.get(f"{self.architecture}.{name}")
