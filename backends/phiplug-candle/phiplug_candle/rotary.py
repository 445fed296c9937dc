"""Computes the cosines and sines of every position from the rotary metadata of a GGUF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phiplug.gguf import Header
from phiplug.gguf.rotary import rotation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def tables(header: Header, head: int, context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute cos and sin of every position, as llama.cpp understands the same metadata.

    Args:
        header: of the GGUF.
        head: how many numbers a head has.
        context: how many tokens a slot holds; it decides between Phi-3's two sets of factors.

    Returns:
        Two arrays, float32, (context, rotated / 2), with Phi-3's attention factor multiplied in.

    Raises:
        ModelUnsupported: the positions are rotated by a rule that is not known here, such as YaRN.
        ModelCorrupt: a number is missing or out of range.
    """
    rotation = rotation_of(header, head, context)
    angles = np.arange(context)[:, None] * rotation.frequencies()
    cos, sin = rotation.magnitude * np.cos(angles), rotation.magnitude * np.sin(angles)
    return cos.astype(np.float32), sin.astype(np.float32)
