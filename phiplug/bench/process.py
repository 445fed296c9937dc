"""A worker's process, seen from the parent: orders go in, answers come out, a death is an error with its last words."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from phiplug.errors import BackendFailed

if TYPE_CHECKING:
    from phiplug.bench.worker import Task

COMMAND = (sys.executable, "-P", "-m", "phiplug.bench.worker")


class WorkerProcess:
    """One `phiplug.bench.worker`. Use it as a context manager: it does not outlive the block.

    Attributes:
        name: of the backend, for errors.
    """

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self._task = task
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115  see close()
        self._process = subprocess.Popen(  # noqa: S603  ourselves
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if task.options.verbose else self._log,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )

    def ask(self, do: str, **order: object) -> dict[str, Any]:  # Any: what JSON holds
        """Give an order and wait for its answer.

        Raises:
            BackendFailed: the worker says that it could not, or has died.
        """
        line = json.dumps({"do": do, "task": asdict(self._task), **order})
        try:
            print(line, file=self._process.stdin, flush=True)
            said = self._process.stdout.readline() if self._process.stdout else ""
        except BrokenPipeError:
            said = ""
        if not said:
            raise BackendFailed(f"{self.name}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(said)
        if "error" in answer:
            raise BackendFailed(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process, whatever it does, and let go of its files."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        how = f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return how + (f": {lines[-1]}" if lines else "")
