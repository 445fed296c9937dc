"""Loads llama-cpp-python's low-level API, quiet, and keeps its log so that a failure has a reason.

`import llama_cpp` runs the whole high-level package (0.35 s, with a template engine and the types of a server) of which
nothing is used here; its module `llama_cpp.llama_cpp`, which declares the C functions, takes 0.07 s. So that one alone
is imported, under a parent package that is empty and taken away again: a later `import llama_cpp` by the user finds
everything as if we had not been there, and the same loaded library below.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import sys
import types
from collections import deque
from typing import Any

from phiplug.errors import BackendUnavailable
from phiplug_llama_cpp import PACKAGE, install_command

KEPT_LINES = 200

_DEBUG, _WARN, _CONTINUED = 1, 3, 5  # ggml_log_level


class Log:
    """The last lines that llama.cpp logged; its debugging lines (900 for a context) are let through but not kept.

    Attributes:
        echo: whether everything goes to stderr as well.
        count: how many lines were ever kept.
    """

    def __init__(self) -> None:
        self.echo = False
        self.count = 0
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)
        self._level = _DEBUG

    def receive(self, level: int, text: bytes) -> None:
        """Take what llama.cpp says, in pieces: a level of its own says that a piece continues the one before."""
        self._level = level = self._level if level == _CONTINUED else level
        if level == _DEBUG and not self.echo:
            return
        line = text.decode("utf-8", "replace")
        if self.echo:
            sys.stderr.write(line)
        if level != _DEBUG and line.strip("\n. "):  # dots tell of progress
            self._lines.append((level, line.rstrip("\n")))
            self.count += 1

    def complaints(self, since: int) -> list[str]:
        """Return the warnings and errors among the lines after the first `since`."""
        return [line for level, line in self._after(since) if level >= _WARN]

    def find(self, text: str, since: int) -> str | None:
        """Return the last line after the first `since` that contains `text`."""
        return next((line for _, line in reversed(self._after(since)) if text in line), None)

    def _after(self, since: int) -> list[tuple[int, str]]:
        fresh = min(self.count - since, len(self._lines))
        return list(self._lines)[len(self._lines) - fresh :]


class Library:
    """The engine, loaded: `api` declares its functions, `log` is what it said.

    Attributes:
        api: llama-cpp-python's module of C functions and structures.
        log: of all models of this process; llama.cpp has one.
    """

    def __init__(self, api: Any, log: Log) -> None:  # Any: an engine without types
        self.api = api
        self.log = log
        self._callback = api.llama_log_callback(lambda level, text, _: log.receive(level, text))
        self.listen(echo=False)
        api.llama_backend_init()
        logits = ctypes.cast(api.llama_get_logits_ith, ctypes.c_void_p).value
        # Declared anew: llama-cpp-python's declaration makes a pointer object of each answer, which takes 1 us to read.
        self.logits_address = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(logits or 0)

    def listen(self, *, echo: bool) -> None:
        """Take the log over, again: a user's own `import llama_cpp` takes it away."""
        self.log.echo = echo
        self.api.llama_log_set(self._callback, ctypes.c_void_p())

    def set(self, parameters: Any, **values: object) -> Any:  # Any: a foreign structure
        """Set fields of a C structure; ctypes would accept a name that the structure does not have, in silence."""
        for name, value in values.items():
            if not hasattr(type(parameters), name):
                raise BackendUnavailable(f"{PACKAGE} has no {type(parameters).__name__}.{name}", hint=install_command())
            setattr(parameters, name, value)
        return parameters


@functools.cache
def library() -> Library:
    """Load the engine, once for this process.

    Raises:
        BackendUnavailable: llama-cpp-python is missing, or its library does not load here.
    """
    try:
        return Library(_import_api(), Log())
    except ModuleNotFoundError as error:
        raise BackendUnavailable(f"{PACKAGE} is not installed: {error}", hint=install_command()) from None
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # its loader raises RuntimeError, too
        raise BackendUnavailable(
            f"{PACKAGE} is installed, but does not load: {error}", hint=install_command()
        ) from error


def _import_api() -> Any:  # Any: an engine without types
    name = "llama_cpp.llama_cpp"
    spec = importlib.util.find_spec("llama_cpp") if "llama_cpp" not in sys.modules else None
    if spec is None or spec.submodule_search_locations is None:
        return importlib.import_module(name)
    parent = types.ModuleType("llama_cpp")
    parent.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = parent
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError):  # another layout of the package, which needs its own parent
        _forget()
        return importlib.import_module(name)
    finally:
        if sys.modules.get("llama_cpp") is parent:
            _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "llama_cpp"]:
        del sys.modules[name]
