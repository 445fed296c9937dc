"""A backend in plain NumPy: a GGUF of the Llama or Phi-3 family becomes a model in float32.

This file is imported to list the backends, so it imports no NumPy; the rest waits until `load`. Read on in
`transformer` (the model, as the papers have it), `weights` (where a GGUF keeps its parts), `blocks` (how it packs
numbers) and `model` (the contract).
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import version

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl


def probe() -> Probe:
    """Look whether NumPy is installed, without importing it."""
    if importlib.util.find_spec("numpy") is None:
        return Probe(False, reason="numpy is not installed", install="pip install numpy")
    return Probe(True, devices=("cpu",), versions={"numpy": version("numpy")})


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are of the kind that `load` reads."""
    return files.format == "gguf"


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Load the model; see `model.load`."""
    from phiplug_numpy import model

    return model.load(files, options)


@hookimpl
def phiplug_register_backends() -> list[Backend]:
    """Bring the one backend."""
    return [
        Backend(
            name="numpy",
            summary="plain NumPy, float32, Llama and Phi-3: slow, and easy to check",
            probe=probe,
            accepts=accepts,
            load=load,
            default_model="smollm2",
            api=2,
        )
    ]
