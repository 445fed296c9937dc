"""What `phiplug doctor` says of an engine that computes, fails, dies or hangs, and what it does not say."""

import json
import subprocess
from pathlib import Path

import pytest

from phiplug.bench import meters
from phiplug.cli import doctor
from phiplug.errors import NotInstalled
from phiplug.plugins.probe import BackendReport

REPORT = {
    "device": "cpu",
    "model": {"reference": "smollm2", "path": "/somewhere/private.gguf", "metadata": {"features": "AVX2"}},
    "timings": {"load_s": 0.25, "ttft_s": 0.5},
}


def ended(code, out="", err=""):
    return lambda *_, **__: subprocess.CompletedProcess([], code, out, err)


def hung(*_, **__):
    raise subprocess.TimeoutExpired("phiplug", doctor.PATIENCE)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (ended(1, err="a warning\nerror: no memory [OutOfMemory]\n"), "error: no memory [OutOfMemory]"),
        (ended(1), "it gave no reason"),
        (ended(-11), "it was ended by signal 11"),
        (hung, "it gave no token within 120 s"),
    ],
)
def test_an_engine_that_gives_no_token_is_listed_with_the_reason(monkeypatch, run, reason):
    monkeypatch.setattr(doctor.subprocess, "run", run)
    assert doctor._run(BackendReport("b", "d", available=True)) == {"works": False, "reason": reason}


def test_a_token_is_reported_with_what_computed_it_and_no_path(monkeypatch):
    monkeypatch.setattr(doctor.subprocess, "run", ended(0, json.dumps(REPORT)))
    run = doctor._run(BackendReport("b", "d", available=True))
    assert run == {
        "works": True, "device": "cpu", "model": "smollm2", "metadata": {"features": "AVX2"}, "seconds": 0.75,
    }  # fmt: skip


def test_an_engine_that_is_not_here_is_not_run(monkeypatch):
    monkeypatch.setattr(doctor.subprocess, "run", hung)
    assert doctor._run(BackendReport("b", "d", reason="not installed")) is None


def test_paths_do_not_name_the_user():
    assert doctor._without_home(f"{Path.home()}/models/m.gguf is gone") == "~/models/m.gguf is gone"


def test_free_memory_is_unknown_where_nothing_tells(monkeypatch):
    def unknown():
        raise NotInstalled("psutil is not installed")

    monkeypatch.setattr(meters, "free_memory", unknown)
    assert doctor._free_memory() is None
