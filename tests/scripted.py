"""A model and a tokenizer that do what a test writes down: the engine's counterpart in unit tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from phiplug.spi import ModelInfo, Step

V = 16  # ids 0..15; 0 is the stop token, the others spell letters


@dataclass
class ScriptedPass:
    """A pass that counts when it takes effect."""

    model: ScriptedModel
    steps: Sequence[Step]

    def logits(self):
        self.model.settle()
        rows = [row for step in self.steps for row in self.model.rows(step)]
        return np.array(rows, dtype=np.float32).reshape(len(rows), V)


@dataclass
class ScriptedModel:
    """Prefers, at each position of a slot, the id that `script` gives; keeps a log of every call.

    `fails_at` raises at the pass that reaches that length.
    """

    script: Mapping[int, int] = field(default_factory=dict)
    slots: int = 1
    context_length: int = 64
    chunk: int = 4
    features: frozenset = frozenset({"autotune"})
    equal_passes: int = 1
    row_independence: str = "none"
    fails_at: int | None = None
    error: Exception | None = None
    log: list[tuple] = field(default_factory=list)

    def __post_init__(self):
        self.held = [[] for _ in range(self.slots)]
        self.pending = None
        self.autotunes = 0
        self.closed = 0

    @property
    def info(self):
        return ModelInfo(
            V,
            self.context_length,
            self.slots,
            "cpu",
            "none",
            "1",
            chunk=self.chunk,
            features=self.features,
            equal_passes=self.equal_passes,
            row_independence=self.row_independence,
        )

    def forward(self, steps):
        self.settle()
        self.log.append(("forward", tuple((step.slot, tuple(step.tokens), step.rows) for step in steps)))
        self.pending = ScriptedPass(self, steps)
        return self.pending

    def settle(self):
        asked, self.pending = self.pending, None
        if asked is None:
            return
        for step in asked.steps:
            if self.fails_at is not None and len(self.held[step.slot]) + len(step.tokens) >= self.fails_at:
                raise self.error or RuntimeError("the engine broke")
            self.held[step.slot].extend(step.tokens)

    def rows(self, step):
        end = len(self.held[step.slot])
        for position in range(end - step.rows, end):
            row = np.zeros(V, dtype=np.float32)
            row[self.script.get(position + 1, 1)] = 20.0
            yield row

    def rewind(self, slot, length):
        self.settle()
        self.log.append(("rewind", slot, length))
        del self.held[slot][length:]
        return len(self.held[slot])

    def copy(self, source, target, length):
        self.settle()
        self.log.append(("copy", source, target, length))
        self.held[target] = self.held[source][:length]
        return len(self.held[target])

    def autotune(self):
        self.autotunes += 1

    def forget(self):
        """Nothing was measured."""

    def close(self):
        self.closed += 1

    def forwarded(self, slot=0):
        """Every token that was ever asked for in a slot."""
        steps = [step for entry in self.log if entry[0] == "forward" for step in entry[1]]
        return [token for where, tokens, _ in steps for token in tokens if where == slot]


class Letters:
    """A tokenizer: id 0 stops, id n is the n-th letter; `spelling` replaces the bytes of some."""

    def __init__(self, spelling: Mapping[int, bytes] | None = None):
        self.spelling = dict(spelling or {})

    vocab_size = V
    bos_id = None
    adds_bos = False
    stop_ids = frozenset({0})
    special_tokens = {}  # noqa: RUF012  a constant of the protocol

    def encode(self, text, *, parse_special=True):
        return [ord(letter) - ord("a") + 1 for letter in text]

    def control_tokens_in(self, text):
        return []

    def token_bytes(self, token):
        return self.spelling.get(token, b"" if token == 0 else bytes([ord("a") + token - 1]))
