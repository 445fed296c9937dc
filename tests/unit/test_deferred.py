"""Tests passes that begin when they are read: each takes effect once, and a failure is not repeated by what follows."""

from __future__ import annotations

import numpy as np
import pytest

from phiplug.deferred import DeferredPasses
from phiplug.errors import BackendFailed, OutOfMemory
from phiplug.spi import Step

STEPS = [Step(0, (1, 2))]


class Counting:
    """Counts what it computes; fails where it is told to."""

    def __init__(self):
        self.computed = 0
        self.fails = False

    def __call__(self, steps):
        self.computed += 1
        if self.fails:
            raise OutOfMemory("no room")
        return np.full((1, 4), self.computed, np.float32)


@pytest.fixture
def engine():
    return Counting()


def test_nothing_is_computed_before_a_pass_is_read_and_reading_twice_computes_once(engine):
    asked = DeferredPasses(engine).ask(STEPS)
    assert engine.computed == 0
    assert asked.logits() is asked.logits()
    assert engine.computed == 1
    assert not asked.logits().flags.writeable


def test_an_unread_pass_is_computed_before_what_comes_next(engine):
    passes = DeferredPasses(engine)
    first = passes.ask(STEPS)
    passes.ask(STEPS)
    assert engine.computed == 1
    assert first.logits()[0, 0] == 1


def test_settling_computes_only_what_nobody_has_read(engine):
    passes = DeferredPasses(engine)
    passes.ask(STEPS).logits()
    passes.settle()
    passes.settle()
    assert engine.computed == 1


def test_a_failure_is_told_once_and_what_comes_next_goes_on(engine):
    passes, engine.fails = DeferredPasses(engine), True
    asked = passes.ask(STEPS)
    with pytest.raises(OutOfMemory):
        asked.logits()
    with pytest.raises(BackendFailed, match="failed before"):
        asked.logits()
    passes.settle()
    engine.fails = False
    assert passes.ask(STEPS).logits()[0, 0] == 2


def test_an_unread_pass_that_fails_tells_whoever_comes_next(engine):
    passes, engine.fails = DeferredPasses(engine), True
    passes.ask(STEPS)
    with pytest.raises(OutOfMemory):
        passes.settle()
    passes.settle()


def test_a_closed_model_computes_nothing(engine):
    passes = DeferredPasses(engine)
    asked = passes.ask(STEPS)
    passes.close()
    with pytest.raises(BackendFailed, match="closed"):
        asked.logits()
    assert engine.computed == 0
