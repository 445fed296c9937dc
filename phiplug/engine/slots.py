"""What each slot of a model holds, how it was computed, and where a new request finds most of its prompt.

A slot remembers the passes that filled it, because two ways to compute the same ids may differ in the last bits. It
knows nothing of logits or text.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Ids

    from phiplug.engine.backend import GuardedModel

WORTH_COPYING = 32
"""Prompt tokens that a copy must save: llama.cpp copies all cells of a slot, which takes as long as computing a few."""


class Request(Protocol):
    """What a slot must know of a sequence to find its place."""

    ids: list[int]
    fed: int
    repeatable: bool

    def reusable_limit(self) -> int:
        """Return how many of `ids` may come from a slot; the rest must be computed because their rows are wanted."""
        ...

    def piece_end(self, start: int) -> int:
        """Return where a pass that begins at `start` ends."""
        ...


class Pieces:
    """The passes behind a run of ids: where each ends, and how many tokens it computed.

    A piece that was cut short keeps the size that it was computed with, since that decides its bits.
    """

    def __init__(self) -> None:
        self.ends: list[int] = []
        self._sizes: list[int] = []

    @classmethod
    def planned(cls, piece_end: Callable[[int], int], length: int) -> Pieces:
        """Return the pieces that a fresh start would compute for the first `length` ids."""
        pieces, at = cls(), 0
        while at < length:
            end = piece_end(at)
            pieces.append(end - at)
            at = end
        return pieces

    def append(self, size: int) -> None:
        """Add a piece of `size` tokens."""
        self.ends.append((self.ends[-1] if self.ends else 0) + size)
        self._sizes.append(size)

    def cut(self, length: int) -> None:
        """Forget what lies beyond the first `length` ids."""
        keep = bisect_right(self.ends, length)
        if keep < len(self.ends) and length > (self.ends[keep - 1] if keep else 0):
            self.ends[keep] = length
            keep += 1
        del self.ends[keep:], self._sizes[keep:]

    def copied(self, length: int) -> Pieces:
        """Return a copy of the first `length` ids' pieces."""
        copy = Pieces()
        copy.ends, copy._sizes = self.ends.copy(), self._sizes.copy()
        copy.cut(length)
        return copy

    def equal_prefix(self, piece_end: Callable[[int], int], limit: int, interchangeable: int) -> int:
        """Return how many ids are bit for bit what a fresh start would compute, at most `limit`.

        Args:
            piece_end: where a fresh start's pass ends that begins at an index.
            limit: how many ids are the same.
            interchangeable: pieces of up to this many tokens may stand for one another (`ModelInfo.equal_passes`).
        """
        at = 0
        while at < limit:
            end = piece_end(at)
            if end <= limit and self._is_piece(at, end):
                at = end
                continue
            stop = self._small_until(at, min(end, limit), interchangeable) if end - at <= interchangeable else at
            if stop < end:
                return stop
            at = stop
        return at

    def _is_piece(self, start: int, end: int) -> bool:
        index = bisect_right(self.ends, start)
        begins = self.ends[index - 1] if index else 0
        return index < len(self.ends) and (begins, self.ends[index], self._sizes[index]) == (start, end, end - start)

    def _small_until(self, at: int, limit: int, size: int) -> int:
        """Return how far pieces of at most `size` tokens go on from `at`."""
        for index in range(bisect_right(self.ends, at), len(self.ends)):
            if self._sizes[index] > size:
                break
            at = min(self.ends[index], limit)
            if at == limit:
                break
        return at


class Slot:
    """One slot of the model.

    Attributes:
        index: which one.
        ids: what it holds.
        pieces: the passes that computed them.
        pure: so many of the ids were computed in passes whose bits depend on nothing else.
        owner: the sequence that runs in it, or None.
        used: when it was given out last, counted in placements.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.ids: list[int] = []
        self.pieces = Pieces()
        self.pure = 0
        self.owner: Request | None = None
        self.used = 0

    def extend(self, ids: Ids[int], *, pure: bool) -> None:
        """Note that a pass appended `ids`; a `pure` one did not depend on what else was in the pass."""
        if pure and self.pure == len(self.ids):
            self.pure += len(ids)
        self.ids.extend(ids)
        self.pieces.append(len(ids))

    def cut(self, length: int) -> None:
        """Note that the slot holds its first `length` ids and no more."""
        del self.ids[length:]
        self.pieces.cut(length)
        self.pure = min(self.pure, length)

    def take_over(self, source: Slot, length: int) -> None:
        """Note that the first `length` ids of another slot were copied here."""
        self.ids = source.ids[:length]
        self.pieces = source.pieces.copied(length)
        self.pure = min(source.pure, length)

    def reusable(self, request: Request, interchangeable: int) -> int:
        """Return how many of the request's ids this slot holds in a form that serves it."""
        shared = common_prefix(self.ids, request.ids, request.reusable_limit())
        if not request.repeatable:
            return shared
        return self.pieces.equal_prefix(request.piece_end, min(shared, self.pure), interchangeable)


