"""Key-value caches for several sequences: alone in a pass, or together in one.

A slot has a list of mlx-lm's caches, one for each layer. Slots that decode together have theirs merged into one batch,
which others leave and join by one copy of its rows. This file knows how caches are cut and merged, and nothing of
tokens or logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import mlx.core as mx

from phiplug.errors import ModelUnsupported
from phiplug_mlx.classes import mlx_lm_module

Caches: TypeAlias = list[Any]  # Any: mlx-lm's KVCache or RotatingKVCache, or its batch of either; one for each layer


class Slots:
    """The caches of `count` sequences, all empty at first.

    Args:
        make_caches: returns the empty caches of one sequence.
        count: how many sequences there are.
    """

    def __init__(self, make_caches: Callable[[], Caches], count: int) -> None:
        self._make = make_caches
        self._alone: list[Caches] = [make_caches() for _ in range(count)]
        self._merged: tuple[int, ...] = ()
        self._batch: Caches = []
        # A rotating cache's row may begin anywhere; those of plain ones are filtered and shared where they are.
        self._shares = all(type(cache) is mlx_lm_module("cache").KVCache for cache in make_caches())
        self.lengths = [0] * count
        self._surplus = [0] * count  # tokens of a merged row that were taken back, and are still in the batch

    def alone(self, slot: int) -> Caches:
        """Return the caches of one slot, for a pass that adds to it alone."""
        if slot in self._merged:
            self._regroup(tuple(other for other in self._merged if other != slot and self._shares))
        return self._alone[slot]

    def together(self, slots: tuple[int, ...]) -> Caches:
        """Return the merged caches of several slots, whose rows are in this order, for a pass that adds to them all."""
        if slots != self._merged:
            self._regroup(slots)
        surplus = {self._surplus[slot] for slot in slots}
        if len(surplus) == 1:  # as where a guess was wrong
            for cache in self._batch if surplus != {0} else ():
                cache.trim(*surplus)
        else:
            self._merge(slots)
        for slot in slots:
            self._surplus[slot] = 0
        return self._batch

    def can_take_back(self, slots: Iterable[int]) -> bool:
        """Say whether a token that is appended to each of these can be taken away again: not from a full window."""
        if self._shares:
            return True
        caches = [cache for slot in slots for cache in self._alone[slot]]  # none of a slot that is merged
        windows = [cache for cache in caches if hasattr(cache, "max_size")]
        return bool(caches) and all(cache.offset + 1 < cache.max_size for cache in windows)

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most `length` tokens; none where a layer has thrown away what it would need."""
        surplus = self.lengths[slot] - length
        if surplus > 0 and length > 0 and self._shares and slot in self._merged:
            self._surplus[slot] += surplus
            self.lengths[slot] = length
        elif surplus > 0:
            caches = self.alone(slot)
            if length > 0 and all(cache.is_trimmable() for cache in caches):
                for cache in caches:
                    cache.trim(surplus)
                self.lengths[slot] = length
            else:
                self.clear(slot)
        return self.lengths[slot]

    def copy(self, source: int, target: int, length: int) -> int:
        """Make `target` hold at most `length` tokens of `source`; return how many it holds."""
        if source == target:
            return self.rewind(source, length)
        self.clear(target)
        own = source not in self._merged
        self._alone[target] = copy.deepcopy(self._alone[source]) if own else self._extracted(source)
        mx.eval(arrays_of(self._alone[target]))
        self.lengths[target] = self.lengths[source]
        return self.rewind(target, length)

    def clear(self, slot: int) -> None:
        """Empty one slot."""
        self.alone(slot)
        self._alone[slot] = self._make()
        self.lengths[slot] = self._surplus[slot] = 0

    def forget(self, slots: Iterable[int]) -> None:
        """Empty slots whose pass failed, without looking at what it left."""
        lost = set(slots)
        if not lost.isdisjoint(self._merged):
            lost |= set(self._merged)
            self._merged, self._batch = (), []
        for slot in lost:
            self.clear(slot)

    def _regroup(self, slots: tuple[int, ...]) -> None:
        """Make the batch hold these slots, in this order; those that leave it have caches of their own again."""
        try:
            for slot in self._merged:
                if slot not in slots or not self._shares:
                    self._alone[slot] = self._extracted(slot)
                    self._surplus[slot] = 0
                    mx.eval(arrays_of(self._alone[slot]))
            if self._shares and set(slots) <= set(self._merged):
                self._keep(slots)
            else:
                self._merge(slots)
        except BaseException:  # no memory, or Ctrl-C: some have moved and others have not
            self.forget({*self._merged, *slots})
            raise
        self._merged = slots
        for slot in slots:
            self._alone[slot] = []  # the batch has copied them

    def _keep(self, slots: tuple[int, ...]) -> None:
        """Drop all other rows of the batch."""
        rows = mx.array([self._merged.index(slot) for slot in slots])
        for cache in self._batch if slots else ():
            cache.filter(rows)
        self._batch = self._batch if slots else []
        mx.eval(arrays_of(self._batch))

    def _merge(self, slots: tuple[int, ...]) -> None:
        """Copy slots into a new batch, from the old one or from caches of their own."""
        rows = [self._row(slot) if slot in self._merged and self._shares else self._alone[slot] for slot in slots]
        self._batch = [layer[0].merge(layer) for layer in zip(*rows, strict=True)]
        mx.eval(arrays_of(self._batch))
        for slot in slots:
            self._surplus[slot] = 0

    def _row(self, slot: int) -> Caches:
        """Return caches of one slot that share the memory of the batch."""
        row, rows = self._merged.index(slot), [mlx_lm_module("cache").KVCache() for _ in self._batch]
        for one, cache in zip(rows, self._batch, strict=True):
            begin = cache.left_padding.tolist()[row]
            end = cache.size() - self._surplus[slot]
            one.keys = cache.keys[row : row + 1, :, begin:end]
            one.values = cache.values[row : row + 1, :, begin:end]
            one.offset = end - begin
        return rows

    def _extracted(self, slot: int) -> Caches:
        """Return caches of one slot that are a copy of its row of the batch."""
        caches = [layer.extract(self._merged.index(slot)) for layer in self._batch]
        for cache in caches if self._surplus[slot] else ():
            cache.trim(self._surplus[slot])
        return caches


