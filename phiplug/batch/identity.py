"""Says what computes a batch: rows have the same text wherever all of this is the same."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from phiplug import __version__
from phiplug.batch.asking import Model
from phiplug.errors import ModelError
from phiplug.models.hub import checksum_of

if TYPE_CHECKING:
    from phiplug.spi import Cache, ModelFiles


class Found(Model, Protocol):
    """A model whose files are here."""

    @property
    def files(self) -> ModelFiles:
        """Where they are."""
        ...


def computed_by(llm: Found, cache: Cache) -> dict[str, Any]:  # Any: texts and numbers
    """Return what the text of a row depends on beside the row; the model's files are hashed once and remembered."""
    info, template = llm.info, llm.prompts.template
    return {
        "phiplug": __version__,
        "model": _model(llm.files, cache),
        "template": None if template is None else _digest(template.source.encode()),
        "backend": llm.backend,
        "version": info.version,
        "device": info.device,
        "quantization": info.quantization,
        "context": info.context_length,
        "threads": info.threads,
        "processor": processor(),
    }


def _model(files: ModelFiles, cache: Cache) -> str:
    try:
        return checksum_of(files, cache)
    except (ModelError, OSError):  # a plugin's own kind of file
        return files.reference


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the machine's name, and on Linux a digest of what its processor can do."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as file:
            abilities = next((line for line in file if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return f"{platform.machine()} {_digest(abilities.partition(':')[2].strip().encode())}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
