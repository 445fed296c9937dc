"""Which sequences share a pass, and what each is fed.

A pass is either of prompts or of drawn tokens: a mixed one gains nothing on llama.cpp, and changes which kernel
computes a row. Sequences that must repeat stay apart from what may change their rows, by what `ModelInfo` says of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.engine.logprobs import log_normalizers
from phiplug.spi import Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phiplug.engine.sequence import Sequence
    from phiplug.spi import Logits, ModelInfo


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass.

    Attributes:
        sequences: whose it is, in the order of their slots.
        steps: what each is fed.
        pure: whether no row depends on what else is in the pass.
    """

    sequences: tuple[Sequence, ...]
    steps: tuple[Step, ...]
    pure: bool

    @property
    def rows(self) -> int:
        """How many rows of logits the pass returns."""
        return sum(step.rows for step in self.steps)

    def normalizers(self, logits: Logits) -> dict[int, NDArray[np.float64]]:
        """Return the normalizers of the rows whose log-probabilities are wanted, by the index of the sequence.

        They are computed together, which takes a tenth of the time of one row after another.
        """
        wanted: dict[int, range] = {}
        at = 0
        for index, (sequence, step) in enumerate(zip(self.sequences, self.steps, strict=True)):
            if step.rows and sequence.request.logprobs is not None:
                wanted[index] = range(at, at + step.rows)
            at += step.rows
        if not wanted:
            return {}
        together = log_normalizers(logits[[row for rows in wanted.values() for row in rows]])
        found, at = {}, 0
        for index, rows in wanted.items():
            found[index] = together[at : at + len(rows)]
            at += len(rows)
        return found


def decode_together(decoding: list[Sequence], info: ModelInfo) -> list[Sequence]:
    """Choose those that decode together: all, or where neighbours change a row, those that need not repeat."""
    if info.row_independence != "none" or not any(sequence.repeatable for sequence in decoding):
        return decoding
    return decoding[:1] if decoding[0].repeatable else [one for one in decoding if not one.repeatable]


def prefill_together(prefilling: list[Sequence], info: ModelInfo) -> list[Sequence]:
    """Choose whose prompts are computed together: the first one's and other short ones, within one chunk of tokens."""
    first, *others = prefilling
    independent = info.row_independence == "all"
    if first.repeatable and not independent:
        return [first]
    chosen, room = [first], info.chunk - len(first.piece()[0])
    for other in others:
        size = len(other.piece()[0])
        if size <= room and (independent or not other.repeatable):
            chosen.append(other)
            room -= size
    return chosen


def plan_of(sequences: list[Sequence], info: ModelInfo) -> Plan:
    """Make one pass of these sequences, sorted by slot: llama.cpp decodes neighbouring slots fastest."""
    placed = sorted(
        ((sequence.slot.index, sequence) for sequence in sequences if sequence.slot is not None),
        key=lambda pair: pair[0],
    )
    steps = tuple(Step(index, *sequence.piece()) for index, sequence in placed)
    decoding = info.row_independence == "decode" and all(len(step.tokens) == 1 for step in steps)
    pure = len(steps) == 1 or decoding or info.row_independence == "all"
    return Plan(tuple(sequence for _, sequence in placed), steps, pure)
