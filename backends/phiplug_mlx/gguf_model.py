"""Builds from a GGUF file a module of mlx-lm that computes the same model.

The header's numbers become mlx-lm's config (`hyperparameters`), its tensors the module's parameters, by the names in
`architectures`. It knows nothing of blocks (`tensors`) and nothing of sequences (`model`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from phiplug.checks import context_length
from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, TensorInfo, read_header
from phiplug.gguf.rotary import ROTARY_TENSORS, rotation_of
from phiplug_mlx import hyperparameters
from phiplug_mlx.architectures import ARCHITECTURES, OUTSIDE, Architecture
from phiplug_mlx.classes import mlx_lm_module
from phiplug_mlx.devices import Precision, check_memory, dtype_name, precision_for
from phiplug_mlx.gemma import give_windows
from phiplug_mlx.rotary import rotary
from phiplug_mlx.tensors import GROUP, Packed, convert, is_packed
from phiplug_mlx.weights import Census, Loaded, check_names, check_shape, fill, pack_modules, shapes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.spi import LoadOptions

_PLAIN_DTYPES = {"F32": "float32", "BF16": "bfloat16"}  # everything else is float16 where it is not packed


def load_gguf(path: Path, device: str, options: LoadOptions) -> Loaded:
    """Read a GGUF and build its model on MLX's current device.

    Args:
        path: the file, or the first of a split.
        device: as `devices` names it; decides the precision.
        options: `ctx_size` decides between Phi-3's two sets of rotary factors, `exact_scales` the precision.

    Raises:
        ModelNotFound, ModelCorrupt, ModelUnsupported: as `phiplug.gguf.read_header` raises them, and where tensors are
            missing, left over, of the wrong shape, or of a type or architecture that this backend does not know.
        UnsupportedParameter: more context than the model was trained for.
        OutOfMemory: the weights would not fit this machine.
    """
    header = read_header(path)
    architecture = ARCHITECTURES.get(header.architecture)
    if architecture is None:
        raise ModelUnsupported(
            f"{path.name} is a {header.architecture!r} model; the MLX backend reads {', '.join(ARCHITECTURES)}",
            hint="use -b llama-cpp",
        )
    config = hyperparameters.config_of(header, architecture)
    context = context_length(options.ctx_size, config["max_position_embeddings"])
    module = _build(header, architecture, config)
    _give_rotations(module, header, config, context)
    places = _places(header, architecture, shapes_of(module))
    precision = _precision(header, device, exact_scales=options.exact_scales)
    check_memory(path.name, sum(_held_bytes(info, precision) for _, info in places.values()))
    importer = _Importer(architecture, config, precision)
    census = importer.put(places, module)
    metadata = {"weights": str(census), "compute": dtype_name(precision.compute)}
    return Loaded(module, config["vocab_size"], context, census.most, metadata)


def _build(header: Header, architecture: Architecture, config: Mapping[str, Any]) -> Any:  # Any: JSON; an nn.Module
    """Make the module; its weights are random, and never computed before they are replaced."""
    classes = mlx_lm_module(architecture.module)
    own_size = "head_dim" in classes.ModelArgs.__dataclass_fields__
    if not own_size and config["num_attention_heads"] * config["head_dim"] != config["hidden_size"]:
        raise ModelUnsupported(f"{header.path.name}: its heads are not of the size that mlx-lm's class gives them")
    try:
        module = classes.Model(classes.ModelArgs.from_dict(config))
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelCorrupt(f"{header.path.name}: mlx-lm cannot build a model from its numbers: {error}") from None
    if config["tie_word_embeddings"] and "lm_head" in module:
        module.sanitize({})  # how mlx-lm's Gemma 3 learns that there is no output matrix
    windows = hyperparameters.windows_of(header, architecture, config["num_hidden_layers"])
    if windows:
        give_windows(module, windows, needs_array=architecture.masks_are_arrays)
    return module


def _give_rotations(module: Any, header: Header, config: Mapping[str, Any], context: int) -> None:  # Any: as above
    """Replace the rotation of every layer; those with a window have a base of their own in Gemma 3."""
    everywhere = rotation_of(header, config["head_dim"], context)
    local = replace(everywhere, base=config.get("rope_local_base_freq", everywhere.base))
    if local.base != everywhere.base:
        local = replace(local, scale=1.0, factors=())
    windows = hyperparameters.windows_of(header, ARCHITECTURES[header.architecture], len(module.layers))
    for layer, window in zip(module.layers, windows or [None] * len(module.layers), strict=True):
        layer.self_attn.rope = rotary(local if window else everywhere)


def _places(
    header: Header, architecture: Architecture, wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, TensorInfo]]:
    """Find each tensor its place in the module: mlx-lm's name of a parameter -> (stem of ggml's name, tensor)."""
    places = {}
    for name, info in header.tensors.items():
        if name in ROTARY_TENSORS:
            continue
        stem, _, part = name.rpartition(".")
        block, _, inner = stem.rpartition(".")
        place = OUTSIDE.get(stem)
        if block.startswith("blk.") and inner in architecture.layer:
            place = f"model.layers.{block.removeprefix('blk.')}.{architecture.layer[inner]}"
        places[f"{place or '?' + stem}.{part}"] = (inner, info)
    file = header.path.name
    names = {place: _ggml_name(place, architecture) for place in wanted}
    check_names(file, names, {place: info.name for place, (_, info) in places.items()})
    for place, (_, info) in places.items():
        check_shape(file, info.name, info.shape, wanted[place])
    return places


def _ggml_name(place: str, architecture: Architecture) -> str:
    """Turn mlx-lm's name of a parameter back into what a GGUF calls it."""
    layer, _, part = place.rpartition(".")
    for stem, outside in OUTSIDE.items():
        if layer == outside:
            return f"{stem}.{part}"
    number, _, inner = layer.removeprefix("model.layers.").partition(".")
    stems = {inner: stem for stem, inner in architecture.layer.items()}
    return f"blk.{number}.{stems.get(inner, inner)}.{part}"


