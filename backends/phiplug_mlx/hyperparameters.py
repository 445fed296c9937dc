"""Turns the metadata of a GGUF into the config that mlx-lm's class takes.

Every number is checked before it is used, for the file is not trusted. It reads no weights and knows nothing of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf.hyperparameters import real, trained_context, whole
from phiplug.gguf.rotary import DEFAULT_BASE
from phiplug_mlx.architectures import CONFIG, Architecture

if TYPE_CHECKING:
    from phiplug.gguf import Header


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
        config[name] = real(header, key) if name == "rms_norm_eps" else whole(header, key)
    for name, (key, default) in architecture.optional.items():
        config[name] = real(header, key, default)
    config["max_position_embeddings"] = trained_context(header)
    config["vocab_size"] = embeddings.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    config["rope_theta"] = real(header, "rope.freq_base", DEFAULT_BASE)
    config |= _heads(header, config)
    return config | _attention(header, architecture, config)


def windows_of(header: Header, architecture: Architecture, layers: int) -> list[int | None]:
    """For each layer how many tokens it sees, or None for all; an empty list where the family has no windows."""
    if not architecture.window_period:
        return []
    window, period = _window(header, architecture)
    return [window if layer % period < period - 1 else None for layer in range(layers)]


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
