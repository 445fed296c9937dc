"""The stage that a user brings along: functions that change the logits before the temperature.

They are called with the ids so far and a row of their own, and what they return is checked, so that one that is wrong
is named and harms no other request. This file knows nothing of models or of how a token is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phiplug.errors import LogitsProcessorFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from phiplug.parameters import LogitsProcessor

_REAL = "fiu"  # numpy's kinds: floating, signed and unsigned


class Processors:
    """The processors of one sequence, called in their order. It is false where there is none."""

    def __init__(self, processors: Sequence[LogitsProcessor], ids: Iterable[int]) -> None:
        """Begin after `ids`, which nothing remembers where there is no processor."""
        self._processors = tuple(processors)
        self._ids = [*ids] if processors else []
        self._own = np.empty(0, np.float32)

    def __bool__(self) -> bool:
        return bool(self._processors)

    def add(self, token: int) -> None:
        """Remember what was drawn."""
        if self._processors:
            self._ids.append(token)

    def apply(self, x: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None) -> None:
        """Change the logits in place; what a constraint forbids stays forbidden.

        Args:
            x: float32, shape (V,), with a largest logit that is finite.
            forbidden: shape (V,): the ids that a constraint does not allow.

        Raises:
            LogitsProcessorFailed: a processor raised, or returned what no token can be drawn from.
        """
        if len(self._own) != len(x):
            self._own = np.empty(len(x), np.float32)  # a processor that keeps its row sees no other request's
        for processor in self._processors:
            self._own[:] = x
            x[:] = _processed(processor, self._ids, self._own[:])
            if forbidden is not None:
                np.putmask(x, forbidden, np.float32(-np.inf))
            _require_finite(processor, x.max())


def _processed(processor: LogitsProcessor, ids: Sequence[int], own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a processor makes of a row, which it may change; None means that it did."""
    width = len(own)
    try:
        returned = processor(ids, own)
        row = own if returned is None else np.asarray(returned)
    except BaseException as error:  # SystemExit too would end all requests; `Stream` raises KeyboardInterrupt anew
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise LogitsProcessorFailed(name_of(processor), f"raised {told}") from error
    if row.shape != (width,):
        shape = "a single value" if row.shape == () else f"shape {row.shape}"
        raise LogitsProcessorFailed(name_of(processor), f"returned {shape}, and the logits are {(width,)}", hint=_HINT)
    if row.dtype.kind not in _REAL:
        raise LogitsProcessorFailed(name_of(processor), f"returned {row.dtype} values, which are no logits", hint=_HINT)
    return row


_HINT = "return the row, or change it in place and return None"


def _require_finite(processor: LogitsProcessor, top: np.float32) -> None:
    """Refuse a row of which no token can be drawn; NaN counts as the largest."""
    if not np.isfinite(top):
        what = "no token that may be drawn" if top == -np.inf else "NaN" if np.isnan(top) else "+inf"
        raise LogitsProcessorFailed(name_of(processor), f"left {what} in the logits")


def name_of(processor: LogitsProcessor) -> str:
    """Return what errors call a processor."""
    return str(getattr(processor, "__name__", type(processor).__name__))
