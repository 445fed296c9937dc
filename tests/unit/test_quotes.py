"""A message of several lines stands between three quotes."""

from __future__ import annotations

import pytest

from phiplug.cli.quotes import is_open, quoted, whole_messages
from phiplug.cli.slash import ABOUT
from phiplug.transcript import SETTINGS

CASES = {
    "one line": (["hello"], ["hello"]),
    "two lines": (['"""one', 'two"""', "three"], ["one\ntwo", "three"]),
    "quotes on lines of their own": (['"""', "  one", "", "two", '"""  '], ["  one\n\ntwo"]),
    "all on one line": (['"""one"""'], ["one"]),
    "quotes within": (['"""say "hi"', '"""'], ['say "hi"']),
    "no end": (['"""one', "two"], ["one\ntwo"]),
    "quotes at the end alone": (['one"""'], ['one"""']),
    "nothing between": (['""""""'], [""]),
}


@pytest.mark.parametrize("name", CASES)
def test_lines_become_messages(name):
    lines, messages = CASES[name]
    assert [quoted(text) for text in whole_messages(lines)] == messages


@pytest.mark.parametrize(
    ("text", "more"), [('"""', True), ('"""a', True), ('"""a"""', False), ("a", False), ("", False)]
)
def test_enter_begins_a_new_line_while_quotes_are_open(text, more):
    assert is_open(text) is more


def test_there_is_a_word_on_each_setting():
    assert set(ABOUT) == set(SETTINGS)
    assert all(0 < len(word) <= 60 for word in ABOUT.values())
