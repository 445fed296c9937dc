"""The metadata of a GGUF -> the config that mlx-lm's class takes, and how its positions are rotated.

Every number is checked before it is used, for the file is not trusted. It reads no weights and knows nothing of arrays;
the factors of a rotation are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug_mlx.architectures import CONFIG, Architecture
from phiplug_mlx.rotary import Rotation

if TYPE_CHECKING:
    from phiplug.gguf import Header

_LARGEST = 2**24  # of a dimension: the largest vocabulary is of some 2**18
_DEFAULT_BASE = 10_000.0  # of the rotary frequencies, where the file says nothing: llama.cpp's


def whole(header: Header, key: str, default: int | None = None) -> int:
    """Return a positive whole number of the architecture; one number for each layer counts when they are all the same.

    Raises:
        ModelCorrupt: it is missing or no such number.
        ModelUnsupported: layers differ in it.
    """
    value = header.hyperparameter(key)
    if isinstance(value, tuple) and value:
        if len(set(value)) > 1:
            raise ModelUnsupported(f"{header.path.name}: its layers differ in {key}, which mlx-lm's class cannot do")
        value = value[0]
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        raise ModelCorrupt(f"{header.path.name} is damaged: {header.architecture}.{key} is {value!r}")
    return value


def real(header: Header, key: str, default: float) -> float:
    """Return a positive number of the architecture; raises ModelCorrupt where it is something else."""
    value = header.hyperparameter(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ModelCorrupt(f"{header.path.name} is damaged: {header.architecture}.{key} is {value!r}")
    return float(value)


def config_of(header: Header, architecture: Architecture) -> dict[str, Any]:  # Any: what a config.json holds
    """Return what mlx-lm's ModelArgs takes, with the size of the vocabulary from the embeddings.

    Raises:
        ModelCorrupt: a number is missing or out of range, or two do not fit.
        ModelUnsupported: the numbers are sound, but mlx-lm's class has no place for them.
    """
    embeddings = header.tensors.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise ModelCorrupt(f"{header.path.name} lacks the matrix token_embd.weight", hint="download it again")
    config: dict[str, Any] = {"model_type": architecture.module}
    for name, key in CONFIG.items():
        config[name] = real(header, key, 0.0) if name == "rms_norm_eps" else whole(header, key)
    for name, (key, default) in architecture.optional.items():
        config[name] = real(header, key, default)
    config["vocab_size"] = embeddings.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    config["rope_theta"] = real(header, "rope.freq_base", _DEFAULT_BASE)
    config |= _heads(header, config)
    return config | _attention(header, architecture, config)


def windows_of(header: Header, architecture: Architecture, layers: int) -> list[int | None]:
    """For each layer how many tokens it sees, or None for all; an empty list where the family has no windows."""
    if not architecture.window_period:
        return []
    window, period = _window(header, architecture)
    return [window if layer % period < period - 1 else None for layer in range(layers)]


def rotation_of(header: Header, config: Mapping[str, Any], factors: Sequence[float]) -> Rotation:  # Any: as above
    """Return the rotation of the layers that see everything, as llama.cpp reads it from the same metadata.

    Raises:
        ModelUnsupported: it is of the kind "yarn".
        ModelCorrupt: its numbers do not fit.
    """
    kind = header.hyperparameter("rope.scaling.type") or "linear"  # llama.cpp's, where the file says nothing
    if kind not in ("none", "linear", "longrope"):
        raise ModelUnsupported(f"{header.path.name} rotates positions by {kind!r}", hint="use -b llama-cpp")
    dims = whole(header, "rope.dimension_count", config["head_dim"])
    if dims % 2 or dims > config["head_dim"] or len(factors) not in (0, dims // 2):
        raise ModelCorrupt(
            f"{header.path.name} is damaged: it rotates {dims} of {config['head_dim']} by {len(factors)} factors"
        )
    legacy = real(header, "rope.scale_linear", 1.0)
    return Rotation(
        dims=dims,
        base=config["rope_theta"],
        scale=1.0 if kind == "none" else 1.0 / real(header, "rope.scaling.factor", legacy),
        factors=tuple(factors),
        magnitude=real(header, "rope.scaling.attn_factor", 1.0),
    )


def wants_long_factors(header: Header, context: int, trained: int) -> bool:
    """Choose between Phi-3's two sets of factors as llama.cpp does: by the room of a sequence, not by its length."""
    return context > whole(header, "rope.scaling.original_context_length", trained)


def _heads(header: Header, config: Mapping[str, Any]) -> dict[str, int]:  # Any: as above
    heads = config["num_attention_heads"]
    groups = whole(header, "attention.head_count_kv", heads)
    size = whole(header, "attention.key_length", max(config["hidden_size"] // heads, 1))
    if heads % groups or size % 2:
        raise ModelCorrupt(f"{header.path.name} is damaged: {heads} heads of {size} numbers in {groups} groups")
    if whole(header, "attention.value_length", size) != size:
        raise ModelUnsupported(f"{header.path.name}: keys and values differ in length, which mlx-lm's class cannot do")
    return {"num_key_value_heads": groups, "head_dim": size}


def _attention(
    header: Header,
    architecture: Architecture,
    config: Mapping[str, Any],  # Any: as above
) -> dict[str, Any]:
    """What only some families have: biases, windows, and Gemma's scale of the attention scores."""
    found: dict[str, Any] = {}
    if architecture.biases:
        found[architecture.biases] = "blk.0.attn_q.bias" in header.tensors
    if architecture.window_period:
        found["sliding_window"], found["sliding_window_pattern"] = _window(header, architecture)
    if architecture.flat_scale_layers:
        flat = config["num_hidden_layers"] == architecture.flat_scale_layers
        found["query_pre_attn_scalar"] = (
            config["hidden_size"] // config["num_attention_heads"] if flat else config["head_dim"]
        )
    return found


def _window(header: Header, architecture: Architecture) -> tuple[int, int]:
    """The size of the window, and every which layer has none."""
    window = whole(header, "attention.sliding_window", architecture.window or None)
    return window, whole(header, "attention.sliding_window_pattern", architecture.window_period)
