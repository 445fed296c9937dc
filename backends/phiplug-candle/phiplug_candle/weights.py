"""Finds the parts of a model in a GGUF, checks their shapes and types, and hands their packed bytes to Candle.

Matrices that are multiplied by the same vector (query, key and value; gate and up) become one where the file packs
them alike, as Phi-3 stores them from the start. Files of the Llama family have the rows of query and key in another
order, in which llama.cpp rotates neighbours against each other; here they return to the order of the papers and of
Hugging Face. Rows move as they are packed, so nothing is rounded. This file knows nothing of slots and passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, TensorInfo, map_tensor
from phiplug.gguf.hyperparameters import OTHERS, real, whole
from phiplug.gguf.rotary import ROTARY_TENSORS, rotated_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug_candle._native import Weights

    Bytes: TypeAlias = NDArray[np.uint8]

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
FAMILIES = ("llama", "phi3", "qwen2", "qwen3")
UNUSED = (
    "expert_count", "attention.scale", "attention.clamp_kqv", "attn_logit_softcapping", "final_logit_softcapping",
    "embedding_scale", "residual_scale", "logit_scale",
)  # fmt: skip
"""Numbers that would change the logits, and that none of the families has."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of a model that its tensors do not tell; `src/transformer.rs` reads the attributes by name.

    Attributes:
        layers: how many there are.
        heads: of the queries.
        groups: of heads that share keys and values.
        head: how many numbers one has.
        feed_forward: the inner width.
        epsilon: what a norm adds to the mean square.
        embedding: the width of a token's vector.
        vocabulary: how many tokens there are.
        rotated: how many numbers of a head are rotated, the first ones.
    """

    layers: int
    heads: int
    groups: int
    head: int
    feed_forward: int
    epsilon: float
    embedding: int
    vocabulary: int
    rotated: int


def sizes_of(header: Header) -> Sizes:
    """Read and check the numbers.

    Raises:
        ModelUnsupported: the model is of another family, or has a number that changes what is computed.
        ModelCorrupt: a number is missing or out of range, or two do not fit.
    """
    _refuse_what_is_not_computed(header)
    embedding, heads = whole(header, "embedding_length"), whole(header, "attention.head_count")
    groups = whole(header, "attention.head_count_kv", heads)
    head = whole(header, "attention.key_length", max(embedding // heads, 1))
    rotated = rotated_numbers(header, head)
    if heads % groups or whole(header, "attention.value_length", head) != head:
        raise ModelCorrupt(f"{header.path.name} is damaged: {heads} heads of {head} numbers in {groups} groups")
    info = header.tensors.get("token_embd.weight")
    if info is None or len(info.shape) != 2:
        raise ModelCorrupt(f"{header.path.name} lacks the matrix token_embd.weight", hint="download it again")
    return Sizes(
        layers=whole(header, "block_count"),
        heads=heads,
        groups=groups,
        head=head,
        feed_forward=whole(header, "feed_forward_length"),
        epsilon=real(header, "attention.layer_norm_rms_epsilon"),
        embedding=embedding,
        vocabulary=info.shape[0],
        rotated=rotated,
    )


def _refuse_what_is_not_computed(header: Header) -> None:
    name = header.path.name
    if header.architecture not in FAMILIES:
        families = ", ".join(FAMILIES)
        raise ModelUnsupported(
            f"{name} is a {header.architecture!r} model; the candle backend reads {families}", hint=OTHERS
        )
    for key in UNUSED:
        if header.hyperparameter(key):
            raise ModelUnsupported(
                f"{name} has {header.architecture}.{key}, which the candle backend does not use", hint=OTHERS
            )


@dataclass(frozen=True, slots=True)
class Part:
    """One or more tensors that Candle gets under one name.

    Attributes:
        name: as `src/transformer.rs` asks for it.
        sources: the tensors, in the order of their rows.
        shapes: what each must be.
        paired: for each tensor, whether the file has the rotated rows of a head in the order 0 h 1 h+1 ...
    """

    name: str
    sources: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    paired: tuple[bool, ...]


def _one(name: str, *shape: int, tensor: str = "") -> Part:
    return Part(name, (f"{tensor or name}.weight",), (shape,), (False,))


def parts(header: Header, sizes: Sizes) -> Iterator[Part]:
    """Name every part of the model."""
    width = sizes.embedding
    yield _one("token_embd", sizes.vocabulary, width)
    yield _one("output_norm", width)
    if "output.weight" in header.tensors:
        yield _one("output", sizes.vocabulary, width)
    for number in range(sizes.layers):
        yield from _layer(header, sizes, f"blk.{number}")


def _layer(header: Header, sizes: Sizes, block: str) -> Iterator[Part]:
    width, inner = sizes.embedding, sizes.feed_forward
    yield _one(f"{block}.attn_norm", width)
    yield from _query_key_value(header, sizes, block)
    yield _one(f"{block}.attn_output", width, sizes.heads * sizes.head)
    yield _one(f"{block}.ffn_norm", width)
    if f"{block}.ffn_gate.weight" in header.tensors:
        names = (f"{block}.ffn_gate.weight", f"{block}.ffn_up.weight")
        yield Part(f"{block}.ffn_gate_up", names, ((inner, width),) * 2, (False,) * 2)
    else:
        yield _one(f"{block}.ffn_gate_up", 2 * inner, width, tensor=f"{block}.ffn_up")
    yield _one(f"{block}.ffn_down", width, inner)


def _query_key_value(header: Header, sizes: Sizes, block: str) -> Iterator[Part]:
    width, queries, keys = sizes.embedding, sizes.heads * sizes.head, sizes.groups * sizes.head
    if f"{block}.attn_qkv.weight" in header.tensors:
        yield _one(f"{block}.attn_qkv", queries + 2 * keys, width)
        return
    paired = header.architecture == "llama"
    names = tuple(f"{block}.attn_{part}" for part in "qkv")
    shapes = tuple((rows, width) for rows in (queries, keys, keys))
    yield Part(f"{block}.attn_qkv", tuple(f"{name}.weight" for name in names), shapes, (paired, paired, False))
    if header.architecture == "qwen2":
        biases = tuple(f"{name}.bias" for name in names)
        yield Part(f"{block}.attn_qkv.bias", biases, ((queries,), (keys,), (keys,)), (False,) * 3)
    if header.architecture == "qwen3":
        for part in "qk":
            yield _one(f"{block}.attn_{part}_norm", sizes.head)


def check(header: Header, sizes: Sizes) -> list[Part]:
    """Return the parts of the model, after a look at every tensor of the file.

    Raises:
        ModelCorrupt: a tensor is missing or of another shape.
        ModelUnsupported: a tensor is of a type that Candle does not have, or the file has more than is computed.
    """
    found = list(parts(header, sizes))
    for part in found:
        for name, shape in zip(part.sources, part.shapes, strict=True):
            _check_tensor(header, name, shape)
    used = {name for part in found for name in part.sources} | ROTARY_TENSORS
    left = [name for name in header.tensors if name not in used]
    if left:
        others = f" and {len(left) - 1} more tensors" if len(left) > 1 else ""
        raise ModelUnsupported(
            f"{header.path.name} has {left[0]}{others}, which the candle backend does not use", hint=OTHERS
        )
    return found


def _check_tensor(header: Header, name: str, shape: tuple[int, ...]) -> None:
    info = header.tensors.get(name)
    if info is None:
        raise ModelCorrupt(f"{header.path.name} lacks {name}", hint="download it again")
    if info.type not in TYPES:
        raise ModelUnsupported(
            f"{header.path.name}: {name} is {info.type}, and Candle reads {', '.join(TYPES)}", hint=OTHERS
        )
    if info.shape != shape:
        raise ModelCorrupt(f"{header.path.name} is damaged: {name} is {info.shape}, and its numbers ask for {shape}")


def put(weights: Weights, header: Header, sizes: Sizes, found: Sequence[Part]) -> None:
    """Hand all parts to Candle.

    Raises:
        ModelNotFound, ModelCorrupt: the file has gone or become shorter since its header was read.
    """
    for part in found:
        infos = [header.tensors[name] for name in part.sources]
        packed = [_rows(info, sizes, paired) for info, paired in zip(infos, part.paired, strict=True)]
        if len(infos) == 1 or len({info.type for info in infos}) > 1:
            for info, bytes_ in zip(infos, packed, strict=True):
                weights.put(part.name, info.type, _shape(info.shape), bytes_)
        else:
            rows = sum(info.shape[0] for info in infos)
            weights.put(part.name, infos[0].type, _shape((rows, *infos[0].shape[1:])), np.concatenate(packed))


def _shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns; a vector is one row."""
    return (1, *shape) if len(shape) == 1 else (shape[0], shape[1])


def _rows(info: TensorInfo, sizes: Sizes, paired: bool) -> Bytes:
    """Return the packed rows; those of each head that are rotated in the order 0 1 ... h h+1 ..."""
    data = np.asarray(map_tensor(info))
    if not paired:
        return data
    heads = data.reshape(-1, sizes.head, data.size // info.shape[0])
    turned = heads[:, : sizes.rotated]
    return np.concatenate([turned[:, ::2], turned[:, 1::2], heads[:, sizes.rotated :]], axis=1).reshape(-1)
