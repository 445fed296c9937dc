"""A tokenizer of bytes and control tokens, and a model that says a text: markers in answers are tested with them."""

from __future__ import annotations

import re

import numpy as np

from phiplug.engine import Engine
from phiplug.spi import ModelInfo
from phiplug.types import Request, SamplingParams

STOP = 256


class Marked:
    """The 256 bytes, one stop token, and a control token for each of `controls`."""

    bos_id = None
    adds_bos = False
    stop_ids = frozenset({STOP})
    special_tokens: dict[str, str] = {}  # noqa: RUF012  the protocol's

    def __init__(self, *controls):
        self.controls = {text: STOP + 1 + at for at, text in enumerate(controls)}
        longest_first = sorted(map(re.escape, controls), key=len, reverse=True)
        self._found = re.compile("|".join(longest_first) or "(?!)")

    @property
    def vocab_size(self):
        return STOP + 1 + len(self.controls)

    def encode(self, text, *, parse_special=True):
        if not parse_special:
            return list(text.encode())
        ids, at = [], 0
        for match in self._found.finditer(text):
            ids += [*text[at : match.start()].encode(), self.controls[match[0]]]
            at = match.end()
        return ids + list(text[at:].encode())

    def control_tokens_in(self, text):
        return self._found.findall(text)

    def token_bytes(self, token):
        return bytes([token]) if token < STOP else b""


class Saying:
    """Prefers the ids of a text, one after another, and then the stop token; or no id, where there is no text."""

    def __init__(self, tokenizer, text=None, *, prompt=1, slots=1):
        self.ids = None if text is None else [*tokenizer.encode(text), STOP]
        self.prompt = prompt
        self.info = ModelInfo(tokenizer.vocab_size, 4000, slots, "cpu", "none", "1", chunk=8, row_independence="all")
        self.lengths = [0] * slots

    def forward(self, steps):
        rows = []
        for step in steps:
            self.lengths[step.slot] += len(step.tokens)
            rows += map(self.row, range(self.lengths[step.slot] - step.rows, self.lengths[step.slot]))
        self.rows = np.array(rows, np.float32).reshape(-1, self.info.vocab_size)
        return self

    def logits(self):
        return self.rows

    def row(self, at):
        row = np.random.default_rng(at).normal(0, 2, self.info.vocab_size)
        at -= self.prompt - 1
        if self.ids is not None and 0 <= at < len(self.ids):
            row[self.ids[at]] = 100
        return row

    def rewind(self, slot, length):
        self.lengths[slot] = min(self.lengths[slot], length)
        return self.lengths[slot]

    def copy(self, source, target, length):
        return 0

    def close(self):
        """Nothing is held."""


def chunks(tokenizer, text=None, *, seed=1, max_tokens=3000, **options):
    """Return the chunks of an answer in which the model says a text, or draws at random."""
    engine = Engine(Saying(tokenizer, text), tokenizer)
    return list(engine.submit(Request((1,), SamplingParams(seed=seed), max_tokens=max_tokens, **options)))
