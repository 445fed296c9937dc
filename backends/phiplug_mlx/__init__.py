"""The MLX backend: GGUF files and Hugging Face or MLX folders, on Metal, CUDA or the CPU.

This file is imported to list the backends, so it imports no mlx. The rest, in reading order: `model` fulfils the
contract of `phiplug.spi` with a module of mlx-lm and the caches of `slots`. `gguf_model` and `folders` make that
module, from `architectures` (names), `hyperparameters` (numbers), `tensors` and `weights` (arrays), and with `rotary`
and `gemma` in the place of what mlx-lm computes otherwise.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl

INSTALL = "pip install 'phiplug[mlx]'"
INSTALL_CUDA = "pip uninstall -y mlx-cpu && pip install --force-reinstall 'phiplug[mlx-cuda]'"


def probe() -> Probe:
    """Look whether mlx and mlx-lm are installed, and ask mlx which devices it finds; this imports mlx."""
    if sys.platform not in ("darwin", "linux"):
        return Probe(False, reason=f"MLX does not run on {sys.platform}")
    missing = [name for name in ("mlx", "mlx_lm") if importlib.util.find_spec(name) is None]
    if missing:
        return Probe(False, reason=f"{' and '.join(missing)} not installed", install=INSTALL)
    try:
        from phiplug_mlx.devices import devices

        found = devices()
    except Exception as error:  # noqa: BLE001  # a broken installation fails in its own way, and a probe never does
        return Probe(False, reason=f"mlx does not work: {error}", install=INSTALL, versions=_versions())
    return Probe(True, devices=found, versions=_versions(), install=INSTALL if "cuda" in found else INSTALL_CUDA)


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are of a kind that `load` reads."""
    return files.format in ("gguf", "folder")


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Load the model; see `model.load`."""
    from phiplug_mlx import model

    return model.load(files, options)


@hookimpl
def phiplug_register_backends() -> list[Backend]:
    """Bring the one backend."""
    return [
        Backend(
            name="mlx",
            summary="Apple's MLX: Metal on a Mac, CUDA or the CPU on Linux",
            probe=probe,
            accepts=accepts,
            load=load,
            default_model="smollm2",
            api=2,
        )
    ]


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("mlx", "mlx-lm"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # on the path, but not by an installer
            versions[name] = "unknown"
    return versions
