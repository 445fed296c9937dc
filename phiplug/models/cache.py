"""A cache on disk for what was measured once: checksums of models, thread counts.

JSON on disk <-> values by key. It knows nothing of what the values mean, and losing it costs only the time to measure
again; so every failure to read or write it is silent.
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

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:  # Any: what JSON holds
        """Return what was remembered under `key`, or None."""
        return self._read().get(key)

    def set(self, key: str, value: Any) -> None:  # Any: what JSON holds
        """Remember a JSON value under `key`; two processes that do so at once may lose one of the two."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._read() | {key: value}, file)
            Path(name).replace(self._path)

    def _read(self) -> dict[str, Any]:  # Any: what JSON holds
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}
