"""Models whose logits are shifted, for the tests of how far two models agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scripted import Letters, ScriptedModel

from phiplug.engine import Engine
from phiplug.llm import LLM
from phiplug.spi import ModelFiles
from phiplug.text.template import ChatTemplate


class Nudged(ScriptedModel):
    """A model whose logits are shifted: by a constant, which means nothing, and at some positions by more."""

    nudge: float = 0.0
    at: tuple[int, ...] = ()

    def rows(self, step):
        end = len(self.held[step.slot])
        for position, row in zip(range(end - step.rows, end), super().rows(step), strict=True):
            row = row + np.float32(3.0)  # noqa: PLW2901  the shift of a whole row
            if position in self.at:
                row[7] += np.float32(self.nudge)
            yield row


def llm(name, *, nudge=0.0, at=(), **model):
    engine_model = Nudged(**model)
    engine_model.nudge, engine_model.at = nudge, at
    files = ModelFiles("letters", Path("letters"), "gguf")
    template = ChatTemplate("{{ messages[0].content }}")
    return LLM(Engine(engine_model, Letters()), template, files=files, backend=name)
