"""Finds a library of llama.cpp by the names of files: no library of it is loaded, and no package is imported."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

VARIABLE = "PHIPLUG_LIBLLAMA"

UNKNOWN = "unknown"

_OLDEST = {"llama-cpp-python": (0, 3, 36)}  # older ones lay out llama_context_params in ways that are not recorded


@dataclass(frozen=True, slots=True)
class Provider:
    """A library, and who brought it.

    Attributes:
        distribution: "llama-cpp-python", or "libllama" for one that no package of Python brought.
        version: of the distribution; of a libllama, its path.
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
    """Why there is no library.

    Attributes:
        reason: in a few words.
        install: the command that helps, where it is not the one that installs llama.cpp.
        distribution: one that is there and cannot be used, with its `version`.
    """

    reason: str
    install: str = ""
    distribution: str = ""
    version: str = ""


class _Distribution(NamedTuple):
    name: str
    package: str
    libraries: tuple[str, ...]  # patterns, from the folder that the package is in
    needs_openmp: bool = False  # and does not bring it


_DISTRIBUTIONS = (
    _Distribution(
        "llama-cpp-python",
        "llama_cpp",
        tuple(f"llama_cpp/lib/{name}" for name in ("libllama.so", "libllama.dylib", "*llama.dll")),
    ),
    _Distribution("xllamacpp", "xllamacpp", ("xllamacpp/xllamacpp*.so",), needs_openmp=sys.platform == "linux"),
    _Distribution("inferna-cuda12", "inferna", ("inferna_cuda12.libs/libllama*.so*",)),
    _Distribution("inferna-vulkan", "inferna", ("inferna_vulkan.libs/libllama*.so*",)),
)

_SYSTEM_NAMES = ("libllama.dylib",) if sys.platform == "darwin" else ("libllama.so", "libllama.so.0")


def find() -> Provider | Absent:
    """Return the library that the environment names, or else the first one that is installed."""
    named = os.environ.get(VARIABLE)
    if named:
        return _named(Path(named))
    absent = None
    for found in _installed():
        if isinstance(found, Provider):
            return found
        absent = absent or found
    system = next(_system(), None)
    return system or absent or Absent("no library of llama.cpp is installed")


def _named(path: Path) -> Provider | Absent:
    if not path.is_file():
        return Absent(f"{VARIABLE} names {path}, which is no file", install=f"unset {VARIABLE}")
    of_a_package = (found for found in _installed() if isinstance(found, Provider) and found.path.samefile(path))
    return next(of_a_package, None) or Provider("libllama", str(path.absolute()), path.absolute())


def _installed() -> Iterator[Provider | Absent]:
    """Go through the distributions of Python that carry a library."""
    for distribution in _DISTRIBUTIONS:
        path = _library_of(distribution)
        if path is None:
            continue
        found = _version(distribution.name, path)
        oldest = _OLDEST.get(distribution.name, ())
        if found != UNKNOWN and _numbers(found) < oldest:
            reason = f"{distribution.name} {found} is older than {'.'.join(map(str, oldest))}"
            yield Absent(reason, "pip install 'phiplug[llama-cpp]'", distribution.name, found)
        elif distribution.needs_openmp and not _has_openmp():
            reason = f"libgomp.so.1, which {distribution.name} needs, is not installed"
            yield Absent(reason, _openmp_command(), distribution.name, found)
        else:
            yield Provider(distribution.name, found, path)


def _library_of(distribution: _Distribution) -> Path | None:
    try:
        spec = importlib.util.find_spec(distribution.package)
    except ValueError:  # somebody put a module without a spec into sys.modules
        return None
    for folder in (spec and spec.submodule_search_locations) or ():
        for pattern in distribution.libraries:
            path = next(Path(folder).parent.glob(pattern), None)
            if path is not None:
                return path
    return None


def _system() -> Iterator[Provider]:
    """Look where Homebrew, Debian and conda-forge put theirs."""
    architecture = getattr(sys.implementation, "_multiarch", "")
    for folder in (
        f"{sys.prefix}/lib",
        "/opt/homebrew/lib",
        "/usr/local/lib",
        f"/usr/lib/{architecture}",
        "/usr/lib64",
    ):
        for name in _SYSTEM_NAMES:
            path = Path(folder, name)
            if path.is_file():
                yield Provider("libllama", str(path), path)


def _has_openmp() -> bool:
    import ctypes

    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    return True


def _openmp_command() -> str:
    """Return how this system's package manager installs GCC's OpenMP."""
    commands = {"apt-get": "apt-get install libgomp1", "dnf": "dnf install libgomp", "apk": "apk add libgomp"}
    return next((command for tool, command in commands.items() if shutil.which(tool)), "install libgomp.so.1")


@functools.cache
def _version(distribution: str, path: Path) -> str:  # noqa: ARG001  the path makes another installation another entry
    """Read a version once: it takes 2 ms, and every load asks for it."""
    try:
        return version(distribution)
    except PackageNotFoundError:  # a copy on the path that no installer put there
        return UNKNOWN


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
