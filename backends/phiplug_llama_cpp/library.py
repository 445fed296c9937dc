"""Loads the library of llama.cpp, quiet, and keeps its log so that a failure has a reason.

The library is opened by its path and for ourselves alone (RTLD_LOCAL); the Python package that brought it is not
imported, which for llama-cpp-python took 0.07 to 0.35 s. A user's own import of it finds everything as if we had not
been there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from pathlib import Path

from phiplug.errors import BackendUnavailable
from phiplug_llama_cpp import guard, install_command, providers
from phiplug_llama_cpp.functions import Functions, LogCallback
from phiplug_llama_cpp.layouts import Layout, known_layouts
from phiplug_llama_cpp.providers import Absent, Provider

KEPT_LINES = 200

CHECKED = frozenset(
    {
        "flash_attn_type", "n_batch", "n_ctx", "n_gpu_layers", "n_seq_max", "n_threads", "n_threads_batch", "n_ubatch",
        "type_v", "use_extra_bufts",
    }
)  # fmt: skip
"""Fields that `contexts` reads back, or that no neighbour of the same type shares the default of."""

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
    """The engine, loaded: `api` has its functions, `log` is what it said.

    Attributes:
        api: llama.cpp's C functions.
        log: of all models of this process; llama.cpp has one.
        provider: where the library comes from.
        layout: of its structures.
        is_recorded: whether the layout is the one recorded for this version, and not merely one that fits.
    """

    def __init__(self, provider: Provider, log: Log) -> None:
        """Open the library; raises BackendUnavailable where none of the known layouts fits it."""
        library = _open(provider.path)
        self.provider = provider
        self.layout = _layout(provider, library)
        self.is_recorded = self.layout.name == provider.name
        self.api = Functions(library, self.layout)
        self.log = log
        self._callback = LogCallback(lambda level, text, _: log.receive(level, text))
        self.listen(echo=False)
        if self.api.ggml_backend_dev_count() == 0:  # a build that keeps what computes in libraries of their own
            self.api.ggml_backend_load_all_from_path(os.fsencode(provider.path.parent))
        if self.api.ggml_backend_dev_count() == 0:
            self.api.ggml_backend_load_all()  # from where the build was told to look
        self.api.llama_backend_init()

    @property
    def version(self) -> str:
        """Name what computes, for reports and caches."""
        return f"{self.provider.name}, llama.cpp {self.api.llama_version().decode()}"

    def listen(self, *, echo: bool) -> None:
        """Take the log over, again: a user's own `import llama_cpp` takes it away."""
        self.log.echo = echo
        self.api.llama_log_set(self._callback, None)

    def set(self, parameters: ctypes.Structure, **values: object) -> None:
        """Set those fields that do not have the value already.

        Raises:
            BackendUnavailable: the structure has no such field; or the layout only happens to fit, and nothing would
                show that this field is another.
        """
        for name, value in values.items():
            field = f"{type(parameters).__name__}.{name}"
            if not hasattr(parameters, name):  # ctypes would accept it in silence
                raise BackendUnavailable(f"{self.provider.name} has no {field}", hint=install_command())
            if getattr(parameters, name) == value:
                continue
            if not self.is_recorded and name not in CHECKED:
                problem = f"is of a version that phiplug does not know, and nothing shows where its {field} is"
                raise BackendUnavailable(f"{self.provider.name} {problem}", hint=install_command())
            setattr(parameters, name, value)


_opened: list[Library] = []


def library() -> Library:
    """Return the engine, which is loaded once for this process.

    Raises:
        BackendUnavailable: there is none, it does not load here, or this process has another one already.
    """
    provider = providers.find()
    if isinstance(provider, Absent):
        raise BackendUnavailable(provider.reason, hint=provider.install or install_command())
    if not _opened:
        try:
            _opened.append(Library(provider, Log()))
        except (OSError, AttributeError) as error:  # AttributeError: a function that it does not export
            raise BackendUnavailable(
                f"{provider.name} is installed, but does not load: {error}", hint=install_command()
            ) from error
    first = _opened[0].provider
    if first.path != provider.path:  # ggml keeps what belongs to the process twice, and symbols of both are shared
        raise BackendUnavailable(f"this process computes with {first.path}, and cannot load {provider.path} as well")
    return _opened[0]


def _open(path: Path) -> ctypes.CDLL:
    if sys.platform == "win32":
        for folder in (path.parent, *(Path(os.environ.get(name, "")) / "bin" for name in ("CUDA_PATH", "HIP_PATH"))):
            if folder.is_absolute() and folder.is_dir():
                os.add_dll_directory(str(folder))
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)


def _layout(provider: Provider, library: ctypes.CDLL) -> Layout:
    """Choose the layout that was recorded for a version, or else the newest that fits."""
    images, reasons = guard.images(library), []
    recorded = [layout for layout in known_layouts() if layout.name == provider.name]
    for layout in recorded or (known_layouts() if guard.BY_ADDRESS else ()):
        reason = guard.misfit(layout, images)
        if reason is None:
            return layout
        reasons.append(reason)
    reason = "; ".join(dict.fromkeys(reasons)) or "nothing is recorded of this version"
    raise BackendUnavailable(
        f"{provider.name} at {provider.path} lays out its structures in a way that phiplug does not know: {reason}",
        hint=install_command(),
    )
