"""Turns the rotary metadata of a GGUF into the cosines and sines of every position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, map_tensor
from phiplug_candle.numbers import LONGEST, OTHERS, real, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray


def tables(header: Header, rotated: int, context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute cos and sin of every position, as llama.cpp understands the same metadata.

    Args:
        header: of the GGUF.
        rotated: how many numbers of a head are rotated.
        context: how many tokens a slot holds; it decides between Phi-3's two sets of factors.

    Returns:
        Two arrays, float32, (context, rotated / 2), with Phi-3's attention factor multiplied in.

    Raises:
        ModelUnsupported: the positions are rotated by a rule that is not known here, such as YaRN.
        ModelCorrupt: a number is missing or out of range.
    """
    kind = header.hyperparameter("rope.scaling.type") or "linear"  # what llama.cpp takes if a file says nothing
    if kind not in ("none", "linear", "longrope"):
        raise ModelUnsupported(f"{header.path.name} rotates positions by {kind!r}", hint=OTHERS)
    slower = 1.0 if kind == "none" else _slower(header)
    powers = np.arange(0, rotated, 2) / rotated
    periods = slower * _factors(header, rotated // 2, context) * real(header, "rope.freq_base", 10_000.0) ** powers
    angles = np.arange(context)[:, None] / periods
    magnitude = real(header, "rope.scaling.attn_factor", 1.0)
    return (np.cos(angles) * magnitude).astype(np.float32), (np.sin(angles) * magnitude).astype(np.float32)


def names(header: Header) -> set[str]:
    """Return the names of the tensors that are read here."""
    return {name for name in header.tensors if name.startswith("rope_f")}


def _slower(header: Header) -> float:
    """Read how much slower all pairs turn; 0 is llama.cpp's word for not at all, and old files have the older key."""
    key = "rope.scale_linear" if header.hyperparameter("rope.scaling.factor") is None else "rope.scaling.factor"
    return 1.0 if header.hyperparameter(key) == 0 else real(header, key, 1.0)


def _factors(header: Header, pairs: int, context: int) -> NDArray[np.float64]:
    """Read how much slower each pair turns: Llama 3 has one list, Phi-3 one for short and one for long contexts."""
    name = "rope_freqs.weight"
    if name not in header.tensors:
        original = whole(
            header,
            "rope.scaling.original_context_length",
            whole(header, "context_length", largest=LONGEST),
            largest=LONGEST,
        )
        name = f"rope_factors_{'short' if context <= original else 'long'}.weight"
    if name not in header.tensors:
        return np.ones(pairs)
    info = header.tensors[name]
    if info.type != "F32" or info.shape != (pairs,):
        raise ModelCorrupt(
            f"{header.path.name} is damaged: {name} is {info.shape} of {info.type}, not ({pairs},) of F32"
        )
    factors = np.asarray(map_tensor(info)).view("<f4").astype(np.float64)
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise ModelCorrupt(f"{header.path.name} is damaged: a rotary factor is not a positive number")
    return factors
