"""The backend of llama.cpp: GGUF files on the CPU and the GPUs of whatever library of it is installed.

This file is imported to list the backends, so it looks for a library without loading it; `loading.py` and the files
behind it do that. None of them knows of prompts, sampling or text.
"""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl
from phiplug_llama_cpp import providers
from phiplug_llama_cpp.providers import Absent

DEVICES = ("cpu", "cuda", "metal")  # that somebody may ask for

_ACCELERATORS = ("cuda", "metal", "hip", "sycl", "musa", "cann", "vulkan", "opencl")  # ggml's libraries, best first


def probe() -> Probe:
    """Look for a library and for what its build computes on, by the names of its files: no library is loaded."""
    found = providers.find()
    versions = {found.distribution: found.version} if found.distribution else {}
    if isinstance(found, Absent):
        command = found.install or install_command()
        return Probe(available=False, reason=found.reason, install=command, versions=versions)
    return Probe(available=True, devices=_devices(found.path), versions=versions)


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are a GGUF; whether llama.cpp knows its architecture shows at load."""
    return files.format == "gguf"


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Load a GGUF; see `loading.load`."""
    from phiplug_llama_cpp import loading

    return loading.load(files, options)


def install_command(device: str | None = None) -> str:
    """Return the command that installs the engine, built for a device, or for the GPU that this machine shows."""
    wanted = device or ("cuda" if shutil.which("nvidia-smi") else "cpu")  # macOS's wheel has Metal in it
    if wanted == "cpu":
        return f"pip install 'phiplug[{'llama' if _has_wheel() else 'llama-cpp'}]'"
    built = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python 'phiplug[llama-cpp]'"
    return f"CMAKE_ARGS=-DGGML_{wanted.upper()}=on {built}"  # without the options, a wheel of the CPU's would do


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


def _devices(library: Path) -> tuple[str, ...]:
    """Name what a build computes on: it has a library of ggml for each (libggml-cuda.so, ggml-cuda.dll)."""
    beside = [file.name for file in library.parent.glob("*ggml-*")]
    found = [name for name in _ACCELERATORS if any(f"ggml-{name}" in file for file in beside)]
    if not beside and sys.platform == "darwin" and platform.machine() == "arm64":
        found = ["metal"]  # all in one file, as xllamacpp's
    return (*found, "cpu")


def _has_wheel() -> bool:
    """Whether the extra `llama` brings a library that is built already."""
    return sys.platform == "darwin" or (sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"))
