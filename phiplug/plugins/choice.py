"""Backends and a model's files -> the one that runs it, when the user named none; no order of things decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from phiplug.errors import BackendUnavailable, ModelUnsupported
from phiplug.spi import Backend, ModelFiles, Probe

ACCELERATORS = ("cuda", "metal", "hip", "rocm", "vulkan", "sycl", "musa", "cann", "opencl")
PREFERRED = ("llama-cpp", "mlx")
"""Among backends of equal hardware, the faster ones on a CPU, as measured; then the alphabet decides."""

T = TypeVar("T")


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
    broken = Probe(available=False, reason="its probe failed")
    probes = {backend.name: _ask(backend.probe, otherwise=broken) for backend in takers}
    working = [backend for backend in takers if probes[backend.name].available]
    if not working:
        reasons = "; ".join(f"{name}: {probe.reason}" for name, probe in probes.items())
        install = next((probe.install for probe in probes.values() if probe.install), None)
        raise BackendUnavailable(f"no backend for {files.reference!r} works here: {reasons}", hint=install)
    return min(working, key=lambda backend: _preference(backend.name, probes[backend.name]))


def require_engine(backends: Sequence[Backend], reference: str) -> None:
    """Check that a model file could run here; asked before one is fetched.

    Raises:
        BackendUnavailable: none of the backends that take model files works here.
    """
    usual = [ModelFiles(reference, Path("model.gguf"), "gguf"), ModelFiles(reference, Path("model"), "folder")]
    takers = [each for each in backends if any(_ask(partial(each.accepts, files), otherwise=True) for files in usual)]
    broken = Probe(available=False, reason="its probe failed")
    probes = {backend.name: _ask(backend.probe, otherwise=broken) for backend in takers}
    if any(probe.available for probe in probes.values()):
        return
    reasons = "; ".join(f"{name}: {probe.reason}" for name, probe in probes.items()) or "none is installed"
    install = next((probe.install for probe in probes.values() if probe.install), "pip install 'phiplug[llama-cpp]'")
    raise BackendUnavailable(
        f"no engine works here, so {reference!r} is not fetched: {reasons}",
        hint=f"{install}; then `phiplug models pull {reference}`, or name a file of yours with -m FILE",
    )


def accepting(backends: Sequence[Backend], files: ModelFiles) -> list[Backend]:
    """Return the backends that take these files, whether they work here or not."""
    return [backend for backend in backends if _ask(partial(backend.accepts, files), otherwise=False)]


def _preference(name: str, probe: Probe) -> tuple[bool, int, str]:
    accelerated = bool(probe.devices) and probe.devices[0].split(":")[0] in ACCELERATORS
    rank = PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)
    return not accelerated, rank, name


def _ask(question: Callable[[], T], *, otherwise: T) -> T:
    """Ask a backend something that should not raise; one that does is passed over."""
    try:
        return question()
    except (Exception, SystemExit):  # noqa: BLE001  the plugin is somebody else's; `phiplug backends` says what is wrong with it
        return otherwise
