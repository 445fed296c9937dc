"""An answer on a terminal: no escape sequence reaches it, and words move to the next line whole."""

from __future__ import annotations

import re

import pytest

from phiplug.cli.screen import LONGEST_SEQUENCE, EscapeFilter, WordWrap

SEQUENCES = {
    "a colour": "\x1b[31m",
    "a title": "\x1b]0;pwn\x07",
    "a title with ST": "\x1b]0;pwn\x1b\\",
    "a device string": "\x1bP1$r0m\x1b\\",
    "a reset": "\x1bc",
    "a character set": "\x1b(B",
    "an eight-bit colour": "\x9b1;31m",
    "backspaces": "\b\b",
    "a carriage return": "\r",
    "a bell": "\x07",
}


def shown(pieces):
    escapes = EscapeFilter()
    return "".join(map(escapes.feed, pieces)) + escapes.end()


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_a_sequence_is_removed_however_it_is_divided(sequence):
    text = f"one {sequence}two"
    for cut in range(len(text)):
        assert shown([text[:cut], text[cut:]]) == "one two"
    assert shown(text) == "one two"


def test_text_of_any_script_and_its_lines_stay():
    text = "a\tb\nc é 日本語 🙂 \u202bאב"
    assert shown(text) == text


@pytest.mark.parametrize(
    "text", ["\x1b]0;never closed", "\x1b]0;never closed\nnext", "\x1b]" + "x" * LONGEST_SEQUENCE * 2]
)
def test_a_sequence_that_does_not_end_takes_no_text_along(text):
    assert shown(text) == text.replace("\x1b", "")


def on_screen(text, width, size=1):
    """Return the lines that a terminal would show, its own wrapping included."""
    wrap = WordWrap(lambda: width)
    output = "".join(wrap.feed(text[at : at + size]) for at in range(0, len(text), size))
    lines = [""]
    for part in re.findall(r"\x1b\[\d+G\x1b\[K|\n|[^\x1b\n]", output):
        if part == "\n":
            lines.append("")
        elif part.startswith("\x1b"):
            lines[-1] = lines[-1][: int(part[2 : part.index("G")]) - 1]
        elif len(lines[-1]) == width:
            lines.append(part)
        else:
            lines[-1] += part
    return lines


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_word_that_meets_the_edge_moves_to_the_next_line(size):
    assert on_screen("the quick brown fox\njumps", 10, size) == ["the quick ", "brown fox", "jumps"]


def test_a_line_that_fits_exactly_is_left_alone():
    assert on_screen("0123456789\nab cdefghi jk", 10) == ["0123456789", "ab cdefghi", "jk"]


def test_a_word_wider_than_the_terminal_is_left_to_it():
    assert on_screen("https://example.org/path x", 10) == ["https://ex", "ample.org/", "path x"]


def test_code_between_fences_is_left_to_the_terminal():
    assert on_screen("```\nthe quick brown\n```\nthe quick brown", 10) == [
        *("```", "the quick ", "brown", "```"),
        *("the quick ", "brown"),
    ]
    wrap = WordWrap(lambda: 10)
    assert wrap.feed("```\nabc defghijk\n```\n") == "```\nabc defghijk\n```\n"
