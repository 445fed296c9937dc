"""Chooses the backend that runs a model when the user named none; no order of things decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from phiplug.errors import BackendUnavailable, ModelUnsupported, PhiplugError
from phiplug.plugins.backends import accepts, probe
from phiplug.spi import Backend, ModelFiles, Probe

ACCELERATORS = ("cuda", "metal", "hip", "rocm", "vulkan", "sycl", "musa", "cann", "opencl")
PREFERRED = ("llama-cpp", "mlx")
"""Among backends of equal hardware, the faster ones on a CPU, as measured; then the alphabet decides."""


def choose(backends: Sequence[Backend], files: ModelFiles) -> Backend:
    """Choose a backend for a model.

    Of those that accept the files and work here, one whose first device is an accelerator comes first, then those of
    `PREFERRED`, then the alphabet.

    Raises:
        BackendUnavailable: some would accept the model, but none works here.
        ModelUnsupported: none accepts it.
    """
    takers = accepting(backends, files)
    if not takers:
        raise ModelUnsupported(
            f"no installed backend accepts {files.reference!r} ({files.format})", hint="phiplug backends lists them"
        )
    probes = {backend.name: _works(backend) for backend in takers}
    working = [backend for backend in takers if probes[backend.name].available]
    if not working:
        raise BackendUnavailable(f"{_why_none(probes)} for {files.reference!r}", hint=_install(probes))
    return min(working, key=lambda backend: _preference(backend.name, probes[backend.name]))


def require_engine(backends: Sequence[Backend], reference: str) -> None:
    """Check that a model file could run here; asked before one is fetched.

    Raises:
        BackendUnavailable: none of the backends that take model files works here.
    """
    usual = [ModelFiles(reference, Path("model.gguf"), "gguf"), ModelFiles(reference, Path("model"), "folder")]
    takers = [each for each in backends if any(_takes(each, files) for files in usual)]
    probes = {backend.name: _works(backend) for backend in takers}
    if any(found.available for found in probes.values()):
        return
    raise BackendUnavailable(
        f"{_why_none(probes)} for {reference!r}, which is not here either",
        hint=f"{_install(probes)}; then `phiplug run -m {reference} hi` fetches it and answers, "
        "or name a file of yours with -m FILE",
    )


def accepting(backends: Sequence[Backend], files: ModelFiles) -> list[Backend]:
    """Return the backends that take these files, whether they work here or not."""
    return [backend for backend in backends if _takes(backend, files)]


def _why_none(probes: Mapping[str, Probe]) -> str:
    """Say that no engine is installed, or what is wrong with those that are."""
    reasons = [f"{name}: {found.reason}" for name, found in probes.items() if not _is_absent(found)]
    if reasons:
        return f"no engine works here ({'; '.join(reasons)})"
    return f"the engine of {next(iter(probes))} is not installed" if len(probes) == 1 else "no engine is installed"


def _install(probes: Mapping[str, Probe]) -> str:
    """Return the command that helps most: it mends an engine that is installed, or else brings the preferred one."""
    ranked = sorted(probes, key=lambda name: (_is_absent(probes[name]), _preference(name, probes[name])))
    commands = (probes[name].install for name in ranked)
    return next(filter(None, commands), "pip install 'phiplug[llama]'")


def _is_absent(found: Probe) -> bool:
    """Whether an engine is not installed: its probe knows no version and a command that brings it."""
    return bool(found.install) and not found.versions


def _preference(name: str, found: Probe) -> tuple[bool, int, str]:
    accelerated = bool(found.devices) and found.devices[0].split(":")[0] in ACCELERATORS
    rank = PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)
    return not accelerated, rank, name


def _works(backend: Backend) -> Probe:
    """Probe a backend; one whose probe fails does not work, and `phiplug backends` says why."""
    try:
        return probe(backend)
    except PhiplugError:
        return Probe(available=False, reason="its probe failed")


def _takes(backend: Backend, files: ModelFiles) -> bool:
    """Whether a backend takes these files; one that fails at the question does not."""
    try:
        return accepts(backend, files)
    except PhiplugError:
        return False
