"""Makes the context of a model, and reads back what it was asked for: the fields that no default tells apart."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass

from phiplug.errors import BackendUnavailable, ModelUnsupported, OutOfMemory
from phiplug_llama_cpp import install_command
from phiplug_llama_cpp.bits import BF16, FLASH_ATTENTION, Bits
from phiplug_llama_cpp.library import Library

CHUNK = 512  # n_ubatch, what llama.cpp computes at once: longer passes are cut into such pieces by llama.cpp itself

_CACHE_TYPES = re.compile(r"K \((\w+)\).*V \((\w+)\)")
_FLASH_ATTENTION = re.compile(r"flash_attn += (\w+)")


@dataclass(frozen=True, slots=True)
class Context:
    """What `loading` made of a file.

    Attributes:
        weights: the llama_model.
        handle: the llama_context.
        memory: its llama_memory_t.
        capacity: how many tokens all slots hold together, and so a pass at most.
    """

    weights: int
    handle: int
    memory: int
    capacity: int


def open_context(engine: Library, weights: int, slots: int, length: int, threads: int, bits: Bits) -> Context:
    """Make `slots` streams of cells, each of `length` tokens, rounded up by llama.cpp to 256.

    Raises:
        OutOfMemory: they do not fit.
        ModelUnsupported: the model has no key-value cache.
        BackendUnavailable: the library made something else of it.
    """
    api, since = engine.api, engine.log.count
    total = cells(length, slots)
    parameters = api.llama_context_default_params()
    engine.set(
        parameters,
        n_ctx=total,
        n_batch=total,  # a pass may be as long as the context; llama.cpp cuts it into pieces of n_ubatch
        n_ubatch=CHUNK,
        n_seq_max=slots,
        n_threads=threads,
        n_threads_batch=threads,
        kv_unified=False,  # why: see model.py
        swa_full=True,  # else a sliding window forgets what rewind promises to keep
        no_perf=True,
        **bits.context,
    )
    handle = api.llama_init_from_model(weights, parameters)
    memory = api.llama_get_memory(handle) if handle else None
    if not handle:
        reason = (engine.log.complaints(since) or ["llama.cpp gave no reason"])[-1]
        raise OutOfMemory(f"no context of {slots} x {length} tokens could be made: {reason}", hint="lower `ctx_size`")
    different = next(_differences(engine, handle, parameters, bits, since), None)
    if memory and different is None:
        return Context(weights, handle, memory, total)
    api.llama_free(handle)
    if different is not None:
        raise BackendUnavailable(f"{engine.provider.name} {different}", hint=install_command())
    raise ModelUnsupported("the model has no key-value cache, so it does not generate text")


def cells(length: int, slots: int) -> int:
    """Return how many cells `slots` streams of `length` tokens take."""
    return -(-length // 256) * 256 * slots


def _differences(engine: Library, handle: int, parameters: ctypes.Structure, bits: Bits, since: int) -> Iterator[str]:
    """Name what a context has otherwise than it was asked for."""
    for name in ("n_ctx", "n_seq_max", "n_threads", "n_threads_batch"):
        asked, has = getattr(parameters, name), getattr(engine.api, f"llama_{name}")(handle)
        if asked != has:
            yield f"was asked for {name} = {asked}, and has {has}"
    for name in ("n_batch", "n_ubatch"):  # no more than the context has
        asked, has = getattr(parameters, name), getattr(engine.api, f"llama_{name}")(handle)
        if min(asked, parameters.n_ctx) != has:
            yield f"was asked for {name} = {asked}, and has {has}"
    if not bits.context:
        return
    types = _CACHE_TYPES.search(engine.log.find("K (", since) or "")
    if types is None or types.groups() != ("f16", "bf16"):
        yield f"was asked for a cache of type {BF16}, and said: {types and types[0]}"
    flash = _FLASH_ATTENTION.search(engine.log.find("flash_attn", since) or "")
    if flash is None or flash[1] != "enabled":
        yield f"was asked for flash attention of type {FLASH_ATTENTION}, and said: {flash and flash[1]}"
