"""Text that is not ours cannot move the cursor, reverse what is read, or fill the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import ModelCorrupt
from phiplug.printable import LONGEST, printable, spelt_out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;PWNED\x07\x1b[31mRED", r"\x1b]0;PWNED\x07\x1b[31mRED"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff", r"\udcff"),
        ("two\nlines\tand more", "two lines and more"),
        ("\u30de\u30a4\u3000\u30e2\u30c7\u30eb", "\u30de\u30a4\u3000\u30e2\u30c7\u30eb"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("[/bold] stays", "[/bold] stays"),
    ],
)
def test_control_characters_are_spelt_out_and_all_others_stay(text, shown):
    assert printable(text) == shown


def test_the_middle_of_a_long_text_is_left_out():
    shown = printable("a" * 200_000 + "z")
    assert len(shown) == LONGEST
    assert shown.startswith("aaa")
    assert shown.endswith("aaz")
    assert "a...a" in shown


@given(st.text())
def test_no_text_reaches_a_terminal_with_control_characters(text):
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in printable(text))


def test_some_characters_may_be_kept():
    assert spelt_out("a\n\x1b", keep="\n") == "a\n\\x1b"


def test_an_error_is_one_line_whatever_its_cause_says():
    error = ModelCorrupt("the tensor \x1b[2J\nis odd", hint="see \x07")
    assert str(error) == r"the tensor \x1b[2J is odd (see \x07)"
