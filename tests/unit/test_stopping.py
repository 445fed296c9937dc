"""Text ends before the first stop string, however it was cut, and nothing is held back without need."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phiplug.engine.stopping import StopFilter
from phiplug.errors import InvalidParameter


def filtered(pieces, stops):
    stop_filter = StopFilter(stops)
    return "".join(map(stop_filter.feed, pieces)) + stop_filter.flush(), stop_filter.stopped


def by_definition(text, stops):
    """Where the shortest prefix that ends with a stop string is cut; written for clarity, not for speed."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


def cut(text, places):
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


FEW_LETTERS = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=6), max_size=4)
PLACES = st.lists(st.integers(0, 1000), max_size=10)


@given(FEW_LETTERS, STOPS, PLACES)
@example("aabaabaaab", ["aabaaa"], [3, 5])
@example("abcd", ["abcd", "bc"], [])
def test_the_result_is_by_definition_and_does_not_depend_on_the_pieces(text, stops, places):
    assert filtered(cut(text, places), stops) == by_definition(text, stops)


@given(FEW_LETTERS, STOPS)
def test_only_what_could_still_become_a_stop_string_is_held_back(text, stops):
    stop_filter = StopFilter(stops)
    passed = stop_filter.feed(text)
    held = text[len(passed) :]
    if not stop_filter.stopped:
        assert not held or any(stop.startswith(held) for stop in stops)
        assert not any(text.endswith(stop[:n]) for stop in stops for n in range(len(held) + 1, len(stop)))


def test_text_passes_at_once_without_stop_strings():
    assert StopFilter([]).feed("anything") == "anything"


def test_a_stop_string_over_three_pieces_is_cut_with_what_follows():
    assert filtered(["Hello</", "s", ">more"], ["</s>"]) == ("Hello", True)


def test_a_false_start_is_passed_on_when_it_turns_out_to_be_one():
    stop_filter = StopFilter(["</s>"])
    assert [stop_filter.feed(piece) for piece in ("a<", "/s", "x")] == ["a", "", "</sx"]


def test_of_two_stop_strings_the_first_to_be_complete_wins():
    assert filtered(["xabcd"], ["abcd", "bc"]) == ("xa", True)


def test_of_two_that_are_complete_together_the_longer_wins():
    assert filtered(["xab"], ["b", "ab"]) == ("x", True)


def test_a_held_back_tail_is_flushed_when_the_text_ends():
    stop_filter = StopFilter(["STOP"])
    assert stop_filter.feed("go ST") == "go "
    assert stop_filter.flush() == "ST"
    assert not stop_filter.stopped


def test_nothing_comes_after_a_stop_string():
    stop_filter = StopFilter(["."])
    stop_filter.feed("One. Two")
    assert (stop_filter.feed(" Three"), stop_filter.flush()) == ("", "")


def test_an_empty_stop_string_is_refused():
    with pytest.raises(InvalidParameter, match="stop"):
        StopFilter(["x", ""])


def test_characters_outside_the_basic_plane_stop_too():
    assert filtered(["a🦙", "b"], ["🦙b"]) == ("a", True)
