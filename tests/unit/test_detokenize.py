"""Bytes become text as early as they can, and the same text however they were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.engine.detokenize import Detokenizer


def decoded(pieces):
    detokenizer = Detokenizer()
    return "".join(map(detokenizer.feed, pieces)) + detokenizer.flush()


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


PLACES = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.text(max_size=40), PLACES)
def test_text_survives_being_cut_anywhere(text, places):
    assert decoded(cut(text.encode(), places)) == text


@given(st.binary(max_size=40), PLACES)
def test_any_bytes_give_what_decoding_them_at_once_gives(data, places):
    assert decoded(cut(data, places)) == data.decode("utf-8", "replace")


@given(st.text(max_size=20), st.integers(0, 100))
def test_a_whole_character_is_never_held_back(text, place):
    head = text[: place % (len(text) + 1)]
    assert Detokenizer().feed(head.encode()) == head


def test_an_unfinished_character_waits_for_its_rest():
    detokenizer = Detokenizer()
    assert [detokenizer.feed(piece) for piece in (b"Hi \xf0\x9f", b"\xa6", b"\x99!")] == ["Hi ", "", "🦙!"]


def test_a_tail_that_stays_unfinished_is_flushed_as_one_replacement_character():
    detokenizer = Detokenizer()
    assert detokenizer.feed(b"Hi\xf0\x9f\xa6") == "Hi"
    assert detokenizer.flush() == "\ufffd"


def test_a_byte_that_can_never_be_valid_does_not_wait():
    assert Detokenizer().feed(b"a\xffb") == "a\ufffdb"


def test_leading_spaces_nul_and_byte_order_marks_are_text_like_any_other():
    assert decoded([b" ", b"\x00", b"\xef\xbb\xbf", b"\r", b"\n"]) == " \x00\ufeff\r\n"


def test_a_new_sequence_may_begin_after_flush():
    detokenizer = Detokenizer()
    detokenizer.feed(b"\xf0\x9f")
    detokenizer.flush()
    assert detokenizer.feed(b"ok") == "ok"
    assert detokenizer.flush() == ""


@pytest.mark.parametrize(
    ("pieces", "text"),
    [([b" Hello", b" you"], "Hello you"), ([b"", b" ", b" x"], " x"), ([b"Hello", b" you"], "Hello you"), ([], "")],
)
def test_one_space_at_the_beginning_is_dropped_where_that_is_asked_for(pieces, text):
    detokenizer = Detokenizer(drop_space=True)
    assert "".join(map(detokenizer.feed, pieces)) + detokenizer.flush() == text
    assert decoded(pieces) == b"".join(pieces).decode()
