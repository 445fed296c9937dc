"""Settles how many threads a model uses, before its numbers are measured or its answers must repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.engine.engine import Engine

ROUNDS = 6  # more than any machine has candidates
TOKENS = 32  # of an answer that tells how fast a number of threads is
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)


def settle_threads(engine: Engine, ids: Sequence[int]) -> None:
    """Let a model that chooses its number of threads measure each of them, by short answers to the prompt `ids`."""
    if "autotune" not in engine.model.info.features:
        return
    asked = Request(tuple(ids), GREEDY, max_tokens=TOKENS, ignore_stop_ids=True, reuse=False, may_autotune=True)
    threads = None
    for _ in range(ROUNDS):
        engine.submit(asked).completion()
        if engine.model.info.threads == threads:
            break
        threads = engine.model.info.threads
