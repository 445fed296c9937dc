"""Finds a library of llama.cpp by the names of files: nothing is loaded, and no package is imported."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

UNKNOWN = "unknown"

_OLDEST = {"llama-cpp-python": (0, 3, 36)}  # older ones lay out llama_context_params in ways that are not recorded


@dataclass(frozen=True, slots=True)
class Provider:
    """A library, and who brought it.

    Attributes:
        distribution: "llama-cpp-python".
        version: of the distribution, or "unknown".
        path: the library; those of ggml are beside it, or inside.
    """

    distribution: str
    version: str
    path: Path

    @property
    def name(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there is no library; `version` is that of a distribution that is too old."""

    reason: str
    distribution: str = ""
    version: str = ""


class _Distribution(NamedTuple):
    name: str
    package: str
    libraries: tuple[str, ...]  # patterns, from the package's folder


_DISTRIBUTIONS = (
    _Distribution("llama-cpp-python", "llama_cpp", ("lib/libllama.so", "lib/libllama.dylib", "lib/*llama.dll")),
)


def find() -> Provider | Absent:
    """Return the first library of those that are installed."""
    absent = Absent("llama-cpp-python is not installed")
    for distribution in _DISTRIBUTIONS:
        path = _library_of(distribution)
        if path is None:
            continue
        found = _version(distribution.name)
        oldest = _OLDEST.get(distribution.name, ())
        if found == UNKNOWN or _numbers(found) >= oldest:
            return Provider(distribution.name, found, path)
        numbers = ".".join(map(str, oldest))
        absent = Absent(f"{distribution.name} {found} is older than {numbers}", distribution.name, found)
    return absent


def _library_of(distribution: _Distribution) -> Path | None:
    try:
        spec = importlib.util.find_spec(distribution.package)
    except ValueError:  # somebody put a module without a spec into sys.modules
        return None
    for folder in (spec and spec.submodule_search_locations) or ():
        for pattern in distribution.libraries:
            for path in Path(folder).glob(pattern):
                return path
    return None


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a copy on the path that no installer put there
        return UNKNOWN


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
