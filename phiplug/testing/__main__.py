"""`python -m phiplug.testing SELECTION`: runs the conformance tests with pytest and prints JSON, a line for each event.

`phiplug.testing.check` calls it and reads the lines: one when a test starts, one when it ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import tempfile
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import pytest

from phiplug.plugins.frames import plugin_traceback
from phiplug.testing.check import CheckResult, Selection
from phiplug.testing.violation import ContractViolation

_TEST = """
from phiplug.testing import BackendContract

class TestBackend(BackendContract):
    backend = {backend!r}
    model = {model!r}
"""
_WITHOUT = ("-pno:cacheprovider", "-pno:terminal", "-s")  # what is written before a crash must not be captured


class Reporter:
    """A plugin of pytest that writes a line when a test starts, and one when it ends."""

    def __init__(self, out: IO[str], patience: float) -> None:
        self._out = out
        self._patience = patience

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Write that a test starts, and end the process if it never does."""
        self._write(_name(item))
        faulthandler.dump_traceback_later(self._patience, exit=True)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write the result: at the end of the test, or where its fixtures failed or skipped it."""
        report = yield
        if report.when == "call" or not report.passed:
            self._write(asdict(_result(item, call, report)))
        return report

    def _write(self, fields: dict[str, Any]) -> None:  # Any: what JSON holds
        print(json.dumps(fields), file=self._out, flush=True)


def _result(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> CheckResult:
    detail = "; ".join(str(value) for _, value in report.user_properties)
    traceback = ""
    if call.excinfo:
        detail = _explanation(call.excinfo.value)
        traceback = plugin_traceback(call.excinfo.value) if report.failed else ""
    return CheckResult(**_name(item), outcome=report.outcome, detail=detail, seconds=call.duration, traceback=traceback)


def _name(item: pytest.Item) -> dict[str, str]:
    function = getattr(item, "function", None)
    return {"requirement": (getattr(function, "__doc__", None) or item.name).strip(), "test": item.name}


def _explanation(error: BaseException) -> str:
    if isinstance(error, ContractViolation):
        return error.detail
    return str(error) if isinstance(error, pytest.skip.Exception) else f"{type(error).__name__}: {error}"


def main(selection: Selection) -> int:
    """Run the tests with nothing of the caller's: no configuration, conftest or plugin of pytest."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out, tempfile.TemporaryDirectory() as folder:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder  # or it would leave one in the user's working directory
        os.dup2(2, 1)  # an engine that prints must not spoil the lines
        file = Path(folder, "test_contract.py")
        file.write_text(_TEST.format(backend=selection.backend, model=selection.model), encoding="utf-8")
        which = f"{file}::TestBackend::{selection.test}" if selection.test else str(file)
        options = ["--noconftest", f"-c{os.devnull}", f"--rootdir={folder}", *_WITHOUT]
        options += ["--exitfirst"] if selection.stop_first else []
        code = pytest.main([which, *options], plugins=[Reporter(out, selection.patience)])
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED) else int(code)


if __name__ == "__main__":
    sys.exit(main(Selection(**json.loads(sys.argv[1]))))
