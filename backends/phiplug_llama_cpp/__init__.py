"""The backend of llama.cpp: GGUF files through llama-cpp-python's low-level API, on the CPU and the GPUs of its build.

This file is imported to list the backends, so it looks for the engine without importing it; `loading.py` and the files
behind it do that. None of them knows of prompts, sampling or text.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl

OLDEST = (0, 3, 36)  # older ones lay out llama_context_params differently
PACKAGE = "llama-cpp-python"
DEVICES = ("cpu", "cuda", "metal")  # that somebody may ask for

_ACCELERATORS = ("cuda", "metal", "hip", "sycl", "musa", "cann", "vulkan", "opencl")  # ggml's libraries, best first


def probe() -> Probe:
    """Look for llama-cpp-python and for what its build computes on, by the names of its files: no library is loaded."""
    folder = _folder()
    if folder is None:
        return Probe(available=False, reason=f"{PACKAGE} is not installed", install=install_command())
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:  # a copy on the path that no installer put there
        found = "unknown"
    if found != "unknown" and _numbers(found) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        reason = f"{PACKAGE} {found} is older than {oldest}"
        return Probe(available=False, reason=reason, install=install_command(), versions={PACKAGE: found})
    return Probe(available=True, devices=_devices(folder), versions={PACKAGE: found})


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are a GGUF; whether llama.cpp knows its architecture shows at load."""
    return files.format == "gguf"


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Load a GGUF; see `loading.load`."""
    from phiplug_llama_cpp import loading

    return loading.load(files, options)


def install_command(device: str | None = None) -> str:
    """Return the command that installs the engine, built for a device, or for the GPU that this machine shows."""
    extra = "'phiplug[llama-cpp]'"
    built = (
        f"pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python {extra}"  # no wheel of the CPU's
    )
    shown = "cuda" if shutil.which("nvidia-smi") else "metal" if sys.platform == "darwin" else "cpu"
    wanted = device or shown
    return f"pip install {extra}" if wanted == "cpu" else f"CMAKE_ARGS=-DGGML_{wanted.upper()}=on {built}"


@hookimpl
def phiplug_register_backends() -> list[Backend]:
    """The one hook of this plugin."""
    return [
        Backend(
            name="llama-cpp",
            summary="llama.cpp: GGUF files on any CPU, and on the GPUs that its build knows",
            probe=probe,
            accepts=accepts,
            load=load,
            default_model="smollm2",
            api=2,
        )
    ]


def _folder() -> Path | None:
    try:
        spec = importlib.util.find_spec("llama_cpp")
    except ValueError:  # somebody put a module without a spec into sys.modules
        return None
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _devices(folder: Path) -> tuple[str, ...]:
    """Name what a build computes on: it has a library of ggml for each (libggml-cuda.so, ggml-cuda.dll)."""
    libraries = [file.name for file in (folder / "lib").glob("*ggml-*")]
    found = [name for name in _ACCELERATORS if any(f"ggml-{name}" in library for library in libraries)]
    return (*found, "cpu")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
