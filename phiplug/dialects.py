"""What the same sampling parameters mean elsewhere, as data: order, windows, ties, and what 0 and 1 stand for.

A dialect changes which tokens survive and with what probability; the draw stays phiplug's. `phiplug.sampling` reads
these rules and has no branch that names a peer. docs/sampling.md explains them; they were read in, or measured on,
candle-transformers of August 2026, llama.cpp as in llama-cpp-python 0.3.36, mlx-lm 0.32.2 and transformers 5.23.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Dialect = Literal["phiplug", "candle", "llama.cpp", "mlx-lm", "hf"]
Stage = Literal["temperature", "top_k", "top_p", "min_p", "typical", "xtc", "top_n_sigma"]

WHOLE_HISTORY = -1
"""The `repeat_last_n` that reaches back to the beginning."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How one dialect reads the parameters.

    Attributes:
        stages: what follows bias and penalties, in order.
        lacks: the parameters that it does not have.
        window: `repeat_last_n` where none is given.
        windows: the least and the largest `repeat_last_n`.
        zero_window_is_all: a window of 0 is the whole history instead of none of it.
        prompt_counts: `penalize_prompt` where none is given.
        scopes: the values that `penalize_prompt` may have.
        counts_in_window: frequency and presence look at the window and scope of `repeat_penalty`, instead of at all
            sampled tokens.
        greedy_below: a temperature below this is greedy; None where it must be positive.
        greedy_filters: a greedy draw goes through the stages, so that one of them may remove the largest.
        zero_top_p_is_off: a `top_p` of 0 keeps all instead of one.
        renormalizes: the mass that `top_p` looks at is that of the candidates left, instead of that of all ids.
        keeps_ties: stages that keep all ids that tie with the last one they keep.
        min_p_of_logits: `min_p` compares float32 logits with max + ln(min_p), instead of probabilities.
        typical_beyond: `typical_p` wants more than the mass, instead of at least.
        xtc_beyond: `xtc_threshold` wants more than the threshold, instead of at least.
        top_k_below_width: a `top_k` that is not below the size of the vocabulary is refused.
    """

    stages: tuple[Stage, ...]
    lacks: frozenset[str]
    window: int = 64
    windows: tuple[int, float] = (0, math.inf)
    zero_window_is_all: bool = False
    prompt_counts: bool = False
    scopes: frozenset[bool] = frozenset((True, False))
    counts_in_window: bool = True
    greedy_below: float | None = math.ulp(0.0)
    greedy_filters: bool = False
    zero_top_p_is_off: bool = False
    renormalizes: bool = True
    keeps_ties: frozenset[Stage] = frozenset()
    min_p_of_logits: bool = False
    typical_beyond: bool = False
    xtc_beyond: bool = False
    top_k_below_width: bool = False

    def is_greedy(self, temperature: float) -> bool:
        """Whether a draw at this temperature is no draw."""
        return self.greedy_below is not None and temperature < self.greedy_below


OFF: Mapping[str, object] = MappingProxyType(
    {
        "logit_bias": {},
        "min_p": 0.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "typical_p": 1.0,
        "xtc_probability": 0.0,
        "xtc_threshold": 0.1,
        "top_n_sigma": 0.0,
        "dry_multiplier": 0.0,
        "dry_base": 1.75,
        "dry_allowed_length": 2,
        "dry_last_n": -1,
        "dry_breakers": (),
    }
)
"""The parameters that not every dialect has, with the value that they have when nobody sets them."""

_XTC = ("xtc_probability", "xtc_threshold")
_DRY = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_last_n", "dry_breakers")

RULES: Mapping[Dialect, Rules] = MappingProxyType(
    {
        "phiplug": Rules(
            stages=("temperature", "top_k", "top_p", "min_p"),
            lacks=frozenset(("typical_p", "top_n_sigma", *_XTC, *_DRY)),
            windows=(WHOLE_HISTORY, math.inf),
            counts_in_window=False,
            greedy_below=1e-6,
        ),
        "candle": Rules(
            stages=("temperature", "top_k", "top_p"),
            lacks=frozenset(OFF),
            greedy_below=1e-7,
            zero_top_p_is_off=True,
            renormalizes=False,
        ),
        "llama.cpp": Rules(
            stages=("top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc", "temperature"),
            lacks=frozenset(),
            prompt_counts=True,
            greedy_filters=True,
            min_p_of_logits=True,
            typical_beyond=True,
        ),
        "mlx-lm": Rules(
            stages=("top_p", "min_p", "xtc", "top_k", "temperature"),
            lacks=frozenset(("typical_p", "top_n_sigma", *_DRY)),
            window=20,
            zero_window_is_all=True,
            prompt_counts=True,
            scopes=frozenset((True,)),
            zero_top_p_is_off=True,
            keeps_ties=frozenset(("top_p", "xtc")),
            min_p_of_logits=True,
            xtc_beyond=True,
            top_k_below_width=True,
        ),
        "hf": Rules(
            stages=("temperature", "top_k", "top_p", "min_p", "typical"),
            lacks=frozenset(("frequency_penalty", "presence_penalty", "top_n_sigma", *_XTC, *_DRY)),
            window=WHOLE_HISTORY,
            windows=(WHOLE_HISTORY, WHOLE_HISTORY),
            prompt_counts=True,
            greedy_below=None,
            keeps_ties=frozenset(("top_k", "typical")),
        ),
    }
)


def those_with(name: str) -> list[Dialect]:
    """Return the dialects that have the parameter `name`."""
    return [dialect for dialect, rules in RULES.items() if name not in rules.lacks]
