"""Writes a tiny GGUF of each architecture, of odd shapes, that llama.cpp and the MLX backend both load.

The weights are F32, so that what differs between two engines is their arithmetic and nothing else. The tokenizer is
missing on purpose: ids are all that an engine needs. Written with the `gguf` package, which the core does not use.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from phiplug.gguf.quantization import BLOCK_OF

VOCAB = 131  # odd
CONTEXT = 512
WINDOW = 24  # shorter than the prompts of the tests


@dataclass(frozen=True)
class Tiny:
    """The shape of a tiny model; `head_dim` times `heads` need not be `hidden` where the family allows it."""

    architecture: str
    hidden: int = 96
    layers: int = 3
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 16
    feed_forward: int = 160
    tied: bool = True
    keys: Mapping[str, Any] = field(default_factory=dict)  # more metadata, without the architecture's name
    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # rope_freqs, rope_factors_long, ...
    biases: bool = False


def factors(count: int, top: float) -> tuple[float, ...]:
    """Return rotary factors that grow from 1 to `top`."""
    return tuple(np.linspace(1.0, top, count).tolist())


PHI = {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": 256, "rope.scaling.attn_factor": 1.19}

TINY: Mapping[str, Tiny] = {
    "llama": Tiny("llama", keys={"rope.freq_base": 10_000.0}),
    "llama-untied": Tiny("llama", heads=5, kv_heads=1, head_dim=24, tied=False),  # 5 * 24 is not 96
    "mistral": Tiny("llama", heads=4, kv_heads=2, head_dim=32, tied=False, keys={"rope.freq_base": 1_000_000.0}),
    "llama-3-factors": Tiny(
        "llama", heads=6, kv_heads=3, factors={"rope_freqs": factors(8, 8.0)}, keys={"rope.freq_base": 500_000.0}
    ),
    "llama-linear": Tiny("llama", keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    "phi3": Tiny("phi3", heads=3, kv_heads=3, head_dim=32, tied=False),
    "phi3-partial": Tiny("phi3", heads=3, kv_heads=1, head_dim=32, tied=True, keys={"rope.dimension_count": 24}),
    "phi3-short": Tiny(
        "phi3", heads=3, kv_heads=1, head_dim=32, tied=False,
        keys={**PHI, "rope.scaling.original_context_length": CONTEXT},
        factors={"rope_factors_short": factors(16, 3.0), "rope_factors_long": factors(16, 40.0)},
    ),
    "phi3-long": Tiny(
        "phi3", heads=3, kv_heads=1, head_dim=32, keys={**PHI, "rope.dimension_count": 24},
        factors={"rope_factors_short": factors(12, 3.0), "rope_factors_long": factors(12, 40.0)},
    ),
    "qwen2": Tiny("qwen2", biases=True),
    "qwen2-untied": Tiny("qwen2", heads=3, kv_heads=1, head_dim=32, tied=False, biases=True),
    "qwen3": Tiny("qwen3", heads=5, kv_heads=1, head_dim=24),
    "qwen3-untied": Tiny("qwen3", heads=4, kv_heads=2, head_dim=16, tied=False),
    "gemma2": Tiny("gemma2", layers=4, heads=4, kv_heads=2, head_dim=32, keys={"attention.sliding_window": WINDOW}),
    "gemma2-equal-heads": Tiny("gemma2", layers=3, heads=3, kv_heads=3, keys={"attention.sliding_window": WINDOW}),
    "gemma3": Tiny(
        "gemma3", layers=8, heads=4, kv_heads=1, head_dim=32,
        keys={"attention.sliding_window": WINDOW, "rope.freq_base": 1_000_000.0},
    ),
    "gemma3-linear": Tiny(
        "gemma3", layers=7, heads=4, kv_heads=2, head_dim=32,
        keys={
            "attention.sliding_window": WINDOW, "rope.freq_base": 1_000_000.0,
            "rope.scaling.type": "linear", "rope.scaling.factor": 8.0,
        },
    ),
}  # fmt: skip


def write(path: Path, tiny: Tiny, *, seed: int = 0, replaced: Mapping[str, Any] | None = None) -> Path:
    """Write the model; `replaced` gives some tensors as an array, as (blocks, type), or as None to leave it out."""
    writer = gguf.GGUFWriter(path, tiny.architecture)
    _write_keys(writer, tiny)
    tensors: dict[str, Any] = dict(_tensors(tiny, np.random.default_rng(seed)))
    tensors.update(replaced or {})
    for name, array in tensors.items():
        if isinstance(array, tuple):
            writer.add_tensor(name, array[0], raw_dtype=array[1])
        elif array is not None:
            writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks(tiny: Tiny, kinds: Sequence[str], *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quantize the matrices of a model to these types in turn, for `write`: the blocks, and the numbers they stand for.

    The blocks are random bits with scales that keep the weights as large as they were; `gguf` cannot make them of all
    types. `gguf.dequantize` is what they stand for.
    """
    rng = np.random.default_rng(seed)
    packed, plain = {}, {}
    matrices = [(name, array) for name, array in _tensors(tiny, rng).items() if array.ndim == 2]
    for (name, array), kind in zip(matrices, itertools.cycle(kinds)):
        type_ = gguf.GGMLQuantizationType[kind]
        if kind in _SCALES_AT:
            block = BLOCK_OF[kind]
            raw = rng.integers(0, 256, (array.size // block.elements, block.bytes), dtype=np.uint8)
            for at, size in _SCALES_AT[kind].items():
                scales = np.full(len(raw), size / array.shape[1] ** 0.5, "<f2")
                raw[:, at : at + 2] = scales[:, None].view(np.uint8)
            raw = raw.reshape(array.shape[0], -1)
        else:
            raw = gguf.quantize(array.astype(np.float32), type_)
        packed[name] = (raw, type_)
        plain[name] = gguf.dequantize(raw, type_)
    return packed, plain


_SCALES_AT = {  # type -> where in a block its float16 scales are, and of what size for weights around 1
    "Q4_0": {0: 0.2},
    "Q4_1": {0: 0.2, 2: -1.5},
    "Q5_0": {0: 0.1},
    "Q5_1": {0: 0.1, 2: -1.5},
    "Q8_0": {0: 0.012},
    "Q2_K": {80: 0.07, 82: 0.1},
    "Q3_K": {108: 0.02},
    "Q4_K": {0: 0.005, 2: 0.04},
    "Q5_K": {0: 0.0025, 2: 0.04},
    "Q6_K": {208: 0.0005},
}


def _write_keys(writer: gguf.GGUFWriter, tiny: Tiny) -> None:
    keys: dict[str, Any] = {
        "vocab_size": VOCAB,
        "context_length": CONTEXT,
        "embedding_length": tiny.hidden,
        "block_count": tiny.layers,
        "feed_forward_length": tiny.feed_forward,
        "attention.head_count": tiny.heads,
        "attention.head_count_kv": tiny.kv_heads,
        "attention.key_length": tiny.head_dim,
        "attention.value_length": tiny.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": tiny.head_dim,
        **tiny.keys,
    }
    for key, value in keys.items():
        kinds = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        kinds[type(value)](f"{tiny.architecture}.{key}", value)
    writer.add_string("tokenizer.ggml.model", "no_vocab")


def _tensors(tiny: Tiny, rng: np.random.Generator) -> dict[str, Any]:
    q, kv = tiny.heads * tiny.head_dim, tiny.kv_heads * tiny.head_dim
    named = {"token_embd.weight": _matrix(rng, VOCAB, tiny.hidden), "output_norm.weight": _norm(rng, tiny.hidden)}
    if not tiny.tied:
        named["output.weight"] = _matrix(rng, VOCAB, tiny.hidden)
    for name, numbers in tiny.factors.items():
        named[f"{name}.weight"] = np.array(numbers)
    for layer in range(tiny.layers):
        block = {"attn_norm": _norm(rng, tiny.hidden), "ffn_norm": _norm(rng, tiny.hidden)}
        block["attn_output"] = _matrix(rng, tiny.hidden, q)
        block["ffn_down"] = _matrix(rng, tiny.hidden, tiny.feed_forward)
        if tiny.architecture == "phi3":
            block["attn_qkv"] = _matrix(rng, q + 2 * kv, tiny.hidden)
            block["ffn_up"] = _matrix(rng, 2 * tiny.feed_forward, tiny.hidden)
        else:
            block |= {name: _matrix(rng, tiny.feed_forward, tiny.hidden) for name in ("ffn_up", "ffn_gate")}
            sizes = {"attn_q": q, "attn_k": kv, "attn_v": kv}
            block |= {name: _matrix(rng, rows, tiny.hidden) for name, rows in sizes.items()}
            if tiny.biases:
                named |= {f"blk.{layer}.{name}.bias": rng.normal(size=rows) for name, rows in sizes.items()}
        if tiny.architecture in ("qwen3", "gemma3"):
            block |= {name: _norm(rng, tiny.head_dim) for name in ("attn_q_norm", "attn_k_norm")}
        if tiny.architecture in ("gemma2", "gemma3"):
            block |= {name: _norm(rng, tiny.hidden) for name in ("post_attention_norm", "post_ffw_norm")}
        named |= {f"blk.{layer}.{name}.weight": array for name, array in block.items()}
    return named


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> Any:
    return rng.normal(scale=2.0 / columns**0.5, size=(rows, columns))  # large enough for attention to choose


def _norm(rng: np.random.Generator, size: int) -> Any:
    return rng.uniform(0.5, 1.5, size=size)
