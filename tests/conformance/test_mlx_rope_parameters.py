"""A config.json in the form of transformers 5 is computed as the older form is, and nothing in it is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_folders import edit, load, published, row

from phiplug.errors import ModelCorrupt, ModelUnsupported

pytestmark = pytest.mark.usefixtures("mlx")

TOKENS = [(at * 37) % 67 for at in range(40)]
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
LONG = {"short_factor": [1.0 + 0.1 * at for at in range(8)], "long_factor": [2.0 + at for at in range(8)]}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}

FORMS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # family, keys of version 4, rope_parameters
    "a base": ("llama", {"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}),
    "a base of qwen3": ("qwen3", {"rope_theta": 1e6}, {"rope_type": "default", "rope_theta": 1e6}),
    "linear": (
        "mistral",
        {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
    ),
    "llama3": (
        "llama",
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3},
    ),
    "yarn": (
        "qwen3",
        {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", **YARN}},
        {"rope_type": "yarn", "rope_theta": 1e6, **YARN},
    ),
    "longrope": (
        "phi3",
        {"rope_theta": 1e4, "original_max_position_embeddings": 32, "rope_scaling": {"type": "longrope", **LONG}},
        {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32, **LONG},
    ),
    "a part of each head": (
        "phi3",
        {"rope_theta": 1e4, "rope_scaling": None, "partial_rotary_factor": 0.5},
        {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    ),
    "one for each type of layer": (
        "gemma3_text",
        {"rope_theta": 1e6, "rope_local_base_freq": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    ),
}
ROPE_KEYS = ("rope_theta", "rope_scaling", "partial_rotary_factor", "rope_local_base_freq")


def logits(folder: Path, kind: str, keys: dict[str, Any]) -> np.ndarray:
    published(folder, kind)
    edit(folder, lambda config: [config.pop(key, None) for key in (*ROPE_KEYS, "original_max_position_embeddings")])
    edit(folder, lambda config: config.update(keys))
    return row(load(folder), TOKENS)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_computed_alike(form: str, tmp_path: Path) -> None:
    kind, old, new = FORMS[form]
    in_old_form = logits(tmp_path / "old", kind, old)
    np.testing.assert_array_equal(logits(tmp_path / "new", kind, {"rope_parameters": new}), in_old_form)
    assert not np.allclose(in_old_form, logits(tmp_path / "other", kind, {"rope_theta": 77.0}), atol=1e-3)


UNREAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a scaling of windowed layers": (
        "gemma3_text",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            }
        },
        "rope_local_scaling",
    ),
    "a third type of layer": (
        "gemma3_text",
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "compressed": {"rope_theta": 1e4}}},
        "rope_other_layers",
    ),
    "a base of windowed layers": (
        "llama",
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
        "rope_local_base_freq",
    ),
    "a part of each head": ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "a cap on logits": ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    "a multiplier": ("llama", {"embedding_multiplier": 12.0}, "embedding_multiplier"),
    "an activation": ("qwen3", {"hidden_act": "gelu"}, "hidden_act"),
    "a key of a scaling": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.0, "temperature": 3}},
        r"rope_scaling\.temperature",
    ),
    "a kind of scaling of phi3": ("phi3", {"rope_scaling": {"type": "yarn", **YARN, **LONG}}, r"rope_scaling\.type"),
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_changes_the_arithmetic_and_is_not_read_is_refused_by_name(case: str, tmp_path: Path) -> None:
    kind, keys, name = UNREAD[case]
    with pytest.raises(ModelUnsupported, match=rf"sets {name} to"):
        logits(tmp_path / "model", kind, keys)


def test_what_changes_nothing_is_not_refused(tmp_path: Path) -> None:
    neutral = {"final_logit_softcapping": None, "embedding_multiplier": 1.0, "hidden_act": "silu", "rope_scaling": None}
    plain = logits(tmp_path / "plain", "llama", {"rope_theta": 1e4})
    np.testing.assert_array_equal(logits(tmp_path / "more", "llama", {"rope_theta": 1e4, **neutral}), plain)


def test_a_setting_that_is_said_twice_and_differs_is_damage(tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt, match=r"says rope_theta twice, 10000\.0 and 500000\.0"):
        logits(tmp_path / "model", "llama", {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})
