"""How the llama.cpp backend chooses its number of threads, from durations that the tests make up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug_llama_cpp import threads
from phiplug_llama_cpp.threads import ENOUGH, ThreadChoice, candidates, usable_cores


def request(choice: ThreadChoice, seconds: float, passes: int = ENOUGH) -> bool:
    """One request of so many passes; returns whether there is something to remember."""
    for _ in range(passes):
        choice.record(seconds)
    return choice.settle()


def measured(seconds: dict[int, float]) -> ThreadChoice:
    """A choice that has tried each number of threads and found these durations."""
    choice = ThreadChoice(tuple(seconds))
    for _ in seconds:
        request(choice, seconds[choice.choose()])
    choice.choose()
    return choice


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, (1,)), (2, (2, 1)), (3, (3, 2, 1)), (4, (4, 3, 2)), (8, (8, 7, 4))]
)
def test_candidates_are_all_cores_one_less_and_half(cores, expected):
    assert candidates(cores) == expected


def test_without_measurements_all_cores_compute():
    assert ThreadChoice((8, 7, 4)).count == 8


def test_a_request_keeps_its_number_whatever_it_measures():
    choice = ThreadChoice((2, 1))
    request(choice, 5.0)
    assert choice.count == 2


def test_each_candidate_is_tried_for_a_request_and_then_the_fastest_stays():
    choice = ThreadChoice((2, 1))
    used = []
    for _ in range(4):
        used.append(choice.choose())
        request(choice, {2: 0.020, 1: 0.006}[choice.count])
    assert used == [2, 1, 1, 1]


def test_a_request_too_short_to_tell_leaves_its_number_to_the_next_one():
    choice = ThreadChoice((2, 1))
    assert not request(choice, 0.005, passes=ENOUGH - 1)
    assert choice.choose() == 2
    request(choice, 0.005, passes=1)  # together they are enough
    assert choice.choose() == 1


def test_passes_at_one_number_are_not_counted_for_the_next():
    choice = ThreadChoice((2, 1))
    request(choice, 0.005)
    request(choice, 0.005, passes=ENOUGH - 1)
    choice.choose()
    assert not request(choice, 0.006, passes=1)


def test_what_is_forgotten_is_tried_again():
    choice = measured({2: 0.020, 1: 0.006})
    choice.forget()
    assert choice.choose() == 2
    request(choice, 0.005)
    assert choice.choose() == 1


def test_fewer_threads_must_be_clearly_faster():
    assert measured({4: 0.0103, 3: 0.0100}).count == 4
    assert measured({4: 0.0110, 3: 0.0100}).count == 3


def test_one_slow_pass_does_not_decide():
    choice = ThreadChoice((2, 1))
    choice.record(3.0)
    request(choice, 0.005)
    assert choice.seconds[2] == 0.005


def test_passes_less_than_twice_as_slow_change_nothing():
    choice = measured({2: 0.005, 1: 0.006})
    assert not request(choice, 0.0099)
    assert choice.choose() == 2


def test_halved_throughput_measures_all_anew():
    choice = measured({2: 0.005, 1: 0.006})
    assert request(choice, 0.0101)
    assert choice.seconds == {2: 0.0101}
    assert choice.choose() == 1
    request(choice, 0.0065)
    assert choice.choose() == 1


def test_halved_throughput_is_measured_against_the_best_that_was_seen():
    choice = measured({2: 0.008, 1: 0.009})
    request(choice, 0.004)
    request(choice, 0.0079)
    assert choice.seconds[2] == 0.004
    request(choice, 0.0081)
    assert choice.seconds == {2: 0.0081}


def test_a_slightly_faster_pass_is_not_worth_remembering():
    choice = measured({2: 0.0100, 1: 0.02})
    assert not request(choice, 0.0098)
    assert request(choice, 0.0050)


def test_what_was_remembered_is_used_at_once():
    remembered = json.loads(json.dumps(measured({2: 0.020, 1: 0.006}).to_json()))
    assert ThreadChoice((2, 1), remembered).count == 1


def test_half_of_the_measurements_remembered_leaves_the_rest_to_try():
    choice = ThreadChoice((2, 1), {"2": 0.02})
    assert choice.count == 2
    assert choice.choose() == 1


@pytest.mark.parametrize(
    "nonsense", [None, 7, "2", [1], {"2": "fast"}, {"2": 0}, {"2": -1.0}, {"2": float("nan")}, {"9": 0.1}, {2: 0.1}]
)
def test_nonsense_in_place_of_what_was_remembered_counts_as_nothing(nonsense):
    assert ThreadChoice((2, 1), nonsense).count == 2


@given(
    st.integers(1, 64).map(candidates),
    st.lists(st.tuples(st.floats(1e-4, 1.0), st.integers(0, 2 * ENOUGH), st.booleans())),
)
def test_the_number_is_always_a_candidate_and_changes_only_in_choose(among, requests):
    choice = ThreadChoice(among)
    for seconds, passes, may_change in requests:
        before = choice.count
        request(choice, seconds, passes)
        assert choice.count == before
        if may_change:
            assert choice.choose() == choice.count
        assert choice.count in among


@given(st.integers(1, 16).flatmap(lambda n: st.fixed_dictionaries({c: st.floats(1e-4, 1.0) for c in candidates(n)})))
def test_in_a_steady_world_the_choice_is_within_a_twentieth_of_the_best(durations):
    choice = measured(durations)
    assert durations[choice.count] <= threads.WORTH * min(durations.values())


def test_siblings_of_one_core_count_once(tmp_path, monkeypatch):
    cpus = (0, 1, 2, 3)
    for cpu in cpus:
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    monkeypatch.setattr(threads, "_CPUS", tmp_path)
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(cpus), raising=False)
    monkeypatch.setattr(threads.sys, "platform", "linux")
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 2), ("100000 100000", 1), ("max 100000", 4), ("?", 4), ("1 0", 4)]
)
def test_a_container_uses_no_more_cores_than_its_quota(tmp_path, monkeypatch, quota, expected):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(threads, "_CPUS", tmp_path)  # it names no siblings, so each CPU is a core
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads.sys, "platform", "linux")
    assert usable_cores() == expected