def _precision(header: Header, device: str, *, exact_scales: bool) -> Precision:
    matrices = [info.type for info in header.tensors.values() if len(info.shape) == 2]
    return precision_for(
        device,
        {_PLAIN_DTYPES.get(kind, "float16") for kind in matrices},
        packed=any(is_packed(kind) for kind in matrices),
        exact_scales=exact_scales,
    )


def _held_bytes(info: TensorInfo, precision: Precision) -> float:
    """How many bytes a tensor takes once it is converted."""
    if is_packed(info.type):
        return info.nbytes + info.elements / GROUP * 2 * int(precision.scales.size)
    return info.elements * int(precision.compute.size)


@dataclass(frozen=True, slots=True)
class _Importer:
    """Turns tensors into parameters."""

    architecture: Architecture
    config: Mapping[str, Any]  # Any: as above
    precision: Precision

    def put(self, places: Mapping[str, tuple[str, TensorInfo]], module: Any) -> Census:  # Any: an nn.Module
        """Convert every tensor and put it where it belongs."""
        census, arrays, packing = Census(), {}, {}
        for place, (stem, info) in places.items():
            tensor = self._reordered(stem, convert(info))
            if isinstance(tensor, Packed):
                layer = place.removesuffix(".weight")
                packing[layer] = {"group_size": GROUP, "bits": tensor.bits, "mode": "affine"}
                scales = self.precision.scales
                arrays[place] = mx.array(tensor.weight)
                arrays[f"{layer}.scales"] = mx.array(tensor.scales).astype(scales)
                arrays[f"{layer}.biases"] = mx.array(tensor.biases).astype(scales)
                became = f"affine {tensor.bits}-bit g{GROUP}, {dtype_name(scales)} scales"
            else:
                offset = self.architecture.norm_offset if stem.endswith("norm") else 0.0
                arrays[place] = mx.array(tensor - np.float32(offset) if offset else tensor)
                arrays[place] = arrays[place].astype(self.precision.compute)
                became = dtype_name(self.precision.compute)
            mx.eval(arrays[place])  # one at a time, so that no more than one float32 copy is held
            census.count(info.type, became, info.elements)
        pack_modules(module, packing)
        fill(module, arrays)
        return census

    def _reordered(self, stem: str, tensor: Packed | NDArray[Any]) -> Packed | NDArray[Any]:  # Any: floats
        """Bring the rows of a permuted tensor from the order of interleaved rotation back to that of halves."""
        if stem not in self.architecture.permuted:
            return tensor
        rows, half = len(tensor.weight if isinstance(tensor, Packed) else tensor), self.config["head_dim"] // 2
        order = np.arange(rows).reshape(-1, half, 2).swapaxes(1, 2).ravel()
        return tensor.reorder_rows(order) if isinstance(tensor, Packed) else tensor[order]
