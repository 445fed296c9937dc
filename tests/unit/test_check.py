"""`phiplug.testing.check` gives one result for each conformance test, whatever the backend does."""

from __future__ import annotations

import pytest

from phiplug.errors import BackendNotFound, ModelNotFound
from phiplug.testing import check

PLUGIN = """
import dataclasses, os, sys, time
import phiplug_toy

def load(files, options):
    {instead}
    return phiplug_toy.load(files, options)

def phiplug_register_backends():
    return [dataclasses.replace(phiplug_toy.phiplug_register_backends()[0], load=load)]

phiplug_find_model = phiplug_toy.phiplug_find_model
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes a plugin that does something else when it should load a model."""

    def write(instead: str) -> str:
        (tmp_path / "a_checked_plugin.py").write_text(PLUGIN.format(instead=instead))
        monkeypatch.syspath_prepend(tmp_path)
        return "a_checked_plugin"

    return write


def test_a_sound_backend_passes_every_test_and_what_it_prints_spoils_nothing(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = list(check(plugin("print('{not json'); os.write(1, b'llama')"), "toy"))
    assert not [result for result in results if result.outcome == "failed"]
    assert len({result.test for result in results}) == len(results) > 30
    assert all(result.requirement.endswith(".") and result.seconds >= 0 for result in results)
    details = {result.test: result.detail for result in results}
    assert details["test_split_and_whole_prefill_agree"] == "0 of a row's range apart; 0.02 is declared"
    assert details["test_requests_leak_nothing"].endswith("KiB in 1000 requests")
    assert not (tmp_path / ".hypothesis").exists()


def test_a_backend_that_raises_fails_its_tests_and_not_the_check(plugin):
    results = list(check(plugin("raise ValueError('boom')"), "toy"))
    failed = {result.test: result.detail for result in results if result.outcome == "failed"}
    assert failed == {"test_the_model_loads": "the backend raised ValueError: boom"}
    skipped = {result.detail for result in results if result.outcome == "skipped"}
    assert skipped == {"load() failed, as reported above"}
    assert next(it for it in results if it.test == "test_the_probe_is_quick").outcome == "passed"


def test_a_backend_that_dies_is_the_last_row(plugin):
    *_, last = check(plugin("print('GGML_ASSERT failed', file=sys.stderr); sys.stderr.flush(); os.abort()"), "toy")
    assert (last.outcome, last.detail) == ("failed", "the process ended with SIGABRT: GGML_ASSERT failed")
    assert last.requirement == "load() loads the model."


def test_a_backend_that_hangs_is_given_up(plugin):
    *_, last = check(plugin("time.sleep(60)"), "toy", patience=0.5)
    assert (last.outcome, last.detail) == ("failed", "the process ended with exit code 1: Timeout (0:00:00.500000)!")


def test_the_check_can_be_left_early():
    results = check("toy")
    assert next(results).outcome == "passed"
    results.close()


def test_an_unknown_backend_or_model_is_said_before_anything_runs():
    with pytest.raises(BackendNotFound, match="'nobody' is not installed"):
        next(check("nobody"))
    with pytest.raises(ModelNotFound, match="no model is called 'nothing'"):
        next(check("toy", "nothing"))
