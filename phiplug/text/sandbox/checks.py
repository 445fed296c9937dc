# ruff: noqa: ARG001 - each check has the signature of what it checks, whose names a template may use
"""Checks, before an operation runs, that it does not make much out of little or take long.

Each check is given the arguments of one of Python's or Jinja's functions and raises `BoundExceeded`. A method of a text
and the filter of the same name have one check. This module does not know how templates come to call them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any  # Any: whatever a template computes with

from jinja2.sandbox import SandboxedFormatter

from phiplug.text.sandbox.limits import LIMITS, BoundExceeded, admit, concatenate, reserve

_MAX_WIDTH = 999  # of a field, an indent, a precision
_MAX_INDENT = 100
_MAX_SOUGHT = 1000  # characters; Python may look at all of them for every character of the text

_PERCENT = re.compile(r"%%|%(?:\([^()]*\)|(?P<nested>\())?[-#0 +]*(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?")
_LONG_NUMBER = re.compile(r"\d{4,}")


def multiply(left: Any, right: Any) -> Any:
    """`left * right`, where one may be a text or a list."""
    number, other = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(number, int):
        reserve(number * LIMITS.get().size_of(other) if not isinstance(other, int) else 0)
    return left * right


def power(left: Any, right: Any) -> Any:
    """`left ** right`."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > 2**16:
        raise BoundExceeded("it computes a large power")
    return left**right


def modulo(left: Any, right: Any) -> Any:
    """`left % right`, which for a text on the left is the older of Python's two ways to format."""
    if isinstance(left, str):
        check_percent(left, right)
    return left % right


def check_percent(template: str, values: object) -> None:
    """For `template % values`."""
    fields = list(_PERCENT.finditer(template))
    for field in fields:
        if field["nested"] or "*" in (field["width"], field["precision"]):
            raise BoundExceeded("it formats with a field whose width cannot be told beforehand")
        _check_field(f"{field['width'] or ''} {field['precision'] or ''}")
    uses = len(fields) if isinstance(values, Mapping) else 1  # by name, each field may be the largest value
    reserve(len(template) + len(fields) * _MAX_WIDTH // 10 + LIMITS.get().size_of(values) * uses)


class BoundedFormatter(SandboxedFormatter):
    """`str.format`, without wide fields."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format one value, after the fields within its specification were filled in."""
        _check_field(format_spec)
        return admit(str(super().format_field(value, format_spec)))


def _replace(s: object, old: Any = "", new: Any = "", count: object = None) -> None:
    text, old, new = str(s), str(old), str(new)
    reserve(len(text) + text.count(old) * len(new))


def _join(separator: object, items: object = ()) -> None:
    if isinstance(items, str | list | tuple | dict):
        reserve(LIMITS.get().size_of(items) + len(items) * len(str(separator)))


def _width(value: object, width: Any = 80, *more: object, **others: object) -> None:
    if isinstance(width, int):
        reserve(width)


def _indent(s: object, width: Any = 4, first: object = False, blank: object = False) -> None:
    reserve(len(str(s)) + (1 + len(str(s).splitlines())) * (width if isinstance(width, int) else len(str(width))))


def _sought(text: object, sought: object = None, *more: object, **others: object) -> None:
    sought = others.get("chars", sought)
    if isinstance(sought, str) and len(sought) > _MAX_SOUGHT:
        raise BoundExceeded(f"it looks for more than {_MAX_SOUGHT:,} characters")


def _precision(value: object, precision: Any = 0, method: object = "common") -> None:
    if isinstance(precision, int) and abs(precision) > _MAX_INDENT:
        raise BoundExceeded(f"it rounds to {precision:,} digits")


def _sum(iterable: object, attribute: object = None, start: object = 0) -> None:
    if not isinstance(start, int | float):  # adding up lists copies the first ones again and again
        raise BoundExceeded("it adds up what is not numbers")


CHECKS: Mapping[str, Callable[..., None]] = {
    "indent": _indent, "join": _join, "replace": _replace, "round": _precision, "sum": _sum, "trim": _sought,
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _width),
    **dict.fromkeys(("strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition"), _sought),
}  # fmt: skip


def tojson(
    value: object, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Return `value` as JSON, as transformers' filter of this name does: no escapes for HTML, keys in their order."""
    if (len(indent) if isinstance(indent, str) else indent or 0) > _MAX_INDENT:
        raise BoundExceeded(f"it indents JSON by more than {_MAX_INDENT} characters")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return encoder.encode(value) if indent is None and separators is None else concatenate(encoder.iterencode(value))


def _check_field(specification: str) -> None:
    if _LONG_NUMBER.search(specification):
        raise BoundExceeded(f"it formats with a field wider than {_MAX_WIDTH}")
