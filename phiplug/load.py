"""Loads a model by its reference: puts files, backend, tokenizer and template together into an `LLM`."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from phiplug import checks
from phiplug.errors import (
    BackendFailed,
    DownloadFailed,
    InvalidParameter,
    ModelError,
    ModelNotFound,
    ModelUnsupported,
    PhiplugError,
)
from phiplug.models.cache import FileCache
from phiplug.spi import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from phiplug.gguf import Header
    from phiplug.llm import LLM
    from phiplug.models.download import Progress
    from phiplug.plugins import Plugins
    from phiplug.spi import Backend, LookaheadMode, ModelFiles, Tokenizer
    from phiplug.text.template import ChatTemplate

DEFAULT_MODEL = "smollm2"


def load(
    reference: str | os.PathLike[str] | None = None,
    *,
    backend: str = "auto",
    device: str | None = None,
    ctx_size: int | None = None,
    slots: int = 1,
    threads: int | None = None,
    gpu_layers: int | None = None,
    exact_scales: bool = False,
    chat_template: str | None = None,
    offline: bool = False,
    verbose: bool = False,
    lookahead: LookaheadMode = "auto",
    progress: Progress | None = None,
) -> LLM:
    """Load a model into the engine that suits this machine, or the one that is named.

    Args:
        reference: a path, an alias, `hf:owner/repo[:QUANT | /file.gguf][@revision]` or `package:name/file.gguf`; None
            for the backend's own default, else `smollm2`.
        backend: a backend's name, or "auto": of those that accept the model, one with an accelerator first.
        device: "cpu", "metal", "cuda"; None for the backend's first choice.
        ctx_size: how many tokens a sequence may have; None for the backend's choice.
        slots: how many sequences are kept apart.
        threads: a fixed number of threads; None for a measured one.
        gpu_layers: how many layers go to the GPU; None for all.
        exact_scales: keep quantization scales in float32 where the device would use float16.
        chat_template: Jinja source that replaces the model's own.
        offline: fetch nothing.
        verbose: let the engine's own log through.
        lookahead: whether the device guesses the next token and goes on while the host decides, which changes no token:
            "on", "off", or "auto" where a measurement says that it pays.
        progress: is told how far a download is.

    Raises:
        ModelError: the model is not found, damaged, or nothing here runs it.
        PluginError: the backend is not there, or does not work here.
        InvalidParameter: an option is out of range, or the backend cannot honour it.
    """
    return load_with(
        LoadOptions(device, ctx_size, slots, threads, gpu_layers, exact_scales, verbose, lookahead=lookahead),
        reference,
        backend=backend,
        chat_template=chat_template,
        offline=offline,
        progress=progress,
    )


def load_with(
    options: LoadOptions,
    reference: str | os.PathLike[str] | None = None,
    *,
    backend: str = "auto",
    chat_template: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> LLM:
    """Load a model with the options of an engine as one value; the rest is as in `load`, which spells them out."""
    from phiplug.plugins import Plugins

    started = time.perf_counter()
    options = replace(options, cache=options.cache or cache())
    plugins = Plugins.installed()
    files, engine = choose_for(reference, plugins, backend=backend, offline=offline, progress=progress)
    llm = assemble(files, engine, options, plugins, chat_template=chat_template)
    llm.load_s = time.perf_counter() - started
    return llm


def choose_for(
    reference: str | os.PathLike[str] | None,
    plugins: Plugins,
    *,
    backend: str = "auto",
    offline: bool = False,
    progress: Progress | None = None,
) -> tuple[ModelFiles, Backend]:
    """Find a model's files and choose what computes them, without loading anything; arguments are those of `load`."""
    from phiplug.plugins.choice import choose, require_engine

    named = None if backend == "auto" else plugins.backend(backend)
    backends = [named] if named else plugins.backends()  # before the model: a backend's plugin may bring models too
    default = named.default_model if named else None
    wanted = (default or DEFAULT_MODEL) if reference is None else _spelt(reference)
    files = find(
        wanted, plugins, offline=offline, before_fetch=lambda: require_engine(backends, wanted), progress=progress
    )
    return files, named or choose(backends, files)


def _spelt(reference: object) -> str:
    if isinstance(reference, os.PathLike):
        return os.path.join(".", reference)  # noqa: PTH118  Path drops the dot, which tells a path from a name
    if isinstance(reference, str):
        return reference
    raise InvalidParameter("model", f"{reference!r} is neither a text nor a path")


