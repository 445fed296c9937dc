"""Identifies a model's weights: checksum, size, shape, bits per weight, and how many bytes of them a token reads."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from phiplug.bench.types import ModelIdentity
from phiplug.gguf import read_header
from phiplug.models.hub import checksum_of, weight_files
from phiplug.models.metadata import read_metadata
from phiplug.userfiles import expanded

if TYPE_CHECKING:
    from phiplug.models.metadata import ModelMetadata
    from phiplug.spi import Cache, ModelFiles


def identity_of(files: ModelFiles, cache: Cache) -> ModelIdentity:
    """Read the files once for their checksum, or remember it, and their headers.

    Raises:
        ModelError: a file is missing or damaged.
    """
    facts = read_metadata(files)
    weights = weight_files(files)
    return ModelIdentity(
        reference=Path(files.reference).name if expanded(files.reference).exists() else files.reference,
        format=files.format,
        sha256=checksum_of(files, cache),
        size=sum(path.stat().st_size for path in weights),
        parameters=facts.parameters,
        bits_per_weight=facts.bits_per_weight,
        bytes_per_token=_bytes_per_token(files, facts),
        quantization=facts.quantization,
        name=PurePosixPath(facts.name).name if facts.name else None,  # a folder may name its makers' own disk
        shape=_shape(facts),
    )


def _shape(facts: ModelMetadata) -> str | None:
    if not (facts.layers and facts.width and facts.heads):
        return None
    return f"{facts.layers} layers of width {facts.width}, {facts.heads} heads, {facts.kv_heads or facts.heads} of keys"


def _bytes_per_token(files: ModelFiles, facts: ModelMetadata) -> int | None:
    """All weights but a table of embeddings that is not also the output layer: one row of that is read."""
    if files.format == "gguf":
        tensors = read_header(files.path).tensors
        table = tensors.get("token_embd.weight") if "output.weight" in tensors else None
        return sum(tensor.nbytes for tensor in tensors.values()) - (table.nbytes if table else 0)
    if facts.parameters and facts.bits_per_weight:
        return round(facts.parameters * facts.bits_per_weight / 8)
    return None
