"""Measurements of a day are gone the next day; the number that they led to stays until others have been tried."""

import pytest

from phiplug_llama_cpp import tuning
from phiplug_llama_cpp.threads import ENOUGH
from phiplug_llama_cpp.tuning import Tuning


class Memory(dict):
    get = dict.get
    set = dict.__setitem__


@pytest.fixture
def today(monkeypatch):
    day = {"is": "2026-03-01"}
    monkeypatch.setattr(tuning.time, "strftime", lambda _: day["is"])
    return day


def passes(of, seconds):
    for _ in range(ENOUGH):
        of.choice.record(seconds)
    of.learn()


def test_what_was_measured_is_there_for_the_next_process_of_the_day(today):
    memory = Memory()
    first = Tuning((2, 1), memory, "k")
    passes(first, 0.02)
    assert first.choice.choose() == 1
    passes(first, 0.01)
    assert memory == {"k": {"day": "2026-03-01", "seconds": {"2": 0.02, "1": 0.01}}}
    again = Tuning((2, 1), memory, "k")
    assert (again.choice.count, again.choice.choose()) == (1, 1)


def test_the_next_day_begins_with_the_number_and_without_the_measurements(today):
    memory = Memory(k={"day": "2026-02-28", "seconds": {"2": 0.02, "1": 0.01}})
    tuned = Tuning((2, 1), memory, "k")
    assert tuned.choice.count == 1  # so a request with a seed finds what it found yesterday
    assert tuned.choice.choose() == 2


def test_a_process_that_lives_past_midnight_measures_again(today):
    memory = Memory()
    tuned = Tuning((2, 1), memory, "k")
    passes(tuned, 0.02)
    today["is"] = "2026-03-02"
    passes(tuned, 0.03)  # of yesterday
    assert memory["k"]["day"] == "2026-03-01"
    passes(tuned, 0.01)
    assert memory == {"k": {"day": "2026-03-02", "seconds": {"2": 0.01}}}


def test_without_a_memo_it_only_learns(today):
    tuned = Tuning((2, 1), None, "k")
    passes(tuned, 0.02)
    assert tuned.choice.seconds == {2: 0.02}
