"""Makes modules that rotate queries and keys as llama.cpp does, for mlx-lm's attention classes.

mlx-lm has a class for each way in which such
factors are written in a config.json; a GGUF holds the factors themselves, so one class serves them all. It knows
nothing of files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
from mlx import nn

from phiplug.gguf.rotary import Rotation


class FactoredRoPE(nn.Module):  # type: ignore[misc]  # mlx brings no types that mypy follows
    """Rotates the halves of a head against each other (the NEOX order), each pair slowed down by its own factor."""

    def __init__(self, rotation: Rotation) -> None:
        super().__init__()
        self.rotation = rotation
        powers = mx.arange(0, rotation.dims, 2, dtype=mx.float32) / rotation.dims
        self._freqs = mx.array(list(rotation.factors), dtype=mx.float32) * rotation.base**powers
        mx.eval(self._freqs)  # an array that is still to be computed belongs to the thread that made it

    def __call__(self, x: Any, offset: Any = 0) -> Any:  # Any: mx.array, and an int or an mx.array
        """Rotate x of shape (batch, heads, tokens, head_dim), whose first token is at `offset`."""
        dims, magnitude = self.rotation.dims, self.rotation.magnitude
        if magnitude != 1.0:
            x = mx.concatenate([x[..., :dims] * magnitude, x[..., dims:]], axis=-1)
        return mx.fast.rope(
            x, dims, traditional=False, base=None, scale=self.rotation.scale, offset=offset, freqs=self._freqs
        )


def rotary(rotation: Rotation) -> Any:  # Any: an nn.Module
    """Return the module that rotates so; MLX's own where there are no factors."""
    if not rotation.factors and rotation.magnitude == 1.0:
        return nn.RoPE(rotation.dims, traditional=False, base=rotation.base, scale=rotation.scale)
    return FactoredRoPE(replace(rotation, factors=rotation.factors or (1.0,) * (rotation.dims // 2)))
