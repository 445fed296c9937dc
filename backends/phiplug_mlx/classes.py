"""Imports one module of mlx-lm by its name, without the rest of mlx-lm.

`import mlx_lm` imports transformers, which takes two seconds and is not needed to compute logits. So mlx-lm's `models`
package, whose files import only mlx and one another, is imported under a name of our own. This file knows where mlx-lm
is installed, and nothing of what its modules hold.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from phiplug.errors import BackendUnavailable, ModelUnsupported

_PACKAGE = "phiplug_mlx_lm_models"
_ALIASES = {"mistral": "llama", "iquestcoder": "llama", "xverse": "llama"}  # mlx_lm.utils has them


@cache
def _folder() -> Path:
    """Find mlx-lm's models without importing it, and make them importable."""
    found = importlib.util.find_spec("mlx_lm")
    if found is None or not found.submodule_search_locations:
        raise BackendUnavailable("mlx-lm is not installed", hint="pip install 'phiplug[mlx]'")
    folder = Path(found.submodule_search_locations[0]) / "models"
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise BackendUnavailable(f"mlx-lm has no models in {folder}", hint="pip install --force-reinstall mlx-lm")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)
    return folder


def mlx_lm_module(name: str) -> ModuleType:
    """Import one module of `mlx_lm.models`: "llama", "cache", ...

    Raises:
        BackendUnavailable: mlx-lm is not installed.
        ModelUnsupported: it has no such module, or one that needs something else.
    """
    name = _ALIASES.get(name, name)
    if not re.fullmatch(r"[a-z0-9_]+", name) or not (_folder() / f"{name}.py").is_file():
        raise ModelUnsupported(f"mlx-lm has no model class for {name!r}")
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ImportError as error:
        raise ModelUnsupported(f"mlx-lm's model class for {name!r} cannot be imported: {error}") from None
