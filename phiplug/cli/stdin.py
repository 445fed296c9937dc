"""Reads all of standard input, for the commands that take - for a text."""

from __future__ import annotations

import sys

from phiplug.errors import InvalidParameter


def standard_input(name: str) -> str:
    """Return what standard input holds; `name` is the parameter that it stands for.

    Raises:
        InvalidParameter: it is closed, or is no text.
    """
    if sys.stdin is None:  # what Python makes of a closed one
        raise InvalidParameter(name, "standard input is closed")
    try:
        text = sys.stdin.read()
        text.encode()  # in some locales Python reads what is no text as lone surrogates
    except UnicodeError as error:
        raise InvalidParameter(name, f"standard input is not text: {error}") from None
    return text
