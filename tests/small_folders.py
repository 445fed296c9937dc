"""Random models of mlx-lm, written as folders as they would be published, for tests that load them with MLX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from phiplug.spi import LoadOptions, Model, ModelFiles, Step

VOCAB = 67
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False, "rope_theta": 10_000.0},
    "mistral": {"head_dim": 24, "tie_word_embeddings": False},
    "qwen3": {"head_dim": 16, "tie_word_embeddings": True, "rope_theta": 1_000_000.0},
    "gemma2": {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16, "sliding_window_pattern": 2},
    "phi3": {
        "tie_word_embeddings": False,
        "original_max_position_embeddings": 32,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [9.0] * 8},
    },
}


def config_of(kind: str) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        **CONFIGS[kind],
    }


def module_of(config: dict[str, Any]) -> Any:
    from phiplug_mlx.classes import mlx_lm_module

    classes = mlx_lm_module(config["model_type"])
    return classes.Model(classes.ModelArgs.from_dict(config))


def published(folder: Path, kind: str, *, shards: int = 1, bits: int = 0) -> Path:
    """Write a random model of mlx-lm as it would be published."""
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten

    mx.random.seed(7)
    folder.mkdir(exist_ok=True)
    config = config_of(kind)
    module = module_of(config)
    if bits:
        config["quantization"] = {"group_size": 32, "bits": bits, "model.embed_tokens": {"group_size": 64, "bits": 8}}
        nn.quantize(
            module, class_predicate=lambda place, layer: hasattr(layer, "to_quantized") and (
                config["quantization"].get(place) or {"group_size": 32, "bits": bits}
            ),
        )  # fmt: skip
    arrays = tree_flatten(module.parameters())
    index = {}
    for number in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(arrays[number::shards])
        mx.save_safetensors(str(folder / name), part)
        index |= dict.fromkeys(part, name)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load(folder: Path, **options: Any) -> Model:
    import phiplug_mlx

    return phiplug_mlx.load(ModelFiles(folder.name, folder, "folder"), LoadOptions(**options))


def row(model: Model, tokens: list[int], slot: int = 0) -> np.ndarray:
    return model.forward([Step(slot, tokens)]).logits()[0].copy()


def edit(folder: Path, change: Callable[[dict[str, Any]], object], name: str = "config.json") -> None:
    config = json.loads((folder / name).read_text())
    change(config)
    (folder / name).write_text(json.dumps(config))
