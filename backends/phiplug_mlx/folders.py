"""Builds a module of mlx-lm from a folder with config.json and safetensors, as Hugging Face and MLX publish them.

The files are not trusted: numbers are checked before anything is built from them, shards have plain names and whole
contents, and code that a folder brings along (`auto_map`, `model_file`) is never run. It knows no sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

from phiplug.checks import context_length
from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from phiplug.folder import read_config as folders_config
from phiplug.folder import read_json, read_tensors
from phiplug.gguf.rotary import Rotation
from phiplug_mlx.classes import mlx_lm_module
from phiplug_mlx.devices import dtype_name, precision_for
from phiplug_mlx.gemma import give_windows
from phiplug_mlx.rotary import rotary
from phiplug_mlx.slots import make_caches
from phiplug_mlx.unread import check_all_read, with_aliases
from phiplug_mlx.weights import Census, Loaded, check_names, check_shape, fill, pack_modules, shapes_of

if TYPE_CHECKING:
    from phiplug.spi import LoadOptions

_LIMITS = {  # config key -> the largest number that is no mistake
    "num_hidden_layers": 512,
    "hidden_size": 2**20,
    "intermediate_size": 2**22,
    "num_attention_heads": 2**12,
    "num_key_value_heads": 2**12,
    "head_dim": 2**14,
    "vocab_size": 2**24,
    "sliding_window": 2**30,
    "max_position_embeddings": 2**31,
}
_BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

Config = dict[str, Any]  # Any: what JSON holds
Arrays = dict[str, Any]  # Any: mx.array


def load_folder(folder: Path, device: str, options: LoadOptions) -> Loaded:
    """Read a folder and build its model on MLX's current device.

    Args:
        folder: with config.json, and model.safetensors or shards and their index.
        device: as `devices` names it; the CPU computes in float32, a GPU in the folder's own precision.
        options: `ctx_size` decides between Phi-3's two sets of rotary factors.

    Raises:
        ModelNotFound: a file is missing.
        ModelCorrupt: one is damaged, or config.json and the weights do not fit.
        ModelUnsupported: mlx-lm has no class for the model, or the weights are quantized in a way that is not MLX's.
        UnsupportedParameter: more context than the model was trained for.
    """
    config = read_config(folder)
    packing = config.get("quantization")
    module = _build(folder, config)
    arrays: Arrays = {}
    for shard in shards_of(folder):
        read_tensors(shard)
        arrays |= cast(Arrays, mx.load(str(shard)))
    arrays = _sanitized(module, arrays, folder)
    packed = _packing(packing, arrays, folder) if packing is not None else {}
    pack_modules(module, packed)
    wanted = shapes_of(module)
    check_names(folder.name, {name: name for name in wanted}, {name: name for name in arrays})
    for name, array in arrays.items():
        check_shape(folder.name, name, tuple(array.shape), wanted[name])
    context = context_length(options.ctx_size, _trained_context(folder, config, options))
    _adapt(module, config, context)
    arrays = _in_precision(arrays, device)
    fill(module, arrays)
    census = _census(arrays, packed)
    return Loaded(module, _width(module, folder), context, census.most, {"weights": str(census)})


def read_config(folder: Path) -> Config:
    """Read config.json and check the numbers that a model is built from.

    Raises:
        ModelNotFound: there is none.
        ModelCorrupt: it is no JSON object, or its numbers cannot be.
        ModelUnsupported: it asks for code of its own, or for a quantization that is not MLX's.
    """
    config = with_aliases(folders_config(folder / "config.json"))
    if not isinstance(config.get("model_type"), str):
        raise ModelCorrupt(f"{folder / 'config.json'} names no model_type")
    if config.get("model_file") is not None:
        raise ModelUnsupported(f"{folder.name} brings code of its own, model_file, which is never run")
    foreign = config.get("quantization_config")
    if isinstance(foreign, dict) and "quant_method" in foreign and "quantization" not in config:
        raise ModelUnsupported(f"{folder.name} is quantized by {foreign['quant_method']!r}, which is not MLX's own way")
    for numbers in (config, config.get("text_config")):
        if not isinstance(numbers, dict):
            continue
        for key, most in _LIMITS.items():
            value = numbers.get(key)
            if value is not None and (type(value) is not int or not 1 <= value <= most):
                raise ModelCorrupt(f"{folder / 'config.json'}: {key} is {value!r}")
        _check_rotary(folder / "config.json", numbers)
    return config


def _check_rotary(path: Path, config: Config) -> None:
    """Check the numbers that positions are rotated by: zero, NaN or a text would give rows of NaN, or a traceback."""
    scaling = config.get("rope_scaling")
    if not isinstance(scaling, dict | None):
        raise ModelCorrupt(f"{path}: rope_scaling is {scaling!r}")
    numbers = {key: config.get(key) for key in ("rope_theta", "rope_local_base_freq", "partial_rotary_factor")}
    numbers |= {f"rope_scaling.{key}": (scaling or {}).get(key) for key in ("factor", "attention_factor")}
    for key, value in numbers.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value) and value > 0):
            raise ModelCorrupt(f"{path}: {key} is {value!r}")


def shards_of(folder: Path) -> list[Path]:
    """Find the files of weights: those that the index names, or else model*.safetensors.

    Raises:
        ModelNotFound: there are none, or one that the index names is missing.
        ModelCorrupt: the index is damaged, or names a file outside of the folder.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        found = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
        if not found:
            raise ModelNotFound(f"{folder} has no .safetensors file")
        return found
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ModelCorrupt(f"{index} has no weight_map")
    names = set(map(str, named.values()))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelCorrupt(f"{index} names {name!r}, which is no .safetensors file of this folder")
        if not (folder / name).is_file():
            raise ModelNotFound(f"{folder} lacks {name}, which its index names")
    return [folder / name for name in sorted(names)]


