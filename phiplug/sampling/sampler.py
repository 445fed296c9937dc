"""Draws one token from one row of logits, in the steps that docs/sampling.md numbers.

A `Sampler` belongs to one sequence: it keeps what history is needed, and works in the buffers of a `Row` that it may
share with others of its thread. It knows no engine; any row of float32 will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from phiplug.checks import MAX_FLOAT32
from phiplug.dialects import RULES, WHOLE_HISTORY
from phiplug.errors import InvalidParameter, NonFiniteLogits
from phiplug.sampling.draw import draw
from phiplug.sampling.filters import Filtered, candidates
from phiplug.sampling.noise import COIN, gumbel_max, noise, request_key
from phiplug.sampling.penalties import Window, repeat, subtract
from phiplug.sampling.processors import Processors
from phiplug.sampling.repetition import Repetitions
from phiplug.sampling.row import Row
from phiplug.sampling.stages import Setting, staged_candidates
from phiplug.spi import Draw
from phiplug.types import SamplingParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.parameters import LogitsProcessor


class Sampler:
    """Draws the tokens of one sequence.

    Args:
        params: how; its seed is set.
        prompt: the ids before the first draw.
        sampled: ids drawn before, when a sequence that was cut off goes on.
        row: memory for logits of one width, which samplers of one thread may share; if None, each has its own.
        processors: steps of the user's own.

    Raises:
        InvalidParameter: `params` has no seed.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        sampled: Sequence[int] = (),
        row: Row | None = None,
        processors: Sequence[LogitsProcessor] = (),
    ) -> None:
        if params.seed is None:
            raise InvalidParameter("seed", "is not set", hint="use SamplingParams.seeded()")
        self._params = params.seeded()  # its window and scope are settled too
        self._rules = RULES[params.dialect]
        self._key = request_key(params.seed, prompt)
        self._position = len(prompt) + len(sampled)
        self._row = row
        self._processors = Processors(processors, chain(prompt, sampled))
        self._settle_bias()
        self._settle_history(prompt, sampled)
        self._greedy = self._rules.is_greedy(params.temperature) and not self._rules.greedy_filters
        self._temperature = np.float32(min(params.temperature, MAX_FLOAT32))

    def __call__(self, logits: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None) -> int:
        """Draw the next token from its logits and remember it.

        Args:
            logits: float32, shape (V,); not changed.
            forbidden: shape (V,): the ids that a constraint does not allow.

        Raises:
            NonFiniteLogits: the row, before or after bias and penalties, has NaN, +inf, or nothing but -inf.
            InvalidParameter: a biased or remembered id is not below V.
            LogitsProcessorFailed: a processor raised, or left no logits.
        """
        with np.errstate(all="ignore"):  # what overflows is found by the check for finiteness
            token = self._draw(logits, forbidden)
        self.remember(token)
        return token

    def remember(self, token: int) -> None:
        """Go on as if `token` had been drawn now: what a sequence does that repeats what it drew before."""
        self._position += 1
        self._repeated.add(token)
        self._counted.add(token)
        self._processors.add(token)
        if self._repetitions:
            self._repetitions.add(token)

    def ahead(self, width: int, forbidden: NDArray[np.bool_] | None = None) -> Draw | None:
        """Return the next draw as a value, for a device that guesses it; None where only the host can carry it out.

        Args:
            width: of the row, V.
            forbidden: shape (V,): the ids that a constraint does not allow.
        """
        if self._params.dialect != "phiplug" or self._processors or max(self._highest.values()) >= width:
            return None
        repeated, counted = self._repeated.ids.copy(), self._counted.ids.copy()
        counts = self._counted.counts.copy()
        allowed = None if forbidden is None else forbidden.copy()
        return Draw(self._params, self._key, self._position, repeated, counted, counts, allowed)

    def distribution(self, logits: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None) -> dict[int, float]:
        """Return how probable each token that may be drawn next is; see `probabilities`."""
        ids, shares = self.probabilities(logits, forbidden)
        return dict(zip(ids.tolist(), shares.tolist(), strict=True))

    def probabilities(
        self, logits: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the tokens that may be drawn next and how probable each is; draw nothing and remember nothing.

        Args:
            logits: float32, shape (V,); not changed.
            forbidden: shape (V,): the ids that a constraint does not allow.

        Returns:
            Ids in no special order, each once, and as many probabilities, whose sum is 1.

        Raises:
            NonFiniteLogits: as when it is called.
            InvalidParameter: as when it is called.
        """
        with np.errstate(all="ignore"):
            row = self._row_for(logits)
            row.fill(logits)
            self._adjust(row.x, forbidden)
            if self._greedy:
                return np.array([_largest(row.x)]), np.ones(1)
            ids, t = self._candidates(row)
            weights = np.exp(t.astype(np.float64))
        alive = np.flatnonzero(weights)
        return ids[alive], weights[alive] / weights.sum()

    def _settle_bias(self) -> None:
        bias = self._params.logit_bias
        self._bias_ids = np.fromiter(bias, np.intp, len(bias))
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite: it forbids, or is refused
            self._bias = np.fromiter(bias.values(), np.float32, len(bias))

    def _settle_history(self, prompt: Sequence[int], sampled: Sequence[int]) -> None:
        params, rules = self._params, self._rules
        history = [*prompt, *sampled] if params.penalize_prompt else sampled
        window = params.repeat_last_n if params.repeat_last_n is not None else rules.window
        if window == 0 and rules.zero_window_is_all:
            window = WHOLE_HISTORY
        self._repeated = Window(window if params.repeat_penalty != 1.0 else 0, history)
        counting = params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
        if rules.counts_in_window:
            self._counted = Window(window if counting else 0, history)
        else:
            self._counted = Window(WHOLE_HISTORY if counting else 0, sampled)
        self._repetitions = Repetitions(params, history) if params.dry_multiplier else None
        kept = (self._repeated.ids.tolist(), self._counted.ids.tolist(), history if self._repetitions else ())
        self._highest = {"logit_bias": max(params.logit_bias, default=-1), "prompt": max(chain(*kept), default=-1)}
        self._known_width = -1  # of rows that have been found to hold them

    def _draw(self, logits: NDArray[np.float32], forbidden: NDArray[np.bool_] | None) -> int:
        row = self._row_for(logits)
        if self._greedy and forbidden is None and not self._has_adjustments():
            return _largest(logits)
        row.fill(logits)
        self._adjust(row.x, forbidden)
        if self._greedy:
            return _largest(row.x)
        if self._params.dialect == "phiplug":  # the stages would do too, a good deal slower
            _require_finite(row.apply_temperature(self._temperature))
            return draw(row, self._params, self._key, self._position)
        ids, t = self._candidates(row)
        return int(ids[gumbel_max(self._key, self._position, ids, t)])

    def _candidates(self, row: Row) -> Filtered:
        """Carry out steps 5 to 8, or what the dialect has in their place."""
        if self._params.dialect == "phiplug":
            _require_finite(row.apply_temperature(self._temperature))
            return candidates(row, self._params)
        _require_finite(row.x.max())
        coin = float(noise(self._key, self._position, np.array([COIN]))[0])
        return staged_candidates(row.x, Setting(self._params, self._rules, coin))

    def _row_for(self, logits: NDArray[np.float32]) -> Row:
        width = len(logits)
        if width != self._known_width:
            for name, token in self._highest.items():
                if token >= width:
                    raise InvalidParameter(name, f"token {token} is not in a vocabulary of {width}")
            self._known_width = width
        if self._row is None or len(self._row.x) != width:
            self._row = Row(width)
        return self._row

    def _has_adjustments(self) -> bool:
        seen = len(self._repeated.ids) + len(self._counted.ids)
        return bool(seen or len(self._bias_ids) or self._repetitions or self._processors)

    def _adjust(self, x: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None) -> None:
        """Carry out a constraint, steps 2 to 4 and the user's own, in place.

        One check may follow: what was not finite before is not finite after.
        """
        params = self._params
        _forbid(x, forbidden)
        if len(self._bias_ids):
            x[self._bias_ids] += self._bias
        if len(self._repeated.ids):
            repeat(x, self._repeated.ids, np.float32(params.repeat_penalty))
        if len(self._counted.ids):
            frequency, presence = np.float32(params.frequency_penalty), np.float32(params.presence_penalty)
            subtract(x, self._counted.ids, self._counted.counts, frequency, presence)
        if self._repetitions:
            self._repetitions.penalize(x)
        if self._processors:
            _require_finite(x.max())
            self._processors.apply(x, forbidden)


def sample_rows(samplers: Sequence[Sampler], logits: NDArray[np.float32]) -> list[int]:
    """Draw one token for each sampler from its row of `logits`, exactly as each would draw alone.

    Args:
        samplers: one per row.
        logits: float32, shape (len(samplers), V); not changed.

    Raises:
        NonFiniteLogits: as `Sampler`; rows before that one have then been drawn.
    """
    return [sampler(row) for sampler, row in zip(samplers, logits, strict=True)]


def _forbid(x: NDArray[np.float32], forbidden: NDArray[np.bool_] | None) -> None:
    """Take what a constraint does not allow from the logits, in place, after a check of the untouched ones."""
    if forbidden is not None:
        _require_finite(x.max())
        np.putmask(x, forbidden, np.float32(-np.inf))


def _largest(x: NDArray[np.float32]) -> int:
    """Return the lowest id of the largest logit; NaN counts as the largest."""
    token = int(x.argmax())
    _require_finite(x[token])
    return token


def _require_finite(top: np.float32) -> None:
    """Carry out step 1: the largest logit tells, since NaN counts as the largest."""
    if not np.isfinite(top):
        what = "nothing but -inf" if top == -np.inf else "NaN" if np.isnan(top) else "+inf"
        raise NonFiniteLogits(f"the logits hold {what}, so no token can be drawn from them")
