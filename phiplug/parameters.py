"""How a token is drawn: the parameters, checked when they are made. docs/sampling.md says what each does.

They know nothing of models or requests. Beside them is the form of a user's own step.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from phiplug import checks
from phiplug.checks import Biases
from phiplug.dialects import OFF, RULES, Dialect, those_with
from phiplug.errors import InvalidParameter, UnsupportedParameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SEED = 2**64  # seeds are uint64; semantics: docs/sampling.md, step 9


class LogitsProcessor(Protocol):
    """A step of the user's own: changes the logits after the penalties and before the temperature.

    Any function of two arguments is one. docs/sampling.md says what it may rely on.
    """

    def __call__(self, ids: Sequence[int], logits: NDArray[np.float32], /) -> NDArray[np.floating[Any]] | None:
        """Return the changed logits, or change them in place and return None.

        Args:
            ids: the prompt and what was drawn after it.
            logits: float32, shape (V,), the processor's to change until it returns; -inf forbids a token.
        """  # Any: how wide the floats are


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is drawn from logits; docs/sampling.md says what each number does, in which order.

    A dialect other than "phiplug" reproduces what another program makes of the same numbers. What it does not have may
    not be set.

    Attributes:
        temperature: divides the logits; below 1e-6 the largest logit wins.
        top_p: the nucleus mass in [0, 1]; 1 is off, 0 keeps one token.
        top_k: how many tokens survive; 0 is off.
        min_p: the least probability, relative to the largest, in [0, 1]; 0 is off.
        repeat_penalty: > 0, applied once to each id of the window; 1 is off.
        repeat_last_n: how many ids the window holds; 0 is off, -1 is the whole history, None is what the dialect has
            (64 in phiplug's own).
        penalize_prompt: whether the prompt counts as history for `repeat_penalty`; None is what the dialect does (it
            does not count in phiplug's own).
        frequency_penalty: subtracted once per occurrence among the sampled tokens.
        presence_penalty: subtracted once for each id among the sampled tokens.
        logit_bias: added to the logits of these ids, before everything else; -inf forbids an id.
        seed: in [0, 2**64), or None for one that `seeded` picks.
        dialect: whose rules hold.
        typical_p: the mass of the most typical tokens in (0, 1]; 1 is off.
        xtc_probability: how often, in [0, 1], the most probable tokens are removed; 0 is off.
        xtc_threshold: how probable, in [0, 0.5], a token is that may be removed.
        top_n_sigma: how many standard deviations below the largest a logit may lie; 0 is off.
        dry_multiplier: scales what is subtracted from a token that would go on with a repetition; 0 is off.
        dry_base: at least 1, what each further repeated token multiplies that by.
        dry_allowed_length: how long a repetition may be for free, at least 1.
        dry_last_n: how far back repetitions are looked for; 0 is off, -1 is the whole history.
        dry_breakers: sequences of ids that no repetition reaches across.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.1
    repeat_last_n: int | None = None
    penalize_prompt: bool | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=Biases)
    seed: int | None = None
    dialect: Dialect = "phiplug"
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    top_n_sigma: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_last_n: int = -1
    dry_breakers: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, (check, limits) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, check(name, value, **limits))
        if self.penalize_prompt is not None:
            checks.flag("penalize_prompt", self.penalize_prompt)
        object.__setattr__(self, "logit_bias", checks.biases(self.logit_bias))
        object.__setattr__(self, "dry_breakers", checks.sequences("dry_breakers", self.dry_breakers))
        self._require_dialect()

    def _require_dialect(self) -> None:
        """Refuse what the dialect does not have, rather than ignore it."""
        if checks.text("dialect", self.dialect) not in RULES:
            raise InvalidParameter("dialect", f"{self.dialect!r} is none of {', '.join(RULES)}")
        rules = RULES[self.dialect]
        for name, off in OFF.items():
            if name in rules.lacks and getattr(self, name) != off:
                hint = f"these have it: {', '.join(those_with(name))}"
                raise UnsupportedParameter(name, f"the {self.dialect} dialect does not have it", hint=hint)
        least, most = rules.windows
        if self.repeat_last_n is not None and not least <= self.repeat_last_n <= most:
            raise UnsupportedParameter("repeat_last_n", f"the {self.dialect} dialect has no {self.repeat_last_n}")
        if self.penalize_prompt is not None and self.penalize_prompt not in rules.scopes:
            raise UnsupportedParameter("penalize_prompt", f"the {self.dialect} dialect always penalizes the prompt")
        if rules.greedy_below is None and self.temperature == 0:
            raise UnsupportedParameter(
                "temperature", f"the {self.dialect} dialect has no 0", hint="`top_k` 1 is greedy"
            )

    @property
    def repeats(self) -> bool:
        """Whether equal requests must have equal answers: a seed is set, or the draw is greedy."""
        return self.seed is not None or RULES[self.dialect].is_greedy(self.temperature)

    def seeded(self) -> SamplingParams:
        """Return these parameters with nothing left open: a seed, theirs or a random one, and the dialect's window."""
        rules = RULES[self.dialect]
        return replace(
            self,
            seed=secrets.randbits(64) if self.seed is None else self.seed,
            repeat_last_n=rules.window if self.repeat_last_n is None else self.repeat_last_n,
            penalize_prompt=rules.prompt_counts if self.penalize_prompt is None else self.penalize_prompt,
        )


_LIMITS: Mapping[str, tuple[Callable[..., float], Mapping[str, float]]] = {
    "temperature": (checks.number, {"low": 0.0}),
    "top_p": (checks.number, {"low": 0.0, "high": 1.0}),
    "top_k": (checks.integer, {"low": 0}),
    "min_p": (checks.number, {"low": 0.0, "high": 1.0}),
    "repeat_penalty": (checks.number, {"above": 0.0}),
    "repeat_last_n": (checks.integer, {"low": -1}),
    "frequency_penalty": (checks.number, {}),
    "presence_penalty": (checks.number, {}),
    "seed": (checks.integer, {"low": 0, "high": MAX_SEED - 1}),
    "typical_p": (checks.number, {"above": 0.0, "high": 1.0}),
    "xtc_probability": (checks.number, {"low": 0.0, "high": 1.0}),
    "xtc_threshold": (checks.number, {"low": 0.0, "high": 0.5}),
    "top_n_sigma": (checks.number, {"low": 0.0}),
    "dry_multiplier": (checks.number, {"low": 0.0}),
    "dry_base": (checks.number, {"low": 1.0}),
    "dry_allowed_length": (checks.integer, {"low": 1}),
    "dry_last_n": (checks.integer, {"low": -1}),
}
"""Parameter -> what checks it, and the limits that it is held to."""

_OPTIONAL = ("repeat_last_n", "seed")
