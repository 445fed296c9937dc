"""Which backend runs a model when the user names none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from phiplug.errors import BackendUnavailable, ModelUnsupported
from phiplug.plugins.choice import choose, require_engine
from phiplug.spi import Backend, ModelFiles, Probe

FILES = ModelFiles("some.gguf", Path("some.gguf"), "gguf")


def backend(name, *, devices=("cpu",), available=True, kind="gguf", install="pip install it", versions=()):
    probe = Probe(available, "" if available else "no engine", install, devices, dict(versions))
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


def test_when_none_is_installed_the_command_for_the_preferred_one_is_given():
    backends = [backend(name, available=False, install=f"pip install {name}") for name in ("aaa", "mlx", "llama-cpp")]
    for order in itertools.permutations(backends):
        with pytest.raises(
            BackendUnavailable, match=r"^no engine is installed for 'some\.gguf' \(pip install llama-cpp\)$"
        ):
            choose(order, FILES)


def test_what_is_installed_and_does_not_work_comes_first_with_the_reason():
    absent = backend("llama-cpp", available=False)
    without_libgomp = backend("zzz", available=False, install="apt-get install libgomp1", versions={"zzz": "1"})
    with pytest.raises(
        BackendUnavailable, match=r"no engine works here \(zzz: no engine\) for .* \(apt-get install libgomp1\)$"
    ):
        choose([absent, without_libgomp], FILES)
    with pytest.raises(BackendUnavailable, match=r"works here \(own: its probe failed\)"):
        choose([absent, broken("own", where="probe")], FILES)


def test_when_none_accepts_the_model_that_is_said():
    with pytest.raises(ModelUnsupported, match=r"no installed backend accepts 'some\.gguf'"):
        choose([backend("one", kind="folder")], FILES)


def test_before_a_model_is_fetched_an_engine_must_work():
    require_engine([backend("one", available=False), backend("two", kind="folder")], "phi")
    with pytest.raises(
        BackendUnavailable,
        match=r"the engine of one is not installed for 'phi', which .* \(pip install it; then `phiplug",
    ):
        require_engine([backend("one", available=False), backend("toy", kind="toy")], "phi")
    with pytest.raises(BackendUnavailable, match=r"no engine is installed for .*\(pip install 'phiplug\[llama\]'"):
        require_engine([], "phi")
