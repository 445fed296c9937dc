"""Slots that decode together are one batch, whoever joins and leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phiplug_mlx.slots import Caches

pytestmark = pytest.mark.usefixtures("mlx")

COUNT, LAYERS = 4, 2
GROUPS = st.lists(st.integers(0, COUNT - 1), unique=True, min_size=2).map(sorted).map(tuple)


def fill(caches: Caches, rows: int, source: np.random.Generator) -> None:
    """Append one token to each of some rows, as the attention of each layer does."""
    import mlx.core as mx

    for cache in caches:
        keys, values = (mx.array(source.normal(size=(rows, 1, 1, 2)).astype(np.float32)) for _ in range(2))
        mx.eval(*cache.update_and_fetch(keys, values))


def held(batch: Caches) -> list[list[Any]]:  # Any: nested lists of numbers
    """Return all that attention reads: keys, values, where each row begins, and its position."""
    parts = [(*cache.keys_and_values(), cache.left_padding, cache.offset) for cache in batch]
    return [[np.array(part).tolist() for part in of_layer] for of_layer in parts]


def batches(turns: list[tuple[tuple[int, ...], int, int]], lengths: list[int], *, anew: bool) -> Iterator[Any]:
    """Let slots decode together in turns, each followed by one that goes on alone; yield the batch of each turn."""
    from phiplug_mlx.classes import mlx_lm_module
    from phiplug_mlx.slots import Slots

    slots = Slots(lambda: [mlx_lm_module("cache").KVCache() for _ in range(LAYERS)], COUNT)
    source = np.random.default_rng(0)
    for slot, length in enumerate(lengths):
        for _ in range(length):
            fill(slots.alone(slot), 1, source)
    for group, tokens, single in turns:
        if anew:
            for slot in range(COUNT):
                slots.alone(slot)
        for _ in range(tokens):
            fill(slots.together(group), len(group), source)
        yield held(slots.together(group))
        fill(slots.alone(single), 1, source)


@given(
    st.lists(st.tuples(GROUPS, st.integers(0, 3), st.integers(0, COUNT - 1)), min_size=1, max_size=8),
    st.lists(st.integers(1, 9), min_size=COUNT, max_size=COUNT),
)
@settings(deadline=None, max_examples=40)
def test_a_batch_that_others_join_and_leave_is_what_a_merge_of_all_would_be(turns, lengths):
    assert list(batches(turns, lengths, anew=False)) == list(batches(turns, lengths, anew=True))


def test_who_joins_or_leaves_takes_nobody_else_apart(monkeypatch):
    from phiplug_mlx.classes import mlx_lm_module

    kind, extracted = mlx_lm_module("cache").BatchKVCache, []
    extract = kind.extract
    monkeypatch.setattr(kind, "extract", lambda cache, row: extracted.append(row) or extract(cache, row))
    list(batches([((0, 1, 3), 1, 2), ((0, 1, 2, 3), 1, 2)], [4, 4, 4, 4], anew=False))
    assert extracted == [2] * LAYERS  # only the one that goes on alone at the end
