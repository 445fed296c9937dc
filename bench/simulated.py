"""A device whose passes end by the clock, to see what lookahead gains without one: `python -m bench.simulated`.

A pass ends `pass_s` after it was asked for, or after the one before it; no thread computes it. Building a pass, and
drawing from a row, keep the host busy for as long as they are said to. What is drawn is written down beforehand, so the
device guesses it for nothing; how it would draw is another matter (`bench.lookahead`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phiplug.engine import Engine, answer
from phiplug.sampling import Sampler
from phiplug.spi import Draw, ModelInfo, Step
from phiplug.types import Request, SamplingParams
from phiplug_toy.tokenizer import VOCAB_SIZE, ByteTokenizer

GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
PASS_S, BUILD_S, DRAW_S = 2.5e-3, 1e-3, 0.3e-3


class Clock:
    """The processor time of this thread, which waits by computing: what else the machine does shows little in it."""

    def now(self) -> float:
        """Return seconds."""
        return time.thread_time()

    def wait_until(self, when: float) -> None:
        """Keep the thread busy, as a sleep is not exact."""
        while self.now() < when:
            pass

    def spend(self, seconds: float) -> None:
        """Keep the thread busy for so long."""
        self.wait_until(self.now() + seconds)


class VirtualClock(Clock):
    """A clock that goes on only where somebody waits, for tests."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Return seconds since the beginning."""
        return self._now

    def wait_until(self, when: float) -> None:
        """Let it be that time."""
        self._now = max(self._now, when)


@dataclass
class SimulatedPass:
    """A pass, or a guess, that ends at a time."""

    clock: Clock
    ends: float
    rows: NDArray[np.float32]
    drawn: Sequence[int] = ()
    drawn_at: float = 0.0

    def logits(self) -> NDArray[np.float32]:
        """Wait for the end."""
        self.clock.wait_until(self.ends)
        return self.rows

    def tokens(self) -> Sequence[int]:
        """Wait for the end of the pass before, and return what the device drew from it."""
        self.clock.wait_until(self.drawn_at)
        return self.drawn


@dataclass
class SimulatedModel:
    """A `phiplug.spi.Model` that prefers, at each place of each slot, a token that is known beforehand.

    Attributes:
        pass_s: how long the device computes a pass.
        build_s: how long the host builds one.
        wrong_every: every so many-th guess is made a wrong one; 0 for none.
        passes: how many were asked for, guesses among them.
    """

    slots: int = 1
    clock: Clock = field(default_factory=Clock)
    pass_s: float = PASS_S
    build_s: float = BUILD_S
    wrong_every: int = 0
    passes: int = 0

    def __post_init__(self) -> None:
        self._lengths = [0] * self.slots
        self._free = self._last = 0.0
        self._asked: Sequence[Step] = ()
        self._guesses = 0
        self.info = ModelInfo(
            VOCAB_SIZE,
            4096,
            self.slots,
            "simulated",
            "none",
            "1",
            row_independence="decode",
            features=frozenset({"guess"}),
        )

    def forward(self, steps: Sequence[Step]) -> SimulatedPass:
        """Build a pass and let the device begin it when it is free."""
        self.passes += 1
        self.clock.spend(self.build_s)
        self._last = self._free
        self._free = max(self.clock.now(), self._free) + self.pass_s
        self._asked = steps
        rows = np.zeros((len(steps), VOCAB_SIZE), np.float32)
        for row, step in zip(rows, steps, strict=True):
            self._lengths[step.slot] += len(step.tokens)
            row[self._next(step.slot)] = 9.0
        return SimulatedPass(self.clock, self._free, rows)

    def guess(self, asked: SimulatedPass, draws: Sequence[Draw | None]) -> SimulatedPass:
        """Build the pass behind `asked`; the device begins it as soon as it has drawn."""
        going = [step.slot for step, draw in zip(self._asked, draws, strict=True) if draw is not None]
        self._guesses += 1
        off = int(self.wrong_every > 0 and self._guesses % self.wrong_every == 0)
        drawn = [97 + (self._next(slot) - 97 + off) % 26 for slot in going]
        guess = self.forward([Step(slot, (token,)) for slot, token in zip(going, drawn, strict=True)])
        guess.drawn, guess.drawn_at = drawn, asked.ends
        return guess

    def rewind(self, slot: int, length: int) -> int:
        """Wait for what the device does, and cut."""
        self.clock.wait_until(self._free)
        self._lengths[slot] = min(self._lengths[slot], length)
        return self._lengths[slot]

    def copy(self, _source: int, _target: int, _length: int) -> int:
        """It cannot."""
        return 0

    def close(self) -> None:
        """There is nothing to give back."""

    def _next(self, slot: int) -> int:
        return 97 + (7 * self._lengths[slot] + slot) % 26


def slow_sampler(clock: Clock, draw_s: float) -> type[Sampler]:
    """Return a sampler that takes so long for each draw on the host."""

    class Slow(Sampler):
        def __call__(self, logits: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None) -> int:
            clock.spend(draw_s)
            return super().__call__(logits, forbidden)

    return Slow


def seconds_per_pass(model: SimulatedModel, *, draw_s: float, ahead: bool, count: int = 200) -> float:
    """Return what a pass takes, by the model's clock, while each of its slots has an answer of `count` tokens."""
    kept, module = answer.Sampler, vars(answer)
    module["Sampler"] = slow_sampler(model.clock, draw_s)
    try:
        engine = Engine(model, ByteTokenizer())
        engine.scheduler.lookahead.is_on = ahead
        streams = [
            engine.submit(Request((256, 97 + slot), GREEDY, max_tokens=count, repeatable=True))
            for slot in range(model.slots)
        ]
        for stream in streams:
            next(stream)
        started = model.clock.now()
        for stream in streams:
            stream.completion()
        return (model.clock.now() - started) / (count - 1)
    finally:
        module["Sampler"] = kept


def main() -> None:
    """Print how near the loop comes to what the device, or the host, can do at best."""
    for slots, draw_s, what in ((1, DRAW_S, ""), (8, DRAW_S / 8, ""), (8, DRAW_S, " a row")):
        best = max(PASS_S, BUILD_S + slots * draw_s)
        drawing = draw_s if what else slots * draw_s
        for ahead in (False, True):
            runs = [seconds_per_pass(SimulatedModel(slots), draw_s=draw_s, ahead=ahead) for _ in range(5)]
            taken = sorted(runs)[len(runs) // 2]
            print(
                f"{slots} rows, {1e3 * drawing:.1f} ms{what or ' a pass'} to draw, {'with' if ahead else 'without'}: "
                f"{1e3 * taken:.2f} ms a pass, {best / taken:.3f} of 1 / {1e3 * best:.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
