"""`python -m phiplug.testing BACKEND MODEL PATIENCE`: the contract, run by pytest; a JSON line for each step of it.

Called by `phiplug.testing.check`, which reads the lines: one when a promise is begun, one when it is decided.
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

from phiplug.testing.check import PromiseResult
from phiplug.testing.promises import BrokenPromise

_TEST = """
from phiplug.testing import BackendContract

class TestBackend(BackendContract):
    backend = {backend!r}
    model = {model!r}
"""
_WITHOUT = ("-pno:cacheprovider", "-pno:terminal", "-s")  # what is written before a crash must not be captured


class Narrator:
    """A plugin of pytest that writes down what is begun and what becomes of it."""

    def __init__(self, out: IO[str], patience: float) -> None:
        self._out = out
        self._patience = patience

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Say which promise is begun, and end the process if it takes for ever."""
        self._say(_name(item))
        faulthandler.dump_traceback_later(self._patience, exit=True)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say what became of it: at the end of the test, or where its fixtures failed or skipped it."""
        report = yield
        if report.when == "call" or not report.passed:
            measured = "; ".join(str(value) for _, value in report.user_properties)
            detail = _said(call.excinfo.value) if call.excinfo else measured
            result = PromiseResult(**_name(item), outcome=report.outcome, detail=detail, seconds=call.duration)
            self._say(asdict(result))
        return report

    def _say(self, fields: dict[str, Any]) -> None:  # Any: what JSON holds
        print(json.dumps(fields), file=self._out, flush=True)


def _name(item: pytest.Item) -> dict[str, str]:
    function = getattr(item, "function", None)
    return {"promise": (getattr(function, "__doc__", None) or item.name).strip(), "test": item.name}


def _said(error: BaseException) -> str:
    if isinstance(error, BrokenPromise):
        return error.detail
    return str(error) if isinstance(error, pytest.skip.Exception) else f"{type(error).__name__}: {error}"


def main(backend: str, model: str | None, patience: float) -> int:
    """Run the contract with nothing of the caller's: no configuration, conftest or plugin of pytest."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out, tempfile.TemporaryDirectory() as folder:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder  # or it would leave one where the user stands
        os.dup2(2, 1)  # an engine that prints must not spoil the lines
        test = Path(folder, "test_contract.py")
        test.write_text(_TEST.format(backend=backend, model=model), encoding="utf-8")
        without = ["--noconftest", f"-c{os.devnull}", f"--rootdir={folder}", *_WITHOUT]
        code = pytest.main([str(test), *without], plugins=[Narrator(out, patience)])
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])))