def arrays_of(caches: Caches) -> list[Any]:  # Any: mx.array
    """Return the arrays of some caches: what a pass that was given them computes, besides logits.

    An array that is still to be computed can be computed only by the thread that asked for it, so whatever changes
    caches evaluates these.
    """
    return [part for cache in caches for part in cache.state if isinstance(part, mx.array)]


def full_bytes(caches: Caches, context_length: int) -> int:
    """Return the bytes of one sequence's keys and values when its context is full.

    The caches have been given a token; MLX knows the shapes of their arrays before it computes them.
    """
    lengths = (min(context_length, getattr(cache, "max_size", context_length)) for cache in caches)
    return sum(
        length * (cache.keys[..., :1, :].nbytes + cache.values[..., :1, :].nbytes)
        for length, cache in zip(lengths, caches, strict=True)
    )


def make_caches(module: Any) -> Caches:  # Any: an nn.Module
    """Return the empty caches of one sequence, as the module wants them.

    Raises:
        ModelUnsupported: it wants a state that cannot be cut back, as recurrent models do.
    """
    kinds = mlx_lm_module("cache")
    caches = module.make_cache() if hasattr(module, "make_cache") else [kinds.KVCache() for _ in module.layers]
    if not all(type(cache) in (kinds.KVCache, kinds.RotatingKVCache) for cache in caches):
        names = ", ".join(sorted({type(cache).__name__ for cache in caches}))
        raise ModelUnsupported(f"the model keeps {names}, which cannot be cut back to a prefix")
    return caches
