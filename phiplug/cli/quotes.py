"""Reads messages of several lines, which stand between three quotes and three quotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

QUOTES = '"' * 3


def whole_messages(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines, and as one those from a line that begins with three quotes to one that ends with them."""
    open_lines: list[str] = []
    for line in lines:
        open_lines.append(line)
        whole = "\n".join(open_lines)
        if not is_open(whole):
            open_lines.clear()
            yield whole
    if open_lines:
        yield "\n".join(open_lines)


def is_open(text: str) -> bool:
    """Whether more lines belong to a message: it begins with three quotes, and does not end with three more."""
    end = text.rstrip()
    return text.startswith(QUOTES) and (not end.endswith(QUOTES) or len(end) < 2 * len(QUOTES))


def quoted(text: str) -> str:
    """Return a message without the three quotes around it."""
    if not text.startswith(QUOTES):
        return text
    return text.removeprefix(QUOTES).rstrip().removesuffix(QUOTES).strip("\n")
