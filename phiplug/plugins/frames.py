"""Picks out of a traceback the frames of a plugin's own code. It knows nothing of how the traceback is shown."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path

_NOT_THE_PLUGIN = ("phiplug", "pytest", "_pytest", "hypothesis", "pluggy", "typer", "click", "concurrent", "threading")


def plugin_traceback(error: BaseException) -> str:
    """Return the traceback of the first cause of `error`, from the plugin's first frame on; "" where it has none."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    frames = traceback.extract_tb(error.__traceback__)
    outside = [at for at, frame in enumerate(frames) if not _is_ours(Path(frame.filename).resolve())]
    if not outside:
        return ""
    return "".join([*traceback.format_list(frames[outside[0] :]), *traceback.format_exception_only(error)]).rstrip()


def _is_ours(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in _places()) or str(path).endswith("<string>")


def _places() -> list[Path]:
    """Return where phiplug itself and what calls plugins on its behalf are installed."""
    specs = [importlib.util.find_spec(name) for name in _NOT_THE_PLUGIN]
    origins = [Path(spec.origin).resolve() for spec in specs if spec and spec.origin]
    return [origin.parent if origin.name == "__init__.py" else origin for origin in origins]
