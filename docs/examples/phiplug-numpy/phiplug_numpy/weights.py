"""Reads a `Transformer` from a GGUF: where the two families keep their parts.

Phi-3 stores query, key and value as one matrix, and gate and up as another. Files of the Llama family have the rows of
query and key in another order, in which llama.cpp rotates neighbours against each other; here they get back the order
of the papers and of Hugging Face. The file is not trusted: numbers and shapes are checked before they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header
from phiplug.gguf.hyperparameters import OTHERS, real, whole
from phiplug.gguf.rotary import ROTARY_TENSORS, rotated_numbers, rotation_of
from phiplug_numpy.blocks import dequantize
from phiplug_numpy.transformer import Layer, Rotation, Transformer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

FAMILIES = ("llama", "phi3")

UNUSED = (
    "expert_count", "attention.scale", "attention.clamp_kqv", "attn_logit_softcapping", "final_logit_softcapping",
    "embedding_scale", "residual_scale", "logit_scale",
)  # fmt: skip
"""Numbers that would change the logits, and that neither family has."""


def read_transformer(header: Header, context: int) -> Transformer:
    """Read all weights.

    Args:
        header: of the GGUF.
        context: how many tokens a slot holds; decides between Phi-3's two sets of rotary factors.

    Raises:
        ModelUnsupported: of that architecture, with a tensor of that type, or with more than `Transformer` computes.
        ModelCorrupt: a tensor is missing or of the wrong shape, or a number is out of range.
    """
    if header.architecture not in FAMILIES:
        known = " and ".join(FAMILIES)
        raise ModelUnsupported(
            f"{header.path.name} is a {header.architecture!r} model; the numpy backend reads {known}", hint=OTHERS
        )
    for key in UNUSED:
        if header.hyperparameter(key):
            raise ModelUnsupported(
                f"{header.path.name} has {header.architecture}.{key}, which the numpy backend does not use", hint=OTHERS
            )
    sizes, tensors = _sizes(header), _Tensors(header)
    rotation = rotation_of(header, sizes.head, context)
    embedding = tensors.take("token_embd", vocabulary(header), sizes.embedding)
    model = Transformer(
        embedding=embedding,
        layers=[_layer(tensors, sizes, number) for number in range(whole(header, "block_count"))],
        norm=tensors.take("output_norm", sizes.embedding),
        output=tensors.take("output", *embedding.shape) if "output" in tensors else embedding,
        heads=sizes.heads,
        groups=sizes.groups,
        epsilon=real(header, "attention.layer_norm_rms_epsilon"),
        rotation=Rotation(rotation.frequencies(), rotation.magnitude),
    )
    tensors.expect_none_left()
    return model


def vocabulary(header: Header) -> int:
    """Return V, which the embeddings tell; raises ModelCorrupt where there are none."""
    info = header.tensors.get("token_embd.weight")
    if info is None or len(info.shape) != 2:
        raise ModelCorrupt(f"{header.path.name} lacks token_embd.weight, or it is no matrix", hint="download it again")
    return info.shape[0]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """E, F, H, G and D of `transformer`; how many numbers of a head are rotated, and whether neighbours are pairs."""

    embedding: int
    feed_forward: int
    heads: int
    groups: int
    head: int
    rotated: int
    interleaved: bool


def _sizes(header: Header) -> _Sizes:
    embedding, heads = whole(header, "embedding_length"), whole(header, "attention.head_count")
    groups = whole(header, "attention.head_count_kv", heads)
    head = whole(header, "attention.key_length", max(embedding // heads, 1))
    rotated = rotated_numbers(header, head)
    if heads % groups:
        raise ModelCorrupt(f"{header.path.name} is damaged: {heads} heads of {head} numbers in {groups} groups")
    feed_forward = whole(header, "feed_forward_length")
    return _Sizes(embedding, feed_forward, heads, groups, head, rotated, header.architecture == "llama")


class _Tensors:
    """The tensors of a file, each taken once."""

    def __init__(self, header: Header) -> None:
        self._file = header.path.name
        self._left = {name: info for name, info in header.tensors.items() if name not in ROTARY_TENSORS}

    def __contains__(self, stem: str) -> bool:
        return f"{stem}.weight" in self._left

    def take(self, stem: str, *shape: int) -> Floats:
        """Read the tensor `stem`.weight; raises ModelCorrupt where it is missing or of another shape."""
        info = self._left.pop(f"{stem}.weight", None)
        if info is None:
            raise ModelCorrupt(f"{self._file} lacks {stem}.weight", hint="download it again")
        if info.shape != shape:
            raise ModelCorrupt(f"{self._file} is damaged: {info.name} is {info.shape}, and its numbers ask for {shape}")
        return dequantize(info)

    def expect_none_left(self) -> None:
        """Raise ModelUnsupported where the file has what this model does not compute, such as biases."""
        if self._left:
            name, more = next(iter(self._left)), len(self._left) - 1
            others = f" and {more} more tensors" if more else ""
            raise ModelUnsupported(
                f"{self._file} has {name}{others}, which the numpy backend does not use", hint=OTHERS
            )


def _layer(tensors: _Tensors, sizes: _Sizes, number: int) -> Layer:
    block, width = f"blk.{number}", sizes.embedding
    query, key, value = _query_key_value(tensors, sizes, block)
    gate, up = _gate_up(tensors, sizes, block)
    return Layer(
        attention_norm=tensors.take(f"{block}.attn_norm", width),
        query=_halves(query, sizes) if sizes.interleaved else query,
        key=_halves(key, sizes) if sizes.interleaved else key,
        value=value,
        output=tensors.take(f"{block}.attn_output", width, sizes.heads * sizes.head),
        feed_forward_norm=tensors.take(f"{block}.ffn_norm", width),
        gate=gate,
        up=up,
        down=tensors.take(f"{block}.ffn_down", width, sizes.feed_forward),
    )


def _query_key_value(tensors: _Tensors, sizes: _Sizes, block: str) -> list[Floats]:
    queries, keys, width = sizes.heads * sizes.head, sizes.groups * sizes.head, sizes.embedding
    if f"{block}.attn_qkv" in tensors:
        fused = tensors.take(f"{block}.attn_qkv", queries + 2 * keys, width)
        return np.split(fused, [queries, queries + keys])
    rows = {"q": queries, "k": keys, "v": keys}
    return [tensors.take(f"{block}.attn_{part}", count, width) for part, count in rows.items()]


def _gate_up(tensors: _Tensors, sizes: _Sizes, block: str) -> list[Floats]:
    rows, width = sizes.feed_forward, sizes.embedding
    if f"{block}.ffn_gate" in tensors:
        return [tensors.take(f"{block}.ffn_{part}", rows, width) for part in ("gate", "up")]
    return np.split(tensors.take(f"{block}.ffn_up", 2 * rows, width), 2)


def _halves(matrix: Floats, sizes: _Sizes) -> Floats:
    """Bring the rotated rows of each head from the order 0 h 1 h+1 ... back to 0 1 ... h h+1 ..."""
    heads = matrix.reshape(-1, sizes.head, sizes.embedding)
    turned = heads[:, : sizes.rotated]
    even, odd = turned[:, ::2], turned[:, 1::2]
    return np.concatenate([even, odd, heads[:, sizes.rotated :]], axis=1).reshape(matrix.shape)