def find(
    reference: str,
    plugins: Plugins,
    *,
    offline: bool = False,
    update: bool = False,
    before_fetch: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> ModelFiles:
    """Find a model's files: what a plugin knows comes first, then paths, aliases, packages and the hub.

    An alias of the user's own is replaced by what it stands for before that.

    With `update`, the hub is asked for its newest commit even if the model is here. Where it is not, `before_fetch` is
    called before the hub is asked.

    Raises:
        ModelNotFound: the reference leads to no file.
        DownloadFailed: it does, but the file could not be fetched.
    """
    from phiplug.models import hub

    reference = _own_aliases().get(reference, reference)
    found = plugins.find_model(reference)
    try:
        return found or hub.resolve(
            reference,
            aliases=aliases(plugins),
            offline=offline,
            update=update,
            before_fetch=before_fetch,
            progress=progress,
        )
    except (ModelNotFound, DownloadFailed) as error:
        raise _with_package(error, reference) from error


def _with_package(error: ModelError, reference: str) -> ModelError:
    """Add to an error the command that brings the model without the hub, where a package has it."""
    from phiplug.models.aliases import ALIASES

    alias = ALIASES.get(reference)
    if alias is None or not alias.install:
        return error
    return type(error)(error.message, hint="; ".join(filter(None, (error.hint, f"without the hub: {alias.install}"))))


def aliases(plugins: Plugins) -> dict[str, Sequence[str]]:
    """Return every short name, each with the references that are tried for it; nobody can take ours over."""
    from phiplug.models.aliases import ALIASES

    known = {**plugins.model_aliases(), **{name: alias.references for name, alias in ALIASES.items()}}
    own = {name: known.get(reference, (reference,)) for name, reference in _own_aliases().items()}
    return {**own, **known}


def _own_aliases() -> Mapping[str, str]:
    """Return the user's own short names; the file that may have some is not there for most."""
    from phiplug.places import config_file

    file = config_file()
    if file is None or not file.exists():
        return {}
    from phiplug.config import own_aliases

    return own_aliases()


def assemble(
    files: ModelFiles, backend: Backend, options: LoadOptions, plugins: Plugins, *, chat_template: str | None = None
) -> LLM:
    """Put a model's files and a backend together.

    Raises:
        ModelError: the files are damaged, or the backend does not take them.
        BackendUnavailable: the backend's engine is missing or does not work here.
    """
    from concurrent.futures import ThreadPoolExecutor

    from phiplug.plugins.backends import accepts, load_model, named

    if not accepts(backend, files):
        raise ModelUnsupported(f"the backend {backend.name} does not take {files.reference!r} ({files.format})")
    header = _header_of(files)  # held, so that template, tokenizer and engine share what is read once
    with ThreadPoolExecutor(max_workers=1) as pool:  # Python makes the rest while the engine, in C, reads the weights
        rest = pool.submit(_text_side, files, plugins, chat_template)
        try:
            model = load_model(backend, files, options)
        except BackendFailed:
            if isinstance(rest.exception(), ImportError):
                rest.result()  # a library of ours that does not load is not the backend's fault
            raise
    try:
        template, tokenizer = rest.result()
        from phiplug.engine import Engine
        from phiplug.engine.autotune import settle_lookahead
        from phiplug.llm import LLM

        engine = Engine(model, tokenizer, backend=named(backend))
        machine = (model.info.device, model.info.version, model.info.metadata.get("device name", ""))
        key = "lookahead pays: " + ", ".join((backend.name, *machine, str(files.path)))
        settle_lookahead(engine, options.lookahead, options.cache, key)
    except BaseException:
        model.close()
        raise
    del header
    return LLM(engine, template, files=files, backend=backend.name, finished=plugins.request_finished)


def _text_side(files: ModelFiles, plugins: Plugins, chat_template: str | None) -> tuple[ChatTemplate | None, Tokenizer]:
    """Make template and tokenizer, and import what the loop needs: NumPy, Jinja and the loop take as long as a load."""
    import phiplug.llm  # noqa: F401  for `assemble`, which waits for it here

    return template_of(files, plugins, chat_template), tokenizer_of(files, plugins)


def tokenizer_of(files: ModelFiles, plugins: Plugins) -> Tokenizer:
    """Build the tokenizer of a model's files, or take a plugin's."""
    from phiplug.text.tokenizer import load_tokenizer

    return plugins.tokenizer(files) or load_tokenizer(files)


def template_of(files: ModelFiles, plugins: Plugins, given: str | None = None) -> ChatTemplate | None:
    """Return the chat template of a model: the given source, a plugin's, or its files' own."""
    from phiplug.text.template import ChatTemplate, find_template

    own = plugins.chat_template(files) if given is None else checks.text("chat_template", given)
    source = find_template(files) if own is None else own
    return None if source is None else ChatTemplate(source, tool_formats=tuple(plugins.tool_formats().values()))


def _header_of(files: ModelFiles) -> Header | None:
    """Read the header of a GGUF, or return None; the backend that needs it raises what is wrong."""
    from phiplug.gguf import read_header

    if files.format != "gguf":
        return None
    try:
        return read_header(files.path)
    except PhiplugError:
        return None


def cache() -> FileCache:
    """Return the cache of what was measured for this user; a user without a home folder has one that keeps nothing."""
    return FileCache(cache_path())


def cache_path() -> Path | None:
    """Return the file of that cache, which may not exist; None for a user without a home folder."""
    import platformdirs

    with contextlib.suppress(RuntimeError):
        return platformdirs.user_cache_path("phiplug") / "cache.json"
    return None
