"""Settles what is measured once: how many threads a model uses, and whether its device guesses ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phiplug.errors import GenerationError, UnsupportedParameter
from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.engine.engine import Engine
    from phiplug.spi import Cache, LookaheadMode

ROUNDS = 6  # more than any machine has candidates
TOKENS = 32  # of an answer that tells how fast a number of threads is
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
_WARM = 3  # tokens of the first answer, which also tells how long a pass takes
_SLOW_S = 0.03  # a pass so long waits for the host for a few hundredths of its time at most
_TURNS = 3  # answers with lookahead, and as many without
_MEASURED = 12  # tokens of each
_PAYS = 0.98  # of the time without, to be worth it


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


def settle_lookahead(engine: Engine, mode: LookaheadMode, cache: Cache | None = None, key: str = "") -> None:
    """Turn lookahead on or off; "auto" measures whether it pays, and remembers that under `key` where there is a cache.

    Raises:
        UnsupportedParameter: it has to be on, and the model does not guess.
    """
    can = "guess" in engine.model.info.features
    if mode == "on" and not can:
        raise UnsupportedParameter("lookahead", "this backend's device does not guess", hint="leave it out")
    if mode != "auto" or not can:
        engine.scheduler.lookahead.is_on = mode == "on"
        return
    known = cache.get(key) if cache is not None else None
    pays = known if isinstance(known, bool) else _pays(engine)
    if cache is not None and known is not pays:
        cache.set(key, pays)
    engine.scheduler.lookahead.is_on = pays


def _pays(engine: Engine) -> bool:
    """Measure answers at the default settings, with lookahead and without in turn; what fails does not pay."""
    if engine.model.info.context_length <= _MEASURED:
        return False
    try:
        if _seconds(engine, _WARM, ahead=False) > _SLOW_S:
            return False
        _seconds(engine, _WARM, ahead=True)
        turns = [{ahead: _seconds(engine, _MEASURED, ahead=ahead) for ahead in (False, True)} for _ in range(_TURNS)]
    except GenerationError:
        return False
    return min(turn[True] for turn in turns) < _PAYS * min(turn[False] for turn in turns)


def _seconds(engine: Engine, count: int, *, ahead: bool) -> float:
    """Return the seconds per token of one answer; its prompt, an id at the end of the vocabulary, begins no other."""
    engine.scheduler.lookahead.is_on = ahead
    prompt = (engine.model.info.vocab_size - 1,)
    asked = Request(prompt, SamplingParams(seed=0), max_tokens=count, ignore_stop_ids=True, reuse=False)
    return engine.submit(asked).completion().timings.decode_s / (count - 1)
