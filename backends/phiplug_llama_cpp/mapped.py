"""Watches the files that llama.cpp has mapped, since a read beyond the end of a file that was cut ends the process.

The system tells of such a read by SIGBUS, for which Python has no handler that could raise. So the size is looked at
before every pass (0.6 microseconds for each file), and only a cut within a pass is left. It knows nothing of models.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from phiplug.errors import BackendFailed
from phiplug.gguf import Header


class MappedFiles:
    """The files of one model, held open: a file of the same name that takes their place does no harm."""

    def __init__(self, ends: Mapping[Path, int]) -> None:
        """Open the files, but for those that have gone; `ends` has the number of bytes that each must keep."""
        self._files: dict[Path, tuple[int, int]] = {}
        for path, end in ends.items():
            with contextlib.suppress(OSError):
                self._files[path] = os.open(path, os.O_RDONLY), end

    @classmethod
    def of(cls, header: Header) -> MappedFiles:
        """Open all files that hold tensors of a model."""
        ends: dict[Path, int] = {}
        for tensor in header.tensors.values():
            ends[tensor.path] = max(tensor.offset + tensor.nbytes, ends.get(tensor.path, 0))
        return cls(ends)

    def check(self) -> None:
        """Raise BackendFailed if a file is shorter than it must be."""
        for path, (file, end) in self._files.items():
            size = os.fstat(file).st_size
            if size < end:
                raise BackendFailed(
                    f"{path.name} was cut to {size:,} bytes while it was in use, and its weights end at {end:,}",
                    hint="load the model again; replace a file by renaming another, never by writing into it",
                )

    def close(self) -> None:
        """Let go of the files."""
        for file, _ in self._files.values():
            os.close(file)
        self._files = {}
