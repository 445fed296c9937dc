"""Writes a GGUF with the shape of Phi-3-mini and random weights: `python -m bench.synthetic_phi3 phi3.gguf`.

For machines where the real weights cannot be fetched: the same tensors in the types of a Q4_K_M file, 2.4 GB, so that
an engine reads and multiplies as much for a token as it would of the real one. What it says is noise. The file is made
on demand and never committed. Shapes: microsoft/Phi-3-mini-4k-instruct, config.json; types: llama.cpp's Q4_K_M.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, TokenType
from rich.progress import track

LAYERS, WIDTH, HEADS, INNER, VOCABULARY, CONTEXT = 32, 3072, 32, 8192, 32064, 4096
CONTROLS = 64  # after the pieces; llama.cpp wants a Phi-3 to have the first of them
FILE_TYPE = 15  # Q4_K_M
BLOCK = 256  # weights in a block of either type
SPREAD = 0.02  # the standard deviation of a weight, as models are initialized


class Tensor(NamedTuple):
    name: str
    rows: int
    columns: int
    type: Type


def tensors(layers: int) -> Iterator[Tensor]:
    """Name every tensor; half of the layers have ffn_down and the values in more bits, as in Q4_K_M."""
    yield Tensor("token_embd.weight", VOCABULARY, WIDTH, Type.Q4_K)
    for layer in range(layers):
        name = f"blk.{layer}"
        finer = Type.Q6_K if layer < layers // 8 or layer >= 7 * layers // 8 or layer % 3 == 2 else Type.Q4_K
        yield Tensor(f"{name}.attn_norm.weight", 1, WIDTH, Type.F32)
        yield Tensor(f"{name}.attn_qkv.weight", 3 * WIDTH, WIDTH, Type.Q5_K)
        yield Tensor(f"{name}.attn_output.weight", WIDTH, WIDTH, Type.Q4_K)
        yield Tensor(f"{name}.ffn_norm.weight", 1, WIDTH, Type.F32)
        yield Tensor(f"{name}.ffn_up.weight", 2 * INNER, WIDTH, Type.Q4_K)
        yield Tensor(f"{name}.ffn_down.weight", WIDTH, INNER, finer)
    yield Tensor("output_norm.weight", 1, WIDTH, Type.F32)
    yield Tensor("output.weight", VOCABULARY, WIDTH, Type.Q6_K)


def weights(tensor: Tensor, source: np.random.Generator) -> np.ndarray:
    """Return the tensor's bytes, (rows, bytes of a row): random blocks whose scales make weights of about `SPREAD`."""
    if tensor.type is Type.F32:
        return np.ones(tensor.columns, np.float32)
    make = {Type.Q4_K: q4_k, Type.Q5_K: q5_k, Type.Q6_K: q6_k}[tensor.type]
    return make(tensor.rows * tensor.columns // BLOCK, source).reshape(tensor.rows, -1)


def q4_k(blocks: int, source: np.random.Generator) -> np.ndarray:
    """d, dmin, 12 bytes of six-bit scales and minima, 128 bytes of four-bit numbers: d * scale * q - dmin * minimum."""
    made = source.integers(0, 256, (blocks, 144), np.uint8)
    d = SPREAD / 258  # with random scales, minima and numbers the deviation of a weight is 258 d
    made[:, :4] = np.array([d, 7.5 * d], np.float16).view(np.uint8)
    return made


def q5_k(blocks: int, source: np.random.Generator) -> np.ndarray:
    """As Q4_K, and 32 bytes with a fifth bit of each number."""
    made = source.integers(0, 256, (blocks, 176), np.uint8)
    d = SPREAD / 527
    made[:, :4] = np.array([d, 15.5 * d], np.float16).view(np.uint8)
    return made


def q6_k(blocks: int, source: np.random.Generator) -> np.ndarray:
    """192 bytes of six-bit numbers, 16 of signed scales, d: d * scale * (q - 32)."""
    made = source.integers(0, 256, (blocks, 210), np.uint8)
    d = SPREAD / (74 * 18.5)  # the deviations of a signed byte and of -32 to 31
    made[:, 208:] = np.array([d], np.float16).view(np.uint8)
    return made


def write(path: Path, layers: int = LAYERS, seed: int = 0) -> None:
    """Write the file, a tensor at a time."""
    source = np.random.default_rng(seed)
    writer = GGUFWriter(path, "phi3")
    _describe(writer, layers)
    _add_vocabulary(writer)
    listed = list(tensors(layers))
    for tensor in listed:
        made = _bytes_of(tensor)
        shape = (tensor.columns,) if tensor.type is Type.F32 else (tensor.rows, made // tensor.rows)
        dtype, raw = (np.float32, None) if tensor.type is Type.F32 else (np.uint8, tensor.type)
        writer.add_tensor_info(tensor.name, shape, np.dtype(dtype), made, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in track(listed, description=path.name):
        writer.write_tensor_data(weights(tensor, source))
    writer.close()


def _bytes_of(tensor: Tensor) -> int:
    elements = tensor.rows * tensor.columns
    return {Type.F32: 1024, Type.Q4_K: 144, Type.Q5_K: 176, Type.Q6_K: 210}[tensor.type] * elements // BLOCK


def _describe(writer: GGUFWriter, layers: int) -> None:
    writer.add_name("synthetic Phi-3-mini")
    writer.add_file_type(FILE_TYPE)
    writer.add_context_length(CONTEXT)
    writer.add_rope_scaling_orig_ctx_len(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(layers)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_sliding_window(2047)


def _add_vocabulary(writer: GGUFWriter) -> None:
    """As Phi-3 has it: three control tokens, the bytes, pieces, more control tokens; here the pieces are numbered."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    controls = ["<|endoftext|>", *(f"<|placeholder{index}|>" for index in range(1, CONTROLS))]
    pieces = [f"▁{index}" for index in range(VOCABULARY - len(tokens) - CONTROLS)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens + pieces + controls)
    writer.add_token_scores([0.0] * len(tokens) + [-float(index) for index in range(len(pieces) + CONTROLS)])
    writer.add_token_types(kinds + [TokenType.NORMAL] * len(pieces) + [TokenType.CONTROL] * CONTROLS)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer make a smaller file")
    given = parser.parse_args()
    write(given.path, given.layers)


if __name__ == "__main__":
    main()
