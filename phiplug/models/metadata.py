"""Reads what a model's files say about the model, from headers alone.

A GGUF says it in its metadata and tensor table, a folder in config.json and at the head of each safetensors file. No
weight is read. It knows nothing of tokenizers, templates or engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phiplug.folder import StoredTensor, read_config, read_tensors
from phiplug.gguf import Header, read_header
from phiplug.models.selection import CONFIG, parts
from phiplug.spi import ModelFiles

_GGUF_TOKENIZERS = {
    "gpt2": "byte-level BPE",
    "llama": "SentencePiece",
    "gemma4": "BPE, spelt as SentencePiece",
    "t5": "unigram",
    "bert": "WordPiece",
}


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model's files say; None where they do not.

    Attributes:
        name: what its makers call it.
        architecture: "llama", "qwen3", ... as the files have it.
        parameters: how many numbers the weights are; those that are packed count as what they stand for.
        bits_per_weight: of all weights together, scales included.
        size: of all files with weights, in bytes.
        quantization: "Q4_K_M", "4 bits in groups of 64", "bfloat16", ...
        context_length: how many tokens it was trained for.
        layers: how many.
        width: of a token's vector.
        heads: how many heads the queries have.
        kv_heads: how many heads the keys and values have.
        rope: the base of the rotary embedding, and how it is stretched.
        tokenizer: of which kind.
        licence: as the files spell it.
        source: who made it, or the page that says so.
        sampling: how its makers would draw its tokens, by the names of the file; phiplug does not do so.
    """

    name: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    bits_per_weight: float | None = None
    size: int | None = None
    quantization: str | None = None
    context_length: int | None = None
    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    rope: str | None = None
    tokenizer: str | None = None
    licence: str | None = None
    source: str | None = None
    sampling: Mapping[str, str | int | float | bool] = field(default_factory=dict)


_SAMPLING = "general.sampling."
_SOURCES = ("source.url", "source.repo_url", "url", "repo_url", "organization", "author")


def read_metadata(files: ModelFiles) -> ModelMetadata:
    """Read what a model's files say; of a format that a plugin made up, that is nothing.

    Raises:
        ModelNotFound: a file is missing or cannot be opened.
        ModelCorrupt: a header is damaged.
        ModelUnsupported: a header is of a kind that is not read here.
    """
    if files.format == "gguf":
        return _of_gguf(read_header(files.path))
    if files.format == "folder":
        return _of_folder(files.path)
    return ModelMetadata()


def _of_gguf(header: Header) -> ModelMetadata:
    metadata, name = header.metadata, header.path.name
    return ModelMetadata(
        name=_text(metadata.get("general.name")),
        architecture=header.architecture,
        parameters=header.parameter_count,
        bits_per_weight=header.bits_per_weight,
        size=sum(header.path.with_name(part).stat().st_size for part in parts(name)),
        quantization=header.quantization,
        context_length=_number(header.hyperparameter("context_length")),
        layers=_number(header.hyperparameter("block_count")),
        width=_number(header.hyperparameter("embedding_length")),
        heads=_number(header.hyperparameter("attention.head_count")),
        kv_heads=_number(header.hyperparameter("attention.head_count_kv")),
        rope=_rope(
            header.hyperparameter("rope.freq_base"),
            header.hyperparameter("rope.scaling.type"),
            header.hyperparameter("rope.scaling.factor"),
        ),
        tokenizer=_gguf_tokenizer(metadata),
        licence=_text(metadata.get("general.license")),
        source=next(filter(None, (_text(metadata.get(f"general.{key}")) for key in _SOURCES)), None),
        sampling={
            key.removeprefix(_SAMPLING): value
            for key, value in metadata.items()
            if key.startswith(_SAMPLING) and isinstance(value, str | int | float)
        },
    )


def _gguf_tokenizer(metadata: Mapping[str, Any]) -> str | None:  # Any: what the file says it holds
    model, pre = (_text(metadata.get(f"tokenizer.ggml.{key}")) for key in ("model", "pre"))
    kind = _GGUF_TOKENIZERS.get(model or "", model)
    return f"{kind}, {pre}" if kind and pre and pre != "default" else kind


def _of_folder(folder: Path) -> ModelMetadata:
    config = read_config(folder / CONFIG)
    text = config.get("text_config")
    config |= text if isinstance(text, dict) else {}
    quantization = config.get("quantization") or config.get("quantization_config")
    packing = quantization if isinstance(quantization, dict) else {}
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name: entry for file in files for name, entry in read_tensors(file).items()}
    parameters = sum(_elements(name, tensors, packing) for name in tensors)
    weight_bytes = sum(entry.nbytes for entry in tensors.values())
    rope = config.get("rope_scaling")
    scaling = rope if isinstance(rope, dict) else {}
    return ModelMetadata(
        name=_text(config.get("_name_or_path")) or None,
        architecture=_text(config.get("model_type")),
        parameters=parameters,
        bits_per_weight=8 * weight_bytes / parameters if parameters else None,
        size=sum(file.stat().st_size for file in files),
        quantization=_packed_as(packing) or _text(config.get("torch_dtype") or config.get("dtype")),
        context_length=_number(config.get("max_position_embeddings")),
        layers=_number(config.get("num_hidden_layers")),
        width=_number(config.get("hidden_size")),
        heads=_number(config.get("num_attention_heads")),
        kv_heads=_number(config.get("num_key_value_heads")),
        rope=_rope(
            config.get("rope_theta"),
            scaling.get("rope_type"),
            scaling.get("factor"),
        ),
        tokenizer="tokenizer.json" if (folder / "tokenizer.json").is_file() else None,
    )


def _elements(name: str, tensors: Mapping[str, StoredTensor], packing: Mapping[str, Any]) -> int:  # Any: JSON
    """Return how many weights a tensor is: MLX packs 32 // bits of them into a number, and keeps scales and biases."""
    stem, _, kind = name.rpartition(".")
    if kind in ("scales", "biases") and f"{stem}.scales" in tensors:
        return 0
    count = tensors[name].elements
    if kind != "weight" or f"{stem}.scales" not in tensors:
        return count
    own = packing.get(stem)
    bits = _number((own if isinstance(own, dict) else packing).get("bits"))
    return count * 32 // bits if bits else count


def _packed_as(packing: Mapping[str, Any]) -> str | None:  # Any: what JSON holds
    bits, group = packing.get("bits"), packing.get("group_size")
    if bits and group:
        return f"{bits} bits in groups of {group}"
    return f"{bits} bits" if bits else _text(packing.get("quant_method"))


def _rope(base: Any, scaling: Any, factor: Any) -> str | None:  # Any: what a header holds
    if not isinstance(base, int | float):
        return None
    stretched = f", {scaling} scaling" if isinstance(scaling, str) and scaling not in ("none", "default") else ""
    by = f" by {factor:g}" if stretched and isinstance(factor, int | float) else ""
    return f"base {base:,.10g}{stretched}{by}"


def _text(value: Any) -> str | None:  # Any: what a header holds
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:  # Any: what a header holds; where layers differ, it is an array
    if isinstance(value, tuple | list):
        numbers = [number for number in value if isinstance(number, int)]
        return max(numbers, default=None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
