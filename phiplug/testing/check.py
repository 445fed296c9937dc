"""Runs the conformance tests on an installed backend, for those who have not written a test class.

The tests run in a process of their own, so that an engine that crashes or hangs is one failed test and not the end of
the program that called `check`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import IO, Literal

from phiplug.errors import InvalidParameter
from phiplug.testing.contract import BackendContract
from phiplug.testing.fixtures import find_backend, find_files

PATIENCE = 300.0
"""Seconds after which a test is given up."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What became of one conformance test.

    Attributes:
        requirement: the sentence of the contract that it tests.
        test: its name.
        outcome: "skipped" where the requirement does not apply to this backend.
        detail: what was measured, how the requirement is violated, or why the test was skipped; may be empty.
        seconds: how long it took.
        traceback: the frames of the backend's own code, where it raised; may be empty.
    """

    requirement: str
    test: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What the child process runs; it travels as JSON.

    Attributes:
        backend: the name of its entry point, or its plugin's import name.
        model: a model reference, or None for the backend's `default_model`.
        patience: seconds that one test may take.
        test: the name of the only test to run, or None for all.
        stop_first: end after the first failure.
    """

    backend: str
    model: str | None = None
    patience: float = PATIENCE
    test: str | None = None
    stop_first: bool = False


def check(
    backend: str,
    model: str | None = None,
    *,
    patience: float = PATIENCE,
    test: str | None = None,
    stop_first: bool = False,
) -> Iterator[CheckResult]:
    """Run the conformance tests on an installed backend and yield each result as it comes.

    Args:
        backend: the name of its entry point, or its plugin's import name.
        model: a model reference, or None for the backend's `default_model`.
        patience: seconds that one test may take; a backend that hangs for longer fails it and ends the run.
        test: the name of the only test to run, or None for all.
        stop_first: end after the first failure.

    Raises:
        PluginError: there is no such backend, or it cannot be loaded.
        ModelError: there is no such model.
        InvalidParameter: there is no such test.
    """
    _require_test(test)
    find_files(backend, model or find_backend(backend).default_model)
    selection = Selection(backend, model, patience, test, stop_first)
    command = [sys.executable, "-P", "-m", "phiplug.testing", json.dumps(asdict(selection))]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(  # noqa: S603  our own interpreter, on a module of ours
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        started = {"requirement": "The conformance tests can be run.", "test": "collection"}
        try:
            for line in child.stdout or ():
                started, result = _read(line)
                if result:
                    yield result
            if child.wait() != 0 or started:
                detail = f"the process ended with {_ending(child.returncode)}: {_last_words(log)}"
                yield CheckResult(**started, outcome="failed", detail=detail, seconds=0.0)
        finally:
            child.kill()  # it has ended, unless the caller stopped listening


def _require_test(test: str | None) -> None:
    names = [name for name in dir(BackendContract) if name.startswith("test_")]
    if test is not None and test not in names:
        close = get_close_matches(test, names, n=1)
        hint = f"did you mean {close[0]}?" if close else "the table of failures names them"
        raise InvalidParameter("test", f"no conformance test is called {test!r}", hint=hint)


def _read(line: str) -> tuple[dict[str, str], CheckResult | None]:
    """Read one line of `phiplug.testing.__main__`: a test that has started, or a result."""
    fields = json.loads(line)
    return ({}, CheckResult(**fields)) if "outcome" in fields else (fields, None)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_words(log: IO[str]) -> str:
    """Return the last line that a process wrote before it ended, or before Python began to dump its stack."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    ends = [at for at, line in enumerate(lines) if line.startswith(("Fatal Python error", "Timeout ("))]
    said = lines[: ends[0]] if ends else lines
    told = lines[ends[0]] if ends else "it said nothing"
    return (said[-1] if said else told)[:500]
