"""Reads a folder of Hugging Face: config.json becomes a `ModelInfo`, the safetensors the model's weights."""

from __future__ import annotations

from typing import Any

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.folder import StoredTensor, read_config, read_tensors
from phiplug.plugins.templates.model import ExampleModel
from phiplug.plugins.templates.options import context_length, refuse_what_is_not_honoured
from phiplug.spi import LoadOptions, ModelFiles, ModelInfo

MODEL_TYPES = ("llama",)  # the values of model_type that `ExampleModel.compute` knows
VERSION = "0.1.0"


def load(files: ModelFiles, options: LoadOptions) -> ExampleModel:
    """Load a folder with config.json beside safetensors.

    Raises:
        ModelNotFound, ModelCorrupt, ModelUnsupported: a file is missing, damaged, or of a kind that is not read here.
        UnsupportedParameter: an option asks for what is not honoured.
    """
    refuse_what_is_not_honoured(options)
    config = read_config(files.path / "config.json")
    if config.get("model_type") not in MODEL_TYPES:
        raise ModelUnsupported(f"{files.path.name} is of the type {config.get('model_type')!r}", hint="use -b mlx")
    info = ModelInfo(
        vocab_size=_count(config, "vocab_size"),
        context_length=context_length(options, _count(config, "max_position_embeddings")),
        slots=options.slots,
        device="cpu",
        quantization=str(config.get("dtype") or config.get("torch_dtype") or "unknown"),
        version=VERSION,
    )
    # Types and shapes by name, checked; the engine's own reader maps the weights. Rotary settings in `config` are flat.
    tensors: dict[str, StoredTensor] = {}
    for part in sorted(files.path.glob("*.safetensors")):
        tensors |= read_tensors(part)
    return ExampleModel(tensors, info)


def _count(config: dict[str, Any], key: str) -> int:  # Any: what JSON holds
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelCorrupt(f"config.json: {key} is {value!r}")
    return value
