"""Which backend runs a model when the user names none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from phiplug.errors import BackendUnavailable, ModelUnsupported
from phiplug.plugins.choice import choose, require_engine
from phiplug.spi import Backend, ModelFiles, Probe

FILES = ModelFiles("some.gguf", Path("some.gguf"), "gguf")


def backend(name, *, devices=("cpu",), available=True, kind="gguf"):
    probe = Probe(available, reason="" if available else "no engine", install="pip install it", devices=devices)
    return Backend(name, "a test's", lambda: probe, lambda files: files.format == kind, load=None, api=2)


def broken(name, *, where):
    def fail(*_):
        raise RuntimeError("broken")

    return Backend(
        name, "", fail if where == "probe" else None, fail if where == "accepts" else lambda _: True, None, api=2
    )


def test_a_backend_with_an_accelerator_is_chosen_over_one_without_whatever_the_order():
    backends = [backend("aaa"), backend("zzz", devices=("cuda:0", "cpu")), backend("llama-cpp")]
    assert {choose(order, FILES).name for order in itertools.permutations(backends)} == {"zzz"}


def test_among_equal_hardware_the_documented_preference_decides():
    backends = [backend(name) for name in ("aaa", "mlx", "llama-cpp")]
    assert {choose(order, FILES).name for order in itertools.permutations(backends)} == {"llama-cpp"}


def test_then_the_alphabet_decides():
    assert choose([backend("b"), backend("a"), backend("c")], FILES).name == "a"


def test_a_backend_that_does_not_work_here_is_not_chosen():
    assert choose([backend("llama-cpp", available=False), backend("zzz")], FILES).name == "zzz"


@pytest.mark.parametrize("where", ["probe", "accepts"])
def test_a_backend_that_breaks_when_it_is_asked_is_passed_over(where):
    assert choose([broken("llama-cpp", where=where), backend("zzz")], FILES).name == "zzz"


def test_when_none_works_the_reasons_and_the_command_are_given():
    with pytest.raises(BackendUnavailable, match=r"one: no engine \(pip install it\)"):
        choose([backend("one", available=False)], FILES)


def test_when_none_accepts_the_model_that_is_said():
    with pytest.raises(ModelUnsupported, match=r"no installed backend accepts 'some\.gguf'"):
        choose([backend("one", kind="folder")], FILES)


def test_before_a_model_is_fetched_an_engine_must_work():
    require_engine([backend("one", available=False), backend("two", kind="folder")], "phi")
    with pytest.raises(
        BackendUnavailable, match=r"'phi' is not fetched: one: no engine \(pip install it; then `phiplug mo"
    ):
        require_engine([backend("one", available=False), backend("toy", kind="toy")], "phi")
    with pytest.raises(BackendUnavailable, match=r"none is installed \(pip install 'phiplug\[llama-cpp\]'"):
        require_engine([], "phi")
