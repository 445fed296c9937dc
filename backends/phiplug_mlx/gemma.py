"""The trunk of Gemma 2 and 3, with the sliding windows that the models were trained with.

mlx-lm's Gemma 2 lets every layer see everything, its mask does not fit several sequences with grouped heads, and its
Gemma 3 needs at least one whole period of layers and rounds the scale of the embeddings to bfloat16. This trunk is put
in the place of theirs and keeps their layers, names of weights and caches. It follows gemma2.cpp and gemma3.cpp of
llama.cpp, and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn


class WindowedTrunk(nn.Module):  # type: ignore[misc]  # mlx brings no types that mypy follows
    """Token ids -> hidden states, where each layer may look back by a window of its own.

    Args:
        trunk: mlx-lm's, whose embeddings, layers and norm are taken over.
        windows: for each layer how many tokens it sees, its own among them, or None for all.
        needs_array: whether the layers take a mask as an array only, with an axis for the group of heads: Gemma 2.
    """

    def __init__(self, trunk: Any, windows: Sequence[int | None], *, needs_array: bool) -> None:  # Any: an nn.Module
        super().__init__()
        self.embed_tokens = trunk.embed_tokens
        self.layers = trunk.layers
        self.norm = trunk.norm
        self._windows = tuple(windows)
        self._scale = trunk.args.hidden_size**0.5
        self._needs_array = needs_array
        self._grouped = trunk.args.num_attention_heads != trunk.args.num_key_value_heads

    def __call__(self, inputs: Any, cache: Any, embeddings: Any = None) -> Any:  # Any: mx.array, caches of mlx-lm
        """Shape (batch, tokens) -> (batch, tokens, hidden_size); or of embeddings, as mlx-lm calls it."""
        h = (self.embed_tokens(inputs) if embeddings is None else embeddings) * self._scale
        masks = {
            window: self._mask(cache[self._windows.index(window)], inputs.shape[1], window)
            for window in dict.fromkeys(self._windows)
        }
        for layer, own, window in zip(self.layers, cache, self._windows, strict=True):
            h = layer(h, masks[window], own)
        return self.norm(h)

    def _mask(self, cache: Any, tokens: int, window: int | None) -> Any:  # Any: mx.array, "causal" or None
        mask = cache.make_mask(tokens, return_array=self._needs_array, window_size=window)
        if self._needs_array and self._grouped and isinstance(mask, mx.array) and mask.ndim == 4:
            return mask[:, :, None]  # (batch, 1, tokens, keys): beside the batch are the heads, then their group
        return mask


def give_windows(model: Any, windows: Sequence[int | None], *, needs_array: bool) -> None:  # Any: an nn.Module
    """Replace the trunk of mlx-lm's Gemma 2 or 3."""
    model.model = WindowedTrunk(model.model, windows, needs_array=needs_array)
