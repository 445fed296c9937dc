# ruff: noqa: ARG001 - each check has the signature of what it checks, whose names a template may use
"""Operations that may make much out of little -> the same operations, once it is known that they do not.

Each function stands in for one of Python's or Jinja's, or checks the arguments of one. How large a result will be is
computed before it is made. This file knows nothing of how templates come to call it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter

from phiplug.text.sandbox.ledger import BoundExceeded, admit, reserve, size_of

_MAX_WIDTH = 999  # of a field in a format
_MAX_INDENT = 100
_MAX_STRIPPED = 1000  # different characters; Python looks through them for every character of the text
_MAX_PRECISION = 100

_PERCENT = re.compile(r"%%|%(?:\([^()]*\)|(?P<nested>\())?[-#0 +]*(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?")
_LONG_NUMBER = re.compile(r"\d{4,}")


def multiply(left: Any, right: Any) -> Any:  # Any: whatever a template multiplies
    """`left * right`, where one may be a text or a list."""
    if isinstance(left, int) and isinstance(right, int):
        reserve(left.bit_length() + right.bit_length())
    elif isinstance(right, int):
        reserve(size_of(left) * right)
    elif isinstance(left, int):
        reserve(left * size_of(right))
    return left * right


def power(left: Any, right: Any) -> Any:  # Any: whatever a template raises to a power
    """`left ** right`."""
    if isinstance(left, int) and isinstance(right, int):
        reserve(left.bit_length() * abs(right))
    return left**right


def modulo(left: Any, right: Any) -> Any:  # Any: whatever a template computes with
    """`left % right`, which for a text on the left is the older of Python's two ways to format."""
    if isinstance(left, str):
        check_percent(left, right)
    return left % right


def check_percent(template: str, values: object) -> None:
    """Raise `BoundExceeded` if `template % values` could be large."""
    fields = 0
    for field in _PERCENT.finditer(template):
        fields += 1
        if field["nested"] or "*" in (field["width"], field["precision"]):
            raise BoundExceeded("it formats with a field whose width cannot be told beforehand")
        _check_width(field["width"] or "")
        _check_width(field["precision"] or "")
    by_name = isinstance(values, Mapping)  # then each field may be the largest value
    reserve(len(template) + fields * _MAX_WIDTH // 10 + size_of(values) * (fields if by_name else 1))


class BoundedFormatter(SandboxedFormatter):
    """`str.format`, without wide fields."""

    def __init__(self, environment: SandboxedEnvironment) -> None:
        super().__init__(environment)

    def format_field(self, value: Any, format_spec: str) -> str:  # Any: whatever a template formats
        """Format one value, after the fields within its specification were filled in."""
        _check_width(format_spec)
        return admit(str(super().format_field(value, format_spec)))


def check_method(method: Callable[..., Any], arguments: Sequence[Any]) -> None:  # Any: whatever a template calls with
    """Raise `BoundExceeded` if calling this method of a text could take long or give much."""
    text = getattr(method, "__self__", None)
    check = _METHODS.get(getattr(method, "__name__", ""))
    if check and isinstance(text, str) and arguments:
        check(text, *arguments)


def check_replace(
    text: object, old: Any = "", new: Any = "", count: object = None
) -> None:  # Any: whatever a template gives
    """For `text.replace(old, new)`."""
    text, old, new = str(text), str(old), str(new)
    reserve(len(text) + text.count(old) * len(new))


def check_join(separator: object, items: object = ()) -> None:
    """For `separator.join(items)`."""
    if isinstance(items, str | list | tuple | dict):
        reserve(size_of(items) + len(items) * len(str(separator)))


def check_width(text: object, width: Any = 80, fill: object = " ") -> None:  # Any: whatever a template gives
    """For `text.center(width)` and its like; 80 is what Jinja's filter takes by itself."""
    if isinstance(width, int):
        reserve(width)


def check_strip(text: object, chars: object = None) -> None:
    """For `text.strip(chars)`."""
    if isinstance(chars, str) and len(chars) > _MAX_STRIPPED:
        raise BoundExceeded(f"it strips more than {_MAX_STRIPPED:,} different characters")


def check_indent(
    s: object, width: Any = 4, first: object = False, blank: object = False
) -> None:  # Any: whatever a template gives
    """For Jinja's filter `indent`, in which a width is a number or a text."""
    reserve(len(str(s)) + (1 + len(str(s).splitlines())) * _length_of(width))


def check_round(value: object, precision: Any = 0, method: object = "common") -> None:  # Any: whatever a template gives
    """For Jinja's filter `round`, which raises 10 to the power of the precision."""
    if isinstance(precision, int) and abs(precision) > _MAX_PRECISION:
        raise BoundExceeded(f"it rounds to {precision:,} digits")


def check_sum(iterable: object, attribute: object = None, start: object = 0) -> None:
    """For Jinja's filter `sum`; adding up lists copies the first ones again and again."""
    if not isinstance(start, int | float):
        raise BoundExceeded("it adds up something else than numbers")


def tojson(
    value: object,
    ensure_ascii: bool = False,  # transformers' signature
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return `value` as JSON, as transformers' filter of this name does: no escapes for HTML, keys in their order."""
    if indent is not None and _length_of(indent) > _MAX_INDENT:
        raise BoundExceeded(f"it indents JSON by more than {_MAX_INDENT} characters")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if indent is None and separators is None:
        return encoder.encode(value)
    pieces, length = [], 0
    for piece in encoder.iterencode(value):
        length += len(piece)
        reserve(length)
        pieces.append(piece)
    return "".join(pieces)


class _Check(Protocol):
    def __call__(self, text: object, /, *arguments: Any) -> None: ...  # Any: whatever a template gives


_METHODS: Mapping[str, _Check] = {
    "replace": check_replace,
    "join": check_join,
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), check_width),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), check_strip),
}


def _check_width(specification: str) -> None:
    if _LONG_NUMBER.search(specification):
        raise BoundExceeded(f"it formats with a field wider than {_MAX_WIDTH}")


def _length_of(width: object) -> int:
    if isinstance(width, int):
        return max(0, width)
    return len(width) if isinstance(width, str) else 0
