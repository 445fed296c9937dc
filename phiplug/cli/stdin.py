"""Reads standard input as UTF-8, whatever the locale says: all of it, or line by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

from phiplug.cli.waiting import waiting
from phiplug.errors import InvalidParameter
from phiplug.userfiles import LARGEST, decoded, read_bounded

SOURCE = "standard input"


def standard_input(name: str) -> str:
    """Return what standard input holds; `name` is the parameter that it stands for.

    Raises:
        InvalidParameter: it is closed, is too large, or is no text.
    """
    return decoded(name, read_bounded(_bytes_of(name)), SOURCE)


def piped_input(name: str) -> str:
    """Return what is piped into the command; nothing where a keyboard is at the other end, or nobody.

    Raises:
        InvalidParameter: it is too large, or is no text.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    with waiting("reading standard input, which somebody holds open (</dev/null closes it)"):
        return standard_input(name)


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input.

    Raises:
        InvalidParameter: it is closed, or a line is too long or no text.
    """
    source = _bytes_of("prompt")
    while line := source.readline(LARGEST + 1):
        yield decoded("prompt", line, SOURCE).rstrip("\r\n")


def _bytes_of(name: str) -> BinaryIO:
    if sys.stdin is None:  # what Python makes of a closed one
        raise InvalidParameter(name, f"{SOURCE} is closed")
    return sys.stdin.buffer
