"""Refuses a config.json that says something of the arithmetic that mlx-lm's class does not read.

mlx-lm's classes take the keys that they know and drop the others in silence, so a model would be computed with another
rotation or without a cap on its logits. This module knows which keys matter and when they change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from phiplug.errors import ModelUnsupported

Config = Mapping[str, Any]  # Any: what JSON holds

ALIASES = {
    "rope_theta": ("rotary_emb_base", "rope_embedding_base"),
    "partial_rotary_factor": ("rotary_pct", "global_partial_rotary_factor"),
    "rope_local_base_freq": ("rope_local_theta", "swa_rope_theta", "local_rope_theta"),
}
"""Our name of a setting, and what single classes of mlx-lm call it."""

_NEUTRAL: Mapping[str, float | None] = {  # a key of the arithmetic, and the number with which it changes nothing
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 1.0,
    "rope_scaling": None,
    "rope_local_base_freq": None,
    "rope_local_scaling": None,
    "rope_local_partial_rotary_factor": None,
    "rope_other_layers": None,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "clip_qkv": None,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": None,
    "logits_scaling": 1.0,
    "logit_scale": 1.0,
    "scale_emb": 1.0,
}

_SCALING = frozenset({
    "type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor",
    "high_freq_factor", "short_factor", "long_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
    "mrope_section", "mrope_interleaved", "partial_rotary_factor", "finetuned", "truncate",
})  # fmt: skip
"""Keys of rope_scaling that are read, or change nothing. mlx-lm passes over `truncate` (gpt-oss), and so do we: it
moves the borders of YaRN's ramp to whole numbers, and to refuse it would refuse every published gpt-oss."""

_SCALING_OF_PHI3 = _SCALING | {"attention_factor"}
_IGNORE_SCALING = frozenset(
    {"gemma3n", "glm4_moe", "mixtral", "qwen3_moe"}
)  # their classes declare it and never read it
_ACTIVATIONS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3"), "silu")  # what these classes compute


def with_aliases(config: dict[str, Any]) -> dict[str, Any]:  # Any: as above
    """Give each setting of rotary positions also under the names that single classes of mlx-lm have for it."""
    more = {name: config[ours] for ours, names in ALIASES.items() if config.get(ours) is not None for name in names}
    inner = config.get("text_config")
    return more | config | ({"text_config": with_aliases(inner)} if isinstance(inner, dict) else {})


def check_all_read(file: str, config: Config, classes: ModuleType) -> None:
    """Raise ModelUnsupported by the name of a key that changes what is computed and that the class does not read."""
    fields = _fields(classes)
    for level in (config, config.get("text_config")):
        if isinstance(level, dict):
            _check_level(file, level, fields, str(config["model_type"]))


def _check_level(file: str, config: Config, fields: frozenset[str], family: str) -> None:
    if "rope_parameters" in fields and config.get("rope_parameters"):
        return  # the class reads the newer form itself
    for key, neutral in _NEUTRAL.items():
        value = config.get(key)
        same = value == config.get("rope_theta") if key == "rope_local_base_freq" else value == neutral
        read = any(name in fields for name in (key, *ALIASES.get(key, ())))
        if key == "rope_scaling" and family in _IGNORE_SCALING:
            read = False
        if value and not same and not read:
            raise _unread(file, key, value)
    scaling = config.get("rope_scaling") or {}
    known = _SCALING_OF_PHI3 if family == "phi3" else _SCALING
    for key, value in scaling.items():
        if key not in known and value is not None:
            raise _unread(file, f"rope_scaling.{key}", value)
    _check_family(file, config, family)


def _check_family(file: str, config: Config, family: str) -> None:
    """Check what single classes take for granted: the activation, and Phi-3's three ways to scale."""
    activation = config.get("hidden_act")
    if activation not in (None, "swish", _ACTIVATIONS.get(family, activation)):
        raise _unread(file, "hidden_act", activation)
    kind = (config.get("rope_scaling") or {}).get("type")
    if family == "phi3" and kind not in (None, "longrope", "su", "linear"):
        raise _unread(file, "rope_scaling.type", kind)


def _fields(classes: ModuleType) -> frozenset[str]:
    """Collect the config keys that the classes of a module read, and those of the modules that it builds on."""
    modules = [classes, *(value for value in vars(classes).values() if isinstance(value, ModuleType))]
    return frozenset(
        name
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        for name in getattr(value, "__dataclass_fields__", ())
    )


def _unread(file: str, key: str, value: Any) -> ModelUnsupported:  # Any: what JSON holds
    return ModelUnsupported(
        f"{file} sets {key} to {str(value)[:80]}, which mlx-lm's class for this model does not compute",
        hint="use a GGUF of the model with -b llama-cpp",
    )
