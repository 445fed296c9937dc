"""When a benchmark has enough rounds, with workers whose times are written down."""

from __future__ import annotations

import itertools
import random
from dataclasses import asdict

import pytest
from measured import HARDWARE, LOADED, MODEL, sample

from phiplug.bench import conduct
from phiplug.bench.conduct import Plan, Session
from phiplug.bench.worker import Task
from phiplug.errors import InvalidParameter

TASK = Task("tiny", prompt_tokens=10, gen_tokens=5)


class Scripted:
    """A worker that takes what time its backend's name says: a number of milliseconds, give or take some."""

    noise = 0.0

    def __init__(self, name, task):
        self.step_s = float(name) / 1000
        self._source = random.Random(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, do, **_order):
        if do == "load":
            return {"loaded": asdict(LOADED), "seconds": 0.01}
        taken = sample(self.step_s * self._source.lognormvariate(0, self.noise))
        return {"sample": asdict(taken), "cpu_s": 0.0, "peak_memory": 1, "device_memory": None}


def test_rounds_rest_between_one_another(measured, monkeypatch):
    rests = []
    monkeypatch.setattr(conduct.time, "sleep", rests.append)
    measured(("10", "20"), 0.0, rounds=3, delay_s=5.0)
    assert rests == [5.0, 5.0]


@pytest.fixture
def measured(monkeypatch):
    """What measures with scripted workers, and returns the run and how often it told of a round."""

    def measure(backends, noise, **how):
        monkeypatch.setattr(conduct, "WorkerProcess", Scripted)
        monkeypatch.setattr(Scripted, "noise", noise)
        told = []
        with Session(Plan(TASK, backends, **how), dict.fromkeys(backends, MODEL), HARDWARE) as session:
            session.prepare()
            session.measure(told.append)
            return session.run(), told

    return measure


def test_without_a_precision_there_are_as_many_rounds_as_were_asked_for(measured):
    run, told = measured(("10", "20"), noise=0.5, rounds=3)
    assert [len(row.samples) for row in run.rows] == [3, 3]
    assert (run.rounds, run.complete, told) == (3, True, [1] * 6)


def test_rounds_go_on_until_the_ratio_is_known_well_enough(measured):
    run, told = measured(("10", "20"), noise=0.1, rounds=8, precision=0.05)
    rounds = len(run.rows[0].samples)
    assert rounds > 8
    assert (run.rounds, run.complete) == (rounds, True)
    assert told == [1] * 16 + [0] * (2 * rounds - 16)  # the bar is full, and what comes after it is told apart
    exact, _ = measured(("10", "20"), noise=0.0, rounds=8, precision=0.05)
    assert len(exact.rows[0].samples) == 8


def test_a_single_engine_has_no_ratio_to_wait_for(measured):
    assert measured(("10",), noise=0.5, rounds=2, precision=0.01)[0].rounds == 2


def test_rounds_end_when_the_time_is_up(measured, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(conduct.time, "perf_counter", lambda: float(next(clock)))
    run, _ = measured(("10", "20"), noise=0.5, rounds=2, precision=0.001, max_s=5.0)
    assert 2 < run.rounds < 20
    assert run.complete


@pytest.mark.parametrize("name", ["precision", "max_s"])
def test_a_limit_that_makes_no_sense_is_refused(name):
    with pytest.raises(InvalidParameter, match=name):
        Plan(TASK, ("10",), **{name: -1.0})


def test_a_percentage_is_read_from_the_command_line(phiplug):
    ran = phiplug("bench", "-b", "toy", "--precision", "much")
    assert ran.code == 2
    assert "precision: 'much' is no percentage (as in 5%)" in ran.err
