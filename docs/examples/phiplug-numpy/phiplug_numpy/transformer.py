"""Computes the decoder of the Llama and Phi-3 families, in float32, as the papers have it.

    Attention Is All You Need (attention), arXiv:1706.03762    RoFormer (rotation), arXiv:2104.09864
    GLU Variants (the feed-forward layer), arXiv:2002.05202    RMSNorm, arXiv:1910.07467
    GQA (several queries share a key), arXiv:2305.13245        LongRoPE (factors), arXiv:2402.13753

Letters in shapes: T tokens of this pass, L of them and all before, E embedding, F feed-forward, H heads for queries,
G for keys and values, D numbers of a head, V vocabulary. This file knows nothing of files, slots or passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

GROWTH = 256  # tokens: what a cache grows by, at least; it also grows by half of what it has


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer; a matrix has a row for each number that it gives.

    Attributes:
        attention_norm: (E,).
        query: (H * D, E).
        key: (G * D, E).
        value: (G * D, E).
        output: (E, H * D).
        feed_forward_norm: (E,).
        gate: (F, E).
        up: (F, E).
        down: (E, F).
    """

    attention_norm: Floats
    query: Floats
    key: Floats
    value: Floats
    output: Floats
    feed_forward_norm: Floats
    gate: Floats
    up: Floats
    down: Floats


@dataclass(frozen=True, slots=True)
class Rotation:
    """How positions turn into angles.

    Attributes:
        frequencies: float64, radians per token, one for each pair of numbers of a head that is rotated; a head may have
            more numbers than these pairs, which are then left as they are.
        magnitude: what the rotated numbers are multiplied by; 1 but for LongRoPE.
    """

    frequencies: NDArray[np.float64]
    magnitude: float

    def at(self, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return cosines and sines, each (T, pairs).

        Angles are float64, for the float32 nearest to an angle of 8,000 radians may be off by 0.0002.
        """
        angles = np.outer(positions, self.frequencies)
        cos, sin = self.magnitude * np.cos(angles), self.magnitude * np.sin(angles)
        return cos.astype(np.float32), sin.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Transformer:
    """A whole model.

    Attributes:
        embedding: (V, E).
        layers: from the first to the last.
        norm: (E,).
        output: (V, E); the same array as `embedding` where the two are tied.
        heads: H, a multiple of `groups`.
        groups: G.
        epsilon: what RMSNorm adds to the mean square.
        rotation: of queries and keys.
    """

    embedding: Floats
    layers: Sequence[Layer]
    norm: Floats
    output: Floats
    heads: int
    groups: int
    epsilon: float
    rotation: Rotation

    def new_cache(self) -> Cache:
        """Return a cache that holds nothing."""
        size = len(self.layers[0].key) // self.groups
        return Cache(np.empty((len(self.layers), 2, self.groups, 0, size), np.float32))

    def forward(self, tokens: Sequence[int], cache: Cache, rows: int) -> Floats:
        """Append tokens to what the cache holds.

        Returns:
            (rows, V): the logits after each of the last `rows` tokens. Until all is computed, `cache.length` stays.
        """
        start, length = cache.length, cache.length + len(tokens)
        cache.reserve(length)
        turn = self.rotation.at(np.arange(start, length))
        x = self.embedding[np.asarray(tokens)]
        for layer, (keys, values) in zip(self.layers, cache.numbers[:, :, :, :length], strict=True):
            h = self._norm(x, layer.attention_norm)
            keys[:, start:] = rotate(_heads(h @ layer.key.T, self.groups), turn)
            values[:, start:] = _heads(h @ layer.value.T, self.groups)
            queries = rotate(_heads(h @ layer.query.T, self.heads), turn)
            x = x + attend(queries, keys, values) @ layer.output.T
            h = self._norm(x, layer.feed_forward_norm)
            x = x + (silu(h @ layer.gate.T) * (h @ layer.up.T)) @ layer.down.T
        cache.length = length
        logits: Floats = self._norm(x[len(tokens) - rows :], self.norm) @ self.output.T
        return logits

    def _norm(self, x: Floats, weight: Floats) -> Floats:
        """RMSNorm: x / sqrt(mean(x ** 2) + epsilon) * weight, over the last axis."""
        normed: Floats = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self.epsilon)) * weight
        return normed


@dataclass(slots=True)
class Cache:
    """The keys and values of one sequence.

    Attributes:
        numbers: (layers, 2, G, room, D), keys before values, keys already rotated.
        length: how many tokens it holds; what is beyond has no meaning.
    """

    numbers: Floats
    length: int = 0

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens."""
        room = self.numbers.shape[3]
        if length > room:
            grown = max(length, room + max(room // 2, GROWTH))
            numbers = np.empty((*self.numbers.shape[:3], grown, self.numbers.shape[4]), np.float32)
            numbers[:, :, :, : self.length] = self.numbers[:, :, :, : self.length]
            self.numbers = numbers

    def copy_from(self, other: Cache, length: int) -> None:
        """Hold the first `length` tokens of another cache, and nothing else."""
        self.length = 0
        self.reserve(length)
        self.numbers[:, :, :, :length] = other.numbers[:, :, :, :length]
        self.length = length


def attend(queries: Floats, keys: Floats, values: Floats) -> Floats:
    """Let each of the last T tokens look at itself and at all before: softmax(Q K^T / sqrt(D)) V.

    Args:
        queries: (H, T, D); heads that share keys and values are neighbours.
        keys: (G, L, D).
        values: (G, L, D).

    Returns:
        (T, H * D).
    """
    heads, count, size = queries.shape
    groups, length, _ = keys.shape
    scores = queries.reshape(groups, -1, size) @ keys.swapaxes(1, 2) / np.float32(size**0.5)
    future = np.arange(length) > np.arange(length - count, length)[:, None]
    scores = np.where(future, np.float32(-np.inf), scores.reshape(groups, -1, count, length))
    mixed: Floats = softmax(scores).reshape(groups, -1, length) @ values
    return mixed.reshape(heads, count, size).swapaxes(0, 1).reshape(count, -1)


def rotate(x: Floats, turn: tuple[Floats, Floats]) -> Floats:
    """Rotate pairs of numbers of each head: the i-th of the first half of those rotated with the i-th of the second.

    Args:
        x: (heads, T, D).
        turn: cosines and sines, each (T, pairs).
    """
    cos, sin = turn
    pairs = cos.shape[1]
    left, right, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return np.concatenate([left * cos - right * sin, right * cos + left * sin, rest], axis=-1)


def softmax(x: Floats) -> Floats:
    """exp(x) / sum(exp(x)) over the last axis, after moving the largest to 0."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def silu(x: Floats) -> Floats:
    """x * sigmoid(x); where exp(-x) is more than a float32 holds, the quotient is 0, as it should be."""
    gated: Floats = x / (1 + np.exp(-x))
    return gated


def _heads(x: Floats, heads: int) -> Floats:
    """(T, heads * D) -> (heads, T, D)."""
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)
