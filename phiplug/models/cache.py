"""Keeps on disk what was measured once: checksums of models, thread counts.

Losing the file costs only the time to measure again, so every failure to read or write it is silent. It does not know
what the values mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


class FileCache:
    """A JSON object in a file, read at each `get` and replaced whole at each `set`."""

    def __init__(self, path: Path | None) -> None:
        """Keep values in the file `path`; without one, keep none."""
        self._path = path

    def get(self, key: str) -> Any:  # Any: what JSON holds
        """Return the value stored under `key`, or None."""
        return self._read().get(key)

    def set(self, key: str, value: Any) -> None:  # Any: what JSON holds
        """Store a JSON value under `key`; of two processes that do so at once, one may lose its value."""
        with contextlib.suppress(OSError, TypeError, ValueError, RecursionError):
            self._write(json.dumps(self._read() | {key: value}))

    def _write(self, text: str) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(self._path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:  # Any: what JSON holds
        if self._path is None:
            return {}
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return values if isinstance(values, dict) else {}
