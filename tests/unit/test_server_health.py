"""When a worker counts as stopped or hanging, and when another try makes sense: no clock decides, so none is read."""

from __future__ import annotations

import pytest

from phiplug.server.worker.health import Circuit, Look, Watch
from phiplug.server.worker.wire import Beat


def verdicts(beats, looks, *, device="cpu", owes=True, seconds=200):
    """Tell a watch every second what `beats(t)` and `looks(t)` say of that second; return when it says what."""
    watch, found = Watch(0.0), []
    watch.loaded(device)
    for second in range(seconds):
        if (beat := beats(second)) is not None:
            watch.beat(beat, float(second))
        stopped, cpu_s = looks(second)
        if verdict := watch.judge(Look(float(second), stopped, cpu_s), owes=owes):
            found.append((second, verdict))
    return found


def busy(second):
    return False, second / 10


def still(second):
    return False, 5.0


def test_a_worker_that_computes_is_well_however_long_its_pass_takes():
    assert verdicts(lambda t: Beat(float(t), 0.1, t / 1000), busy) == []


def test_a_thread_without_processor_time_for_ten_seconds_hangs_once_its_pass_is_twenty_times_the_longest():
    assert verdicts(lambda t: Beat(float(t), 0.1, 3.0), busy)[0] == (10, "hangs")
    assert verdicts(lambda t: Beat(float(t), 2.0, 3.0), busy)[0] == (41, "hangs")


def test_a_worker_that_owes_nothing_may_rest():
    assert verdicts(lambda t: Beat(None, 0.1, 3.0), still) == []
    assert verdicts(lambda t: Beat(float(t), 0.1, 3.0), busy, owes=False) == []


def test_a_silent_worker_is_judged_by_the_clock_of_its_process():
    once = {0: Beat(0.0, 0.1, 3.0)}
    assert verdicts(once.get, busy) == []
    assert verdicts(once.get, still)[0] == (10, "hangs")


def test_where_the_system_has_no_clock_for_a_thread_that_of_the_process_counts():
    assert verdicts(lambda t: Beat(float(t), 0.1, None), busy) == []
    assert verdicts(lambda t: Beat(float(t), 0.1, None), still)[0] == (10, "hangs")


def test_on_an_accelerator_the_age_of_the_pass_alone_decides():
    assert verdicts(lambda t: Beat(float(t), 9.0, t / 10), busy, device="cuda:0")[0] == (60, "hangs")
    assert verdicts(lambda t: Beat(59.0, 0.1, 3.0), still, device="cuda:0") == []


def test_a_stopped_process_is_found_at_the_second_look_whether_it_owes_or_not():
    found = verdicts(lambda t: Beat(None, 0.1, 3.0), lambda t: (t >= 30, 5.0), owes=False)
    assert found[0] == (31, "is stopped")


def test_one_look_at_a_stopped_process_says_nothing():
    assert verdicts(lambda t: Beat(None, 0.1, 3.0), lambda t: (t % 2 == 0, 5.0)) == []


def test_nobody_knows_how_long_loading_may_take():
    watch = Watch(0.0)
    watch.beat(Beat(None, 0.0, 1.0), 0.0)
    assert {watch.judge(Look(float(t), False, 1.0), owes=True) for t in range(100)} == {None}


def test_a_supervisor_that_was_held_up_itself_begins_to_watch_anew():
    watch = Watch(0.0)
    watch.loaded("cpu")
    watch.beat(Beat(1.0, 0.1, 3.0), 0.0)
    assert watch.judge(Look(0.0, False, 5.0), owes=True) is None
    assert watch.judge(Look(1000.0, True, 5.0), owes=True) is None
    watch.beat(Beat(1001.0, 0.1, 3.0), 1000.1)
    assert watch.judge(Look(1000.25, False, 5.0), owes=True) is None
    assert watch.judge(Look(1004.0, False, 5.0), owes=True) is None


def test_three_deaths_in_a_minute_open_the_circuit_for_a_minute():
    circuit = Circuit()
    assert [circuit.died(at) for at in (0.0, 30.0, 59.0)] == [False, False, True]
    assert (circuit.pause(59.0), circuit.pause(100.0), circuit.pause(200.0)) == (60.0, 19.0, 0.0)


def test_deaths_that_lie_apart_do_not():
    circuit = Circuit()
    assert not any(circuit.died(40.0 * index) for index in range(20))
    assert circuit.pause(800.0) == 0.0


@pytest.mark.parametrize(("at", "is_open"), [(130.0, True), (178.0, True), (190.0, False)])
def test_a_trial_that_dies_within_a_minute_opens_it_again(at, is_open):
    circuit = Circuit()
    for death in (0.0, 30.0, 59.0):
        circuit.died(death)
    assert circuit.died(at) == is_open
