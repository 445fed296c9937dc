"""What a plugin is: a hook, and a `Backend` that says what it can do.

This file is imported to list the backends, so it imports nothing heavy; the rest waits until `load`.
"""

from __future__ import annotations

import importlib.util

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl

FORMAT = "gguf"
ENGINE = "numpy"  # the library that computes, as Python imports it


def probe() -> Probe:
    """Look whether the engine is installed; finding it costs no import."""
    if importlib.util.find_spec(ENGINE) is None:
        return Probe(False, reason=f"{ENGINE} is not installed", install=f"pip install {ENGINE}")
    return Probe(True, devices=("cpu",))


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are of the kind that `load` reads."""
    return files.format == FORMAT


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Load the model; see `loading.load`."""
    from phiplug.plugins.templates import gguf

    return gguf.load(files, options)


@hookimpl
def phiplug_register_backends() -> list[Backend]:
    """Bring the one backend."""
    return [
        Backend(
            name="example",
            summary="a new backend",
            probe=probe,
            accepts=accepts,
            load=load,
            api=2,
        )
    ]
