"""An installed backend -> the contract's promises, each kept or broken, without writing a test.

The suite runs in a process of its own, so that an engine that crashes or hangs is a row of the table and not the end
of the program that asked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

from phiplug.testing.subject import find_backend, find_files

PATIENCE = 300.0
"""Seconds after which one promise is given up."""


@dataclass(frozen=True, slots=True)
class PromiseResult:
    """What became of one promise.

    Attributes:
        promise: the sentence, as the contract has it.
        test: the name of the test that holds the backend to it.
        outcome: whether it was kept ("passed"), broken, or is no concern of this backend ("skipped").
        detail: what was measured, how the promise broke, or why it was skipped; may be empty.
        seconds: how long it took.
    """

    promise: str
    test: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float


def check(backend: str, model: str | None = None, *, patience: float = PATIENCE) -> Iterator[PromiseResult]:
    """Run the contract on an installed backend and yield each result as it comes.

    Args:
        backend: the name of its entry point, or its plugin's import name.
        model: a model reference, or None for the backend's `default_model`.
        patience: seconds that one promise may take; a backend that hangs for longer fails it and ends the run.

    Raises:
        PluginError: there is no such backend, or it cannot be loaded.
        ModelError: there is no such model.
    """
    find_files(backend, model or find_backend(backend).default_model)
    command = [sys.executable, "-P", "-m", "phiplug.testing", backend, json.dumps(model), str(patience)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(  # noqa: S603  our own interpreter, on a module of ours
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        begun = {"promise": "The contract can be run.", "test": "collection"}
        try:
            for line in child.stdout or ():
                begun, result = _read(line)
                if result:
                    yield result
            if child.wait() != 0 or begun:
                detail = f"the process ended with {_ending(child.returncode)}: {_last_words(log)}"
                yield PromiseResult(**begun, outcome="failed", detail=detail, seconds=0.0)
        finally:
            child.kill()  # it has ended, unless the caller stopped listening


def _read(line: str) -> tuple[dict[str, str], PromiseResult | None]:
    """Take apart one line of `phiplug.testing.__main__`: a promise that is begun, or a result."""
    fields = json.loads(line)
    return ({}, PromiseResult(**fields)) if "outcome" in fields else (fields, None)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_words(log: IO[str]) -> str:
    """Return the last line that a process wrote before it ended, or before Python began to tell where it was."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    ends = [at for at, line in enumerate(lines) if line.startswith(("Fatal Python error", "Timeout ("))]
    said = lines[: ends[0]] if ends else lines
    told = lines[ends[0]] if ends else "it said nothing"
    return (said[-1] if said else told)[:500]
