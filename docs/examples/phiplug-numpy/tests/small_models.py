"""Writes GGUF files of two layers with random weights, of either family, for tests.

The two families hold the same model where they are made with the same seed: as Phi-3, query, key and value are one
matrix and its rows are in the papers' order; as Llama, they are three, in the order in which llama.cpp rotates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class SmallModel:
    """What to write.

    Attributes:
        family: "llama" or "phi3", or one that nobody reads.
        embedding, feed_forward, heads, groups, head, rotated, layers: its sizes, as in `phiplug_numpy.transformer`.
        context: for how many tokens it says that it was trained.
        metadata: more keys, without the family's name, or other values; None leaves a key out.
        short, long: Phi-3's factors, one for each pair, or none.
        freqs: Llama 3's factors, or none.
        tied: leave out the output matrix.
        quantized: the type of the matrices in the layers.
        change: what becomes of the tensors before they are written.
    """

    family: str = "llama"
    embedding: int = 64
    feed_forward: int = 96
    heads: int = 4
    groups: int = 2
    head: int = 16
    rotated: int = 16
    layers: int = 2
    context: int = 512
    metadata: Mapping[str, Any] = field(default_factory=dict)
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    freqs: tuple[float, ...] = ()
    tied: bool = True
    quantized: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32
    change: Callable[[Arrays], Arrays] = lambda arrays: arrays

    def write(self, path: Path) -> Path:
        """Write it to `path`, and return that."""
        writer = gguf.GGUFWriter(path, self.family)
        for key, value in {**self._metadata(), **self.metadata}.items():
            _add(writer, f"{self.family}.{key}", value)
        _add_vocabulary(writer)
        for name, array in self.change(self._tensors()).items():
            packs = array.ndim == 2 and name.startswith("blk.")
            type_ = self.quantized if packs else gguf.GGMLQuantizationType.F32
            writer.add_tensor(name, gguf.quants.quantize(array, type_), raw_dtype=type_)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _metadata(self) -> dict[str, Any]:
        return {
            "block_count": self.layers,
            "context_length": self.context,
            "embedding_length": self.embedding,
            "feed_forward_length": self.feed_forward,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.groups,
            "attention.key_length": self.head,
            "attention.value_length": self.head,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.dimension_count": self.rotated,
            "rope.freq_base": 10_000.0,
            "vocab_size": len(TOKENS),
        }

    def _tensors(self) -> Arrays:
        rng = np.random.default_rng(7)

        def matrix(rows: int, columns: int) -> np.ndarray:
            return (rng.standard_normal((rows, columns)) / columns**0.5 * 1.5).astype(np.float32)

        def norm() -> np.ndarray:
            return (1 + 0.1 * rng.standard_normal(self.embedding)).astype(np.float32)

        arrays = {"token_embd.weight": matrix(len(TOKENS), self.embedding) * 4, "output_norm.weight": norm()}
        queries, keys = self.heads * self.head, self.groups * self.head
        for block in (f"blk.{number}" for number in range(self.layers)):
            parts = [matrix(rows, self.embedding) for rows in (queries, keys, keys)]
            gate, up = matrix(self.feed_forward, self.embedding), matrix(self.feed_forward, self.embedding)
            if self.family == "phi3":
                arrays[f"{block}.attn_qkv.weight"] = np.concatenate(parts)
                arrays[f"{block}.ffn_up.weight"] = np.concatenate([gate, up])
            else:
                parts = [self._interleaved(parts[0]), self._interleaved(parts[1]), parts[2]]
                arrays |= {f"{block}.attn_{part}.weight": rows for part, rows in zip("qkv", parts, strict=True)}
                arrays |= {f"{block}.ffn_gate.weight": gate, f"{block}.ffn_up.weight": up}
            arrays[f"{block}.attn_output.weight"] = matrix(self.embedding, queries)
            arrays[f"{block}.ffn_down.weight"] = matrix(self.embedding, self.feed_forward)
            arrays |= {f"{block}.attn_norm.weight": norm(), f"{block}.ffn_norm.weight": norm()}
        if not self.tied:
            arrays["output.weight"] = matrix(len(TOKENS), self.embedding)
        factors = {"rope_factors_short": self.short, "rope_factors_long": self.long, "rope_freqs": self.freqs}
        return arrays | {f"{name}.weight": np.array(f, np.float32) for name, f in factors.items() if f}

    def _interleaved(self, rows: np.ndarray) -> np.ndarray:
        """Order rows as convert_hf_to_gguf.py does for the Llama family: 0 h 1 h+1 ... of those that are rotated."""
        order = np.arange(self.head)
        order[: self.rotated] = order[: self.rotated].reshape(2, -1).T.ravel()
        return rows.reshape(-1, self.head, self.embedding)[:, order].reshape(rows.shape)


TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(f"▁{n}" for n in range(29))]


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    """Add a vocabulary that llama.cpp and tokenizers take: bytes and a few words."""
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    kinds += [gguf.TokenType.NORMAL] * (len(TOKENS) - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Add one value by the type that Python gives it."""
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif value is not None:
        writer.add_uint32(key, value)
