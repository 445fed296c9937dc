"""What a model returns during a pass is checked as what it raises is: each is a typed error that names the backend."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scripted import ScriptedModel, V

from phiplug.engine.backend import GuardedModel
from phiplug.errors import BackendFailed, ContractMismatch, OutOfMemory, RequestError
from phiplug.spi import Step

STEPS = [Step(0, (1, 2))]


def guarded(**changes):
    model = ScriptedModel()
    for name, value in changes.items():
        setattr(model, name, value)
    return GuardedModel(model, "the backend odd")


class Returns:
    """A pass whose logits are what they are."""

    def __init__(self, logits):
        self.logits = lambda: logits


@pytest.mark.parametrize("asked", [None, 5, object()])
def test_a_forward_that_returns_no_pass_is_refused(asked):
    with pytest.raises(ContractMismatch, match=r"backend odd returned .* from forward\(\), which is not a Pass"):
        guarded(forward=lambda _: asked).forward(STEPS)


@pytest.mark.parametrize("logits", [None, [[0.0] * V], np.float32(1)])
def test_logits_that_are_no_array_are_refused(logits):
    with pytest.raises(ContractMismatch, match=r"backend odd returned .* from logits\(\), which is not a NumPy array"):
        guarded().logits(Returns(logits), 1)


@pytest.mark.parametrize(
    "logits",
    [np.zeros((1, V)), np.zeros((2, V), np.float32), np.zeros(V, np.float32), np.zeros((1, V - 1), np.float32)],
)
def test_logits_of_another_type_or_shape_are_refused(logits):
    with pytest.raises(ContractMismatch, match=rf"backend odd returned .* where float32 \(1, {V}\) was promised"):
        guarded().logits(Returns(logits), 1)


@pytest.mark.parametrize("kept", ["5", -5, 10**6, None, True, 1.0])
@pytest.mark.parametrize("verb", ["rewind", "copy"])
def test_a_number_of_tokens_that_cannot_be_is_refused(verb, kept):
    model = guarded(**{verb: lambda *_: kept})
    with pytest.raises(ContractMismatch, match=rf"backend odd returned .* from {verb}\(\), which is not a number"):
        getattr(model, verb)(*((0, 3) if verb == "rewind" else (0, 1, 3)))


@pytest.mark.parametrize(
    ("raised", "error"),
    [(SystemExit(3), BackendFailed), (ValueError("no"), BackendFailed), (MemoryError(), OutOfMemory)],
)
@pytest.mark.parametrize("verb", ["forward", "rewind", "copy", "autotune", "close"])
def test_whatever_a_model_raises_names_the_backend(verb, raised, error):
    def fail(*_):
        raise raised

    arguments = {"forward": (STEPS,), "rewind": (0, 1), "copy": (0, 1, 1)}.get(verb, ())
    with pytest.raises(error, match="backend odd"):
        getattr(guarded(**{verb: fail}), verb)(*arguments)


def test_an_interrupt_within_a_pass_is_the_users():
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(forward=interrupt).forward(STEPS)


def test_a_model_without_the_feature_is_not_asked_to_autotune():
    model = ScriptedModel(features=frozenset())
    GuardedModel(model, "the backend odd").autotune()
    assert model.autotunes == 0


def test_a_closed_model_is_closed_once_and_asked_nothing_more():
    model = ScriptedModel()
    wrapped = GuardedModel(model, "the backend odd")
    wrapped.close()
    wrapped.close()
    assert model.closed == 1
    with pytest.raises(RequestError, match="was closed"):
        wrapped.rewind(0, 0)


def test_a_model_is_not_used_in_another_process(monkeypatch):
    model = guarded()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RequestError, match=r"before os\.fork"):
        model.rewind(0, 0)
