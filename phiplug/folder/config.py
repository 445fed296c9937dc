"""Reads config.json and brings what it says of rotary positions into one form.

transformers up to version 4 wrote `rope_theta`, `rope_scaling` and `partial_rotary_factor` side by side. Version 5
writes all three into `rope_parameters`, or one such object for each type of layer. Here both become the first form,
which is what engines read. This module knows no engine and no weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phiplug.errors import ModelCorrupt
from phiplug.folder.json_file import read_json

Config = dict[str, Any]  # Any: what JSON holds

_LOCAL = "sliding_attention"
_LAYER_TYPES = ("full_attention", _LOCAL)
_TOP = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")  # beside rope_scaling, not within it


def read_config(path: Path) -> Config:
    """Read a config.json; the settings of rotary positions come back flat, in it and in its `text_config`.

    Returns:
        the file's object. Where it has `rope_parameters`, these keys are set from there: `rope_theta`,
        `partial_rotary_factor`, `original_max_position_embeddings`, `rope_scaling` (None, or with its kind under both
        names, `type` and `rope_type`); and of layers with a sliding window `rope_local_base_freq`, and
        `rope_local_scaling` where they are scaled, too. `rope_other_layers` has what is said of layers of another type.

    Raises:
        ModelNotFound: the file is missing or cannot be read.
        ModelCorrupt: it is no JSON object, or says two different things of one setting.
    """
    config = read_json(path)
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config["text_config"] = _flat(inner, path)
    return _flat(config, path)


def _flat(config: Config, path: Path) -> Config:
    rope = config.get("rope_parameters")
    found: Config = {}
    if isinstance(rope, dict) and rope:
        found = _of_layers(rope, path) if any(isinstance(value, dict) for value in rope.values()) else _of_all(rope)
    for name, value in found.items():
        if config.get(name) not in (None, value) and name != "rope_scaling":
            raise ModelCorrupt(f"{path} says {name} twice, {config[name]!r} and {value!r}")
    if isinstance(config.get("rope_scaling"), dict):
        found["rope_scaling"] = _scaling(config["rope_scaling"])  # transformers prefers it, too
    return config | found


def _of_all(rope: Config) -> Config:
    """Read what one object says of all layers."""
    scaling = _scaling({name: value for name, value in rope.items() if name not in _TOP[:2]})
    return {name: rope[name] for name in _TOP if rope.get(name) is not None} | {"rope_scaling": scaling}


def _of_layers(rope: Config, path: Path) -> Config:
    """Read the form with one object for each type of layer."""
    kinds = {name: value for name, value in rope.items() if isinstance(value, dict)}
    if "full_attention" not in kinds:
        raise ModelCorrupt(f"{path}: rope_parameters has {', '.join(kinds)}, but no full_attention")
    found = _of_all(kinds["full_attention"])
    if _LOCAL in kinds:
        local = _of_all(kinds[_LOCAL])
        found["rope_local_base_freq"] = local.get("rope_theta", found.get("rope_theta"))
        found["rope_local_scaling"] = local["rope_scaling"]
        if local.get("partial_rotary_factor", 1.0) != found.get("partial_rotary_factor", 1.0):
            found["rope_local_partial_rotary_factor"] = local.get("partial_rotary_factor", 1.0)
    found["rope_other_layers"] = {name: value for name, value in kinds.items() if name not in _LAYER_TYPES}
    return found


def _scaling(said: Config) -> Config | None:
    """Return how positions are scaled, its kind under both names; None where they are not."""
    kind = said.get("rope_type") or said.get("type") or "default"
    if kind == "default" and "mrope_section" not in said:
        extra = {name: value for name, value in said.items() if name not in ("type", "rope_type", "factor", *_TOP)}
        if not extra:
            return None
    return said | {"type": said.get("type") or kind, "rope_type": kind}
