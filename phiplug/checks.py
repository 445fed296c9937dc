"""Checks of single values: each returns the value in its plain form, or raises `InvalidParameter` with its name.

NumPy's numbers are numbers, and come back as Python's. This file does not know which parameters there are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NoReturn

from phiplug.errors import InvalidParameter, UnsupportedParameter

MAX_ID = 2**31 - 1  # engines hold ids in an int32
DEFAULT_CONTEXT = 4096
"""Tokens of a sequence, if nothing is asked for and the model was trained for as many. All backends here have the same,
for Phi-3 is rotated by its context. Zeroing llama.cpp's cells for SmolLM2 takes 0.03 s for 2048 tokens, 0.06 s for 4096
and 0.12 s for 8192; larger models have up to ten times as many bytes for each token."""
MAX_FLOAT32 = 3.4028234663852886e38  # (2 - 2**-23) * 2**127; logits are float32


class Biases(dict[int, float]):
    """Token id -> what is added to its logit. It cannot be changed, so it can be hashed; JSON takes it as a dict."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict says None
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Biases], tuple[dict[int, float]]]:
        return type(self), (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("biases cannot be changed; replace() the parameters that hold them")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


def number(
    name: str, value: object, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> float:
    """Check for a finite number, low <= value <= high and value > above."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidParameter(name, f"{_shown(value)} is not a number")
    plain = value if isinstance(value, int) else _float(value)
    if not abs(plain) <= sys.float_info.max:  # NaN, infinities, and integers that no float can hold
        raise InvalidParameter(name, f"{_shown(value)} is not a finite number")
    if plain <= above:
        raise InvalidParameter(name, f"{value} must be above {above:g}")
    if not low <= plain <= high:
        raise InvalidParameter(name, f"{value} is outside {_interval(low, high)}")
    return plain


def integer(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Check for an integer, low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidParameter(name, f"{_shown(value)} is not an integer")
    plain = int(value)
    if plain < low or (high is not None and plain > high):
        shown = _shown(plain)
        raise InvalidParameter(name, f"{shown} is outside {_interval(low, math.inf if high is None else high)}")
    return plain


def flag(name: str, value: object) -> bool:
    """Check for true or false."""
    if isinstance(value, bool):
        return value
    raise InvalidParameter(name, f"{_shown(value)} is neither true nor false")


def text(name: str, value: object) -> str:
    """Check for text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidParameter(name, f"{type(value).__name__} is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter(
            name,
            f"character {error.start} is a lone surrogate (U+{ord(value[error.start]):04X}), which nothing can encode",
        ) from None
    return value


def stops(value: object) -> tuple[str, ...]:
    """Check for one stop string or several; none of them may be empty."""
    found = tuple(text("stop", each) for each in ((value,) if isinstance(value, str) else _items("stop", value)))
    if "" in found:
        raise InvalidParameter("stop", "an empty string would stop at once")
    return found


def ids(name: str, value: object) -> tuple[int, ...]:
    """Check for token ids."""
    found = tuple(_items(name, value))
    if not all(type(each) is int and 0 <= each <= MAX_ID for each in found):
        return tuple(integer(name, each, low=0, high=MAX_ID) for each in found)
    return found


def sequences(name: str, value: object) -> tuple[tuple[int, ...], ...]:
    """Check for sequences of token ids; none of them may be empty."""
    found = tuple(ids(name, each) for each in _items(name, value))
    if () in found:
        raise InvalidParameter(name, "an empty sequence of ids makes no sense here")
    return found


def callables(name: str, value: object) -> tuple[Callable[..., Any], ...]:  # Any: nobody knows before the call
    """Check for one function or several."""
    found = (value,) if callable(value) else tuple(_items(name, value))
    for each in found:
        if not callable(each):
            raise InvalidParameter(name, f"{_shown(each)} cannot be called")
    return found


def biases(value: object) -> Biases:
    """Check for numbers by token id; -inf, and what is beyond float32, forbids the token."""
    if type(value) is Biases:
        return value
    if not isinstance(value, Mapping):
        raise InvalidParameter("logit_bias", f"{_shown(value)} does not map token ids to numbers")
    return Biases({integer("logit_bias", token, low=0, high=MAX_ID): _bias(bias) for token, bias in value.items()})


def _bias(value: object) -> float:
    if isinstance(value, Real) and value == -math.inf:
        return -math.inf
    return number("logit_bias", value, high=MAX_FLOAT32)


def _items(name: str, value: object) -> Iterable[Any]:  # Any: whoever asks checks each
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidParameter(name, f"{_shown(value)} is not a list")
    return value


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # a fraction that no float can hold
        return math.inf


def _shown(value: object) -> str:
    """Return a value as Python writes it, cut off where it would fill a screen."""
    if isinstance(value, int) and value.bit_length() > 300:  # Python itself refuses to write the longest
        return f"an integer of {value.bit_length()} bits"
    written = repr(value)
    return written if len(written) <= 100 else f"{written[:99]}…"


def _interval(low: float, high: float) -> str:
    if high == math.inf:
        return f"[{low}, ...)"
    if low == -math.inf:
        return f"(..., {high}]"
    return f"[{low}, {high}]"


def context_length(ctx_size: int | None, trained: int) -> int:
    """Return how many tokens a sequence may have: what is asked for, or else DEFAULT_CONTEXT or what the model allows.

    Raises:
        UnsupportedParameter: more is asked for than the model was trained for.
    """
    if ctx_size is not None and ctx_size > trained:
        reason = f"{ctx_size} tokens are asked for, and the model was trained for {trained}"
        raise UnsupportedParameter("ctx_size", reason)
    return ctx_size or min(trained, DEFAULT_CONTEXT)
