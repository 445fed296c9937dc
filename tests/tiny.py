"""Writes tiny GGUFs with random weights, for tests that need a file and not a model.

`byte_tokens`, `trained_bpe` and `trained_sentencepiece` make vocabularies, `write_vocabulary` writes a file that holds
nothing else, and `write_llama` one with random weights beside it, which engines load. `tiny_architectures` has other
architectures. Written with the `gguf` package, which the core does not use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from phiplug.text.pretokenizers import PRE_TOKENIZERS

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@dataclass(frozen=True)
class Tokens:
    """A vocabulary as a GGUF has it."""

    model: str  # "gpt2" or "llama"
    texts: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)  # what else is under tokenizer.ggml


def byte_tokens(
    pre: str = "gpt-2", controls: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
) -> Tokens:
    """One token for each byte after the control tokens, and the one merge that llama.cpp insists on."""
    keys = {"pre": pre, "bos_token_id": 0, "eos_token_id": len(controls) - 1, "add_bos_token": False}
    types = [CONTROL] * len(controls) + [NORMAL] * (len(ALPHABET) + 1)
    return Tokens("gpt2", [*controls, *ALPHABET, "th"], types, ["t h"], keys=keys)


def trained_bpe(pre: str, corpus: Iterable[str], size: int, specials: Mapping[str, int]) -> Tokens:
    """Train byte-level BPE on words as `pre` cuts them; `specials` has the types of more tokens by their texts."""
    engine = Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PRE_TOKENIZERS[pre].patterns]
    engine.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(False, use_regex=False)])
    engine.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=ALPHABET, show_progress=False)
    )
    texts, merges = _vocabulary(engine)
    texts = [text for text in texts if text not in specials]
    keys = {"pre": pre, "bos_token_id": len(texts), "eos_token_id": len(texts)}
    return Tokens("gpt2", [*texts, *specials], [NORMAL] * len(texts) + [*specials.values()], merges, keys=keys)


def trained_sentencepiece(corpus: Iterable[str], size: int, specials: Mapping[str, int]) -> Tokens:
    """Train SentencePiece's BPE with byte fallback; characters that are rare in the corpus get no token."""
    engine = Tokenizer(models.BPE())
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"\u2581+[^\u2581]*"), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=size, limit_alphabet=160, initial_alphabet=["\u2581"], show_progress=False)
    engine.train_from_iterator(corpus, trainer)
    head = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL} | {f"<0x{byte:02X}>": BYTE for byte in range(256)}
    texts, merges = _vocabulary(engine)
    texts = [text for text in texts if text not in head and text not in specials]
    made = {left_right.replace(" ", ""): rank for rank, left_right in reversed(list(enumerate(merges)))}
    scores = [-float(made.get(text, len(merges) + at)) for at, text in enumerate(texts)]
    types = [*head.values()] + [NORMAL] * len(texts) + [*specials.values()]
    keys = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    all_scores = [0.0] * len(head) + scores + [-1000.0] * len(specials)
    return Tokens("llama", [*head, *texts, *specials], types, scores=all_scores, keys=keys)


def write_vocabulary(path: Path, tokens: Tokens, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write a GGUF that holds a vocabulary and no weights; `metadata` gives other keys by their full names."""
    writer = _writer(path, tokens, metadata or {})
    return _finish(writer, path)


@dataclass(frozen=True)
class Shape:
    """The shape of a tiny llama."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 96
    context: int = 256


def write_llama(path: Path, tokens: Tokens, shape: Shape | None = None, *, seed: int = 0) -> Path:
    """Write a llama with random F32 weights and this vocabulary, which an engine loads."""
    shape = shape or Shape()
    writer = _writer(path, tokens, {})
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens.texts))
    random = np.random.default_rng(seed)
    for name, size in _llama_tensors(shape, len(tokens.texts)).items():
        ones_or_weights = np.ones(size) if len(size) == 1 else random.normal(0, size[-1] ** -0.5, size)
        writer.add_tensor(name, ones_or_weights.astype(np.float32))
    return _finish(writer, path)


def _llama_tensors(shape: Shape, vocab: int) -> dict[str, tuple[int, ...]]:
    hidden, narrow = shape.hidden, shape.hidden // shape.heads * shape.kv_heads
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, hidden), "output_norm.weight": (hidden,)}
    for layer in range(shape.layers):
        block = {
            "attn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_k": (narrow, hidden), "attn_v": (narrow, hidden),
            "attn_output": (hidden, hidden), "ffn_norm": (hidden,), "ffn_gate": (shape.feed_forward, hidden),
            "ffn_up": (shape.feed_forward, hidden), "ffn_down": (hidden, shape.feed_forward),
        }  # fmt: skip
        tensors.update({f"blk.{layer}.{name}.weight": size for name, size in block.items()})
    return tensors


def _vocabulary(engine: Tokenizer) -> tuple[list[str], list[str]]:
    ids = engine.get_vocab()
    merges = json.loads(engine.to_str())["model"]["merges"]
    return sorted(ids, key=ids.__getitem__), [" ".join(pair) for pair in merges]


def _writer(path: Path, tokens: Tokens, metadata: Mapping[str, Any]) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(tokens.model)
    writer.add_token_list(list(tokens.texts))
    writer.add_token_types(list(tokens.types))
    if tokens.merges or tokens.model == "gpt2":
        writer.add_token_merges(list(tokens.merges))
    if tokens.scores:
        writer.add_token_scores(list(tokens.scores))
    keys = {f"tokenizer.ggml.{name}": value for name, value in tokens.keys.items()} | dict(metadata)
    for name, value in keys.items():
        adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        adders[type(value)](name, value)
    return writer


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
