"""Knows MLX's devices by name, and the precision in which each computes.

It knows what each kind of device is good at, and nothing of models.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from phiplug.errors import OutOfMemory, UnsupportedParameter

CHUNKS = {"cpu": 8, "metal": 512, "cuda": 512}
"""How many tokens of a prompt make one pass. MLX's CPU matrices gain nothing from more (measured: 11 tokens a second at
any size), and a pass cannot be interrupted; 8 tokens of a small model take almost a second."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What numbers are computed in.

    Attributes:
        compute: weights that are not packed, activations and caches.
        scales: scales and biases of packed weights.
    """

    compute: Any  # Any: an mx.Dtype
    scales: Any  # Any: an mx.Dtype

    @property
    def scale_name(self) -> str:
        """ "float32" or "float16"."""
        return dtype_name(self.scales)


def devices() -> tuple[str, ...]:
    """Return the devices that MLX finds here, the preferred one first."""
    found = ["metal"] if mx.metal.is_available() else []
    if hasattr(mx, "cuda") and mx.cuda.is_available():
        found.append("cuda")
    return (*found, "cpu")


def choose_device(wanted: str | None) -> str:
    """Return the device that was asked for, or the preferred one.

    Raises:
        UnsupportedParameter: MLX has no such device here.
    """
    found = devices()
    if wanted is None:
        return found[0]
    if wanted not in found:
        raise UnsupportedParameter("device", f"mlx has no {wanted!r} here", hint=f"it has {', '.join(found)}")
    return wanted


def mlx_device(name: str) -> Any:  # Any: an mx.Device
    """Return what `mx.stream` takes."""
    return mx.Device(mx.cpu if name == "cpu" else mx.gpu, 0)


def check_memory(name: str, needed: float) -> None:
    """Raise OutOfMemory where weights of so many bytes exceed the machine's memory: filling it ends in a kill."""
    if not hasattr(os, "sysconf"):
        return
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > most:
        raise OutOfMemory(
            f"the weights of {name} would take {needed / 1e9:.1f} GB, and the machine has {most / 1e9:.1f} GB",
            hint="take a smaller model or quantization",
        )


def precision_for(device: str, dtypes: Collection[str], *, packed: bool, exact_scales: bool) -> Precision:
    """Choose the precision of a model.

    The CPU computes in float32: with float16 it was thirty times slower. A GPU computes in the file's own precision.
    Float32 scales make everything behind them float32, so `exact_scales` decides that, too.

    Args:
        device: as `devices` names it.
        dtypes: of the file's matrices, as MLX names them: "float32", "float16", "bfloat16".
        packed: whether any matrix of the file is packed with scales.
        exact_scales: keep these in float32 on a GPU.
    """
    if device == "cpu" or (packed and exact_scales) or (not packed and set(dtypes) == {"float32"}):
        return Precision(mx.float32, mx.float32)
    if "bfloat16" in dtypes and not packed:
        return Precision(mx.bfloat16, mx.bfloat16)
    return Precision(mx.float16, mx.float16)


def dtype_name(dtype: Any) -> str:  # Any: an mx.Dtype
    """Return MLX's name of a dtype: "float32"."""
    return str(dtype).rpartition(".")[2]