class Slots:
    """All slots of a model, and the choice among them."""

    def __init__(self, model: GuardedModel) -> None:
        self._model = model
        info = model.info
        self._interchangeable, self._copies = info.equal_passes, model.copies
        self._slots = [Slot(index) for index in range(info.slots)]
        self._placements = 0

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def any_free(self) -> bool:
        """Whether a sequence could be placed."""
        return any(slot.owner is None for slot in self._slots)

    def forget_bits(self) -> None:
        """Note that the engine computes differently from now on, so that no slot's bits are those of a fresh start."""
        for slot in self._slots:
            slot.pure = 0

    def place(self, request: Request) -> tuple[Slot, int] | None:
        """Give the request a free slot and the longest prefix that any slot holds.

        In place where that slot is free, by a copy where it is not and a copy saves enough; else the slot that was used
        least recently, next to those that run: llama.cpp decodes rows of neighbouring slots fastest.

        Returns:
            The slot and how many of the request's ids it holds; None where a slot that runs is about to hold a longer
            prefix, which is worth waiting for.
        """
        held = {slot.index: slot.reusable(request, self._interchangeable) for slot in self._slots}
        free = [slot for slot in self._slots if slot.owner is None]
        best = max(self._slots, key=lambda slot: held[slot.index])
        own = max(free, key=lambda slot: held[slot.index])
        if self._is_worth_waiting(request, held[best.index], held[own.index]):
            return None
        if self._copies and held[best.index] - held[own.index] >= WORTH_COPYING:
            target = min(free, key=self._distance)
            return self._given(target, request, self._copied(best, target, request, held[best.index]))
        slot = own if held[own.index] else min(free, key=self._distance)
        return self._given(slot, request, self._rewound(slot, request, held[slot.index]))

    def _given(self, slot: Slot, request: Request, kept: int) -> tuple[Slot, int]:
        self._placements += 1
        slot.owner, slot.used = request, self._placements
        return slot, kept

    def _rewound(self, slot: Slot, request: Request, wanted: int) -> int:
        """Cut a slot to `wanted` ids, or to fewer where the model keeps less than it was asked to."""
        while True:
            slot.cut(self._model.rewind(slot.index, wanted))
            kept = min(slot.reusable(request, self._interchangeable), wanted)
            if kept == len(slot.ids):
                return kept
            wanted = kept

    def _copied(self, source: Slot, target: Slot, request: Request, wanted: int) -> int:
        target.take_over(source, self._model.copy(source.index, target.index, wanted))
        kept = min(target.reusable(request, self._interchangeable), wanted)
        return kept if kept == len(target.ids) else self._rewound(target, request, kept)

    def _distance(self, slot: Slot) -> tuple[int, int]:
        """Order free slots: those next to running ones first, then the least recently used."""
        running = [other.index for other in self._slots if other.owner is not None]
        return min((abs(slot.index - index) for index in running), default=0), slot.used

    def _is_worth_waiting(self, request: Request, held: int, own: int) -> bool:
        """Whether a running sequence is computing a longer prefix of the request, which could then be copied.

        A copy has to save enough over `own`, what a free slot holds; once it does, each id more than `held`, the most
        that any slot holds, is worth the wait, for the device would compute it again.
        """
        if not self._copies:
            return False
        for slot in self._slots:
            owner = slot.owner
            if owner is None:
                continue
            shared = common_prefix(owner.ids, request.ids, request.reusable_limit())
            if not self._is_worth_copying(shared, held, own):
                continue
            if request.repeatable:
                planned = Pieces.planned(owner.piece_end, shared)
                shared = planned.equal_prefix(request.piece_end, shared, self._interchangeable)
            if self._is_worth_copying(shared, held, own) and len(slot.ids) < shared:
                return True
        return False

    @staticmethod
    def _is_worth_copying(shared: int, held: int, own: int) -> bool:
        return shared > held and shared - own >= WORTH_COPYING


def common_prefix(a: Ids[int], b: Ids[int], limit: int) -> int:
    """Return how many ids two lists have in common from the beginning, at most `limit`; slices compare at C speed."""
    low, high = 0, min(len(a), len(b), limit)
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