def _build(folder: Path, config: Config) -> Any:  # Any: an nn.Module
    classes = mlx_lm_module(config["model_type"])
    check_all_read(f"{folder / 'config.json'}", config, classes)
    try:
        return classes.Model(classes.ModelArgs.from_dict(config))
    except _BUILD_ERRORS as error:
        raise _undescribed(folder, error) from None


def _sanitized(module: Any, arrays: Arrays, folder: Path) -> Arrays:  # Any: an nn.Module
    """Let mlx-lm's class drop and rename what it does for its own family."""
    if not hasattr(module, "sanitize"):
        return arrays
    try:
        return dict(module.sanitize(arrays))
    except _BUILD_ERRORS as error:
        raise ModelCorrupt(f"{folder}: the weights are not those of its model_type: {error!r}") from None


def _packing(quantization: Any, names: Iterable[str], folder: Path) -> dict[str, Config]:  # Any: what JSON holds
    """Return group_size, bits and mode of each packed layer: the folder's, or the layer's own."""
    packed = {}
    for name in names:
        if name.endswith(".scales"):
            layer = name.removesuffix(".scales")
            own = quantization.get(layer) if isinstance(quantization, dict) else None
            how = own if isinstance(own, dict) else quantization
            if not isinstance(how, dict) or not all(type(how.get(key)) is int for key in ("group_size", "bits")):
                raise ModelCorrupt(f"{folder / 'config.json'}: quantization says no group_size and bits for {layer}")
            packed[layer] = {key: how[key] for key in ("group_size", "bits", "mode") if key in how}
    return packed


def _trained_context(folder: Path, config: Config, options: LoadOptions) -> int:
    inner = config.get("text_config")
    for numbers in (config, inner if isinstance(inner, dict) else {}):
        if numbers.get("max_position_embeddings"):
            return int(numbers["max_position_embeddings"])
    if options.ctx_size is None:
        raise ModelUnsupported(f"{folder / 'config.json'} has no max_position_embeddings", hint="give `ctx_size`")
    return options.ctx_size


def _adapt(module: Any, config: Config, context: int) -> None:  # Any: an nn.Module
    """Do what mlx-lm's classes leave out: Gemma 2's windows, and the short one of Phi-3's two sets of factors."""
    if config["model_type"] == "gemma2":
        window = config.get("sliding_window") or 4096
        windows = [window if layer % 2 == 0 else None for layer in range(len(module.layers))]
        give_windows(module, windows, needs_array=True)
    scaling = config.get("rope_scaling")
    if config["model_type"] == "phi3" and isinstance(scaling, dict) and "short_factor" in scaling:
        rotation = _phi3_rotation(config, scaling, context)
        for layer in module.layers:
            layer.self_attn.rope = rotary(rotation)


def _phi3_rotation(config: Config, scaling: Config, context: int) -> Rotation:
    """Choose the factors by llama.cpp's rule, so that the same weights give the same logits from either file."""
    original = config.get("original_max_position_embeddings", 4096)
    stretch = config.get("max_position_embeddings", original) / original
    stated = scaling.get("attention_factor")
    factors = scaling["long_factor" if context > original else "short_factor"]
    head = config["hidden_size"] // config["num_attention_heads"]
    dims = int(head * (config.get("partial_rotary_factor") or 1.0))
    if not isinstance(factors, list) or len(factors) != dims // 2:
        raise ModelCorrupt(f"config.json: rope_scaling has no list of {dims // 2} factors")
    usual = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    magnitude = usual if stated is None else float(stated)
    return Rotation(dims, config.get("rope_theta") or 10_000.0, factors=tuple(factors), magnitude=magnitude)


def _in_precision(arrays: Arrays, device: str) -> Arrays:
    dtypes = {dtype_name(array.dtype) for array in arrays.values()}
    if device != "cpu":
        return arrays
    compute = precision_for(device, dtypes, packed=False, exact_scales=False).compute
    return {
        name: array.astype(compute) if mx.issubdtype(array.dtype, mx.floating) else array
        for name, array in arrays.items()
    }


def _census(arrays: Arrays, packed: Mapping[str, Config]) -> Census:
    census = Census()
    for name, array in arrays.items():
        layer, _, part = name.rpartition(".")
        if layer not in packed:
            census.count("plain", dtype_name(array.dtype), array.size)
        elif part == "weight":
            how = packed[layer]
            mode, scales = how.get("mode", "affine"), dtype_name(arrays[f"{layer}.scales"].dtype)
            became = f"{mode} {how['bits']}-bit g{how['group_size']}, {scales} scales"
            census.count("packed", became, array.size * 32 // how["bits"])
    return census


def _width(module: Any, folder: Path) -> int:  # Any: an nn.Module
    """Return the width of a row of logits: MLX knows the shape of what it has not computed."""
    try:
        return int(module(mx.array([[0]]), cache=make_caches(module)).shape[-1])
    except _BUILD_ERRORS as error:
        raise _undescribed(folder, error) from None


def _undescribed(folder: Path, error: Exception) -> ModelCorrupt:
    reason = f"{type(error).__name__}: {error}"
    return ModelCorrupt(f"{folder / 'config.json'} does not describe a model that mlx-lm computes: {reason}")
