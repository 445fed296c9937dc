"""Measurements are let go of in time; the number that they led to stays until others have been tried."""

import pytest

from phiplug_llama_cpp import tuning
from phiplug_llama_cpp.threads import ENOUGH
from phiplug_llama_cpp.tuning import DAY, MINUTES, Tuning

START = 1.8e9


class Memory(dict):
    get = dict.get
    set = dict.__setitem__


@pytest.fixture
def clock(monkeypatch):
    now = {"is": START}
    monkeypatch.setattr(tuning.time, "time", lambda: now["is"])
    return now


def passes(of, seconds):
    for _ in range(ENOUGH):
        of.choice.record(seconds)
    of.learn()


def learnt(memory, of_two, of_one):
    tuned = Tuning((2, 1), memory, "k")
    passes(tuned, of_two)
    assert tuned.choice.choose() == 1
    passes(tuned, of_one)


def test_what_was_measured_is_there_for_the_next_process(clock):
    memory = Memory()
    learnt(memory, 0.01, 0.02)
    assert memory == {"k": {"since": START, "seconds": {"2": 0.01, "1": 0.02}}}
    clock["is"] += DAY - 1
    again = Tuning((2, 1), memory, "k")
    assert (again.choice.count, again.choice.choose()) == (2, 2)


def test_all_cores_being_the_fastest_holds_for_a_day(clock):
    memory = Memory()
    learnt(memory, 0.01, 0.02)
    clock["is"] += DAY
    assert Tuning((2, 1), memory, "k").choice.seconds == {}


def test_fewer_being_faster_holds_for_minutes_as_it_does_beside_a_compiler(clock):
    memory = Memory()
    learnt(memory, 0.02, 0.01)
    clock["is"] += MINUTES - 1
    assert Tuning((2, 1), memory, "k").choice.choose() == 1
    clock["is"] += 1
    tuned = Tuning((2, 1), memory, "k")
    assert tuned.choice.count == 1  # so a request with a seed finds what was found before
    assert tuned.choice.choose() == 2


def test_a_process_that_lives_longer_than_its_measurements_measures_again(clock):
    memory = Memory()
    tuned = Tuning((2, 1), memory, "k")
    passes(tuned, 0.02)
    clock["is"] += DAY
    passes(tuned, 0.03)  # of the time before
    assert memory["k"]["since"] == START
    passes(tuned, 0.01)
    assert memory == {"k": {"since": START + DAY, "seconds": {"2": 0.01}}}


@pytest.mark.parametrize("since", [START + 60, "yesterday", None])
def test_a_time_that_cannot_be_is_as_none(clock, since):
    assert Tuning((2, 1), Memory(k={"since": since, "seconds": {"2": 0.02}}), "k").choice.seconds == {}


def test_prompts_have_all_cores_whatever_single_tokens_have(clock):
    assert Tuning((4, 3, 2), Memory(k={"since": START, "seconds": {"2": 0.01}}), "k").cores == 4


def test_without_a_cache_it_only_learns(clock):
    tuned = Tuning((2, 1), None, "k")
    passes(tuned, 0.02)
    assert tuned.choice.seconds == {2: 0.02}
