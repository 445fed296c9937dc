"""Puts arrays into a module of mlx-lm by their names, every one counted and of the right shape.

The name is mlx-lm's: "model.layers.0.mlp.up_proj". It knows nothing of where the arrays come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from phiplug.errors import ModelCorrupt, ModelUnsupported


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a loader hands over.

    Attributes:
        module: mlx-lm's model, its weights evaluated: (ids, cache) -> logits.
        vocab_size: the width of a row.
        context_length: how many tokens a slot may hold.
        quantization: what most of its weights are, as in `ModelInfo`.
        metadata: as in `ModelInfo`.
    """

    module: Any  # Any: an nn.Module
    vocab_size: int
    context_length: int
    quantization: str
    metadata: Mapping[str, str]


@dataclass(slots=True)
class Census:
    """How many tensors became what, and how many numbers those hold; filled while a model is loaded."""

    tensors: Counter[tuple[str, str]] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, became: str, numbers: int) -> None:
        """Note one tensor: "Q4_1", "affine 4-bit g32, float32 scales", 331776."""
        self.tensors[kind, became] += 1
        self.numbers[became] += numbers

    @property
    def most(self) -> str:
        """What most of the numbers became."""
        return self.numbers.most_common(1)[0][0] if self.numbers else "none"

    def __str__(self) -> str:
        return "; ".join(f"{count} {kind} -> {became}" for (kind, became), count in self.tensors.most_common())


def shapes_of(module: Any) -> dict[str, tuple[int, ...]]:  # Any: an nn.Module
    """Return the name and shape of each parameter that the module wants."""
    return {name: tuple(array.shape) for name, array in tree_flatten(module.parameters())}


def check_names(file: str, wanted: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Compare what a module wants with what a file gives.

    Args:
        file: its name, for the errors.
        wanted: mlx-lm's name of a parameter -> what such a file calls it.
        given: likewise.

    Raises:
        ModelCorrupt: something is missing.
        ModelUnsupported: something is left over, so the model computes what the module does not.
    """
    missing = [wanted[name] for name in wanted if name not in given]
    left_over = [given[name] for name in given if name not in wanted]
    if missing:
        raise ModelCorrupt(f"{file} lacks {_some(missing)}", hint="download it again")
    if left_over:
        raise ModelUnsupported(f"{file} has {_some(left_over)}, which mlx-lm's model has no place for")


def check_shape(file: str, name: str, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise ModelCorrupt where a tensor is not of the shape that the config implies."""
    if given != wanted:
        raise ModelCorrupt(f"{file}: {name} is {list(given)} and the model's own numbers ask for {list(wanted)}")


def pack_modules(module: Any, packing: Mapping[str, Mapping[str, Any]]) -> None:  # Any: an nn.Module; ints and a str
    """Replace the linear layers and embeddings at these places by packed ones.

    Args:
        module: mlx-lm's model.
        packing: the place of a layer -> its group_size, bits and mode.

    Raises:
        ModelUnsupported: MLX cannot pack that layer so.
    """
    try:
        nn.quantize(module, class_predicate=lambda place, _: dict(packing.get(place, {})) or False)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelUnsupported(f"mlx cannot hold the weights as the file packs them: {error}") from None


def fill(module: Any, arrays: Mapping[str, Any]) -> None:  # Any: an nn.Module; mx.array
    """Put the arrays in their places and make them ready to compute with."""
    module.load_weights(list(arrays.items()), strict=True)
    module.eval()
    mx.eval(module.parameters())


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
