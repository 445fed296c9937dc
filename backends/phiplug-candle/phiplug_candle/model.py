"""Fulfils the contract of `phiplug.spi` with a model in Rust.

A pass is computed when it is read, or before the model is touched again. What is computed is in `src/transformer.rs`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phiplug.checks import context_length
from phiplug.deferred import DeferredPass, DeferredPasses
from phiplug.errors import BackendFailed, InvalidParameter, OutOfMemory, PhiplugError, UnsupportedParameter
from phiplug.gguf import Header, read_header
from phiplug.gguf.hyperparameters import trained_context
from phiplug.spi import LoadOptions, ModelFiles, ModelInfo, Step
from phiplug_candle import CANDLE, _native, memory, rotary, weights
from phiplug_candle.bits import bits_of

if TYPE_CHECKING:
    from phiplug.spi import Logits

CHUNK = 512  # tokens of a prompt at a time
TILED = 32  # tokens of a pass from which Candle repacks Q4_K for the tiles of AMX


class CandleModel:
    """A `phiplug.spi.Model` with a cache for each slot."""

    def __init__(self, native: _native.Model, info: ModelInfo) -> None:
        self.info = info
        self._native: _native.Model | None = native
        self._passes = DeferredPasses(self._compute)

    def forward(self, steps: Sequence[Step]) -> DeferredPass:
        """Note what is asked for; it is computed when the pass is read, or before the model is touched again.

        Raises:
            InvalidParameter: a token is outside the vocabulary.
            BackendFailed, OutOfMemory: the pass before, which nobody has read, failed.
        """
        for step in steps:
            if min(step.tokens) < 0 or max(step.tokens) >= self.info.vocab_size:
                raise InvalidParameter("tokens", f"an id is outside the vocabulary of {self.info.vocab_size}")
        return self._passes.ask(steps)

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most the first `length` tokens of `slot`; return how many were kept."""
        self._passes.settle()
        return self._open().rewind(slot, length)

    def copy(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`; return how many it holds."""
        self._passes.settle()
        return self._open().copy(source, target, length)

    def close(self) -> None:
        """Drop the weights, the caches and a pass that nobody has read."""
        self._passes.close()
        self._native = None

    def _compute(self, steps: Sequence[Step]) -> Logits:
        """Compute a pass in Rust."""
        try:
            return self._open().forward([(step.slot, list(step.tokens), step.rows) for step in steps])
        except RuntimeError as error:
            raise translated(error) from None

    def _open(self) -> _native.Model:
        if self._native is None:
            raise BackendFailed("the model was closed")
        return self._native


def load(files: ModelFiles, options: LoadOptions) -> CandleModel:
    """Read a GGUF, and let Candle repack its weights, so that the first prompt is as fast as the second.

    Raises:
        ModelNotFound, ModelCorrupt, ModelUnsupported: the file is missing, damaged, or of a kind that is not read here.
        UnsupportedParameter: an option asks for what this build of Candle, or this process, cannot do.
        OutOfMemory: the model does not fit what is free.
    """
    device = _device(options)
    header = read_header(files.path)
    sizes = weights.sizes_of(header)
    context = context_length(options.ctx_size, trained_context(header))
    found = weights.check(header, sizes)
    if device == "cpu":
        memory.check(header, sizes, found, (context, options.slots), CHUNK)
    cos, sin = rotary.tables(header, sizes.head, context)
    threads = _threads(options.threads)
    try:
        given = _native.Weights(device)
        weights.put(given, header, sizes, found)
        native = _native.Model(given, sizes, cos, sin, options.slots)
    except RuntimeError as error:
        raise translated(error) from None
    model = CandleModel(native, _info(header, sizes, context, options.slots, device, threads))
    _repack(model)
    return model


def _info(header: Header, sizes: weights.Sizes, context: int, slots: int, device: str, threads: int) -> ModelInfo:
    bits = bits_of(header, device=device, chunk=CHUNK)
    return ModelInfo(
        vocab_size=sizes.vocabulary,
        context_length=context,
        slots=slots,
        device=device,
        quantization=header.quantization,
        version=CANDLE,
        chunk=CHUNK,
        threads=threads,
        equal_passes=bits.equal_passes,
        row_independence=bits.row_independence,
        features=frozenset({"copy"}),
        cache_bytes=memory.caches(sizes, context, slots),
        metadata={name: "yes" for name, has in _native.about().items() if has},
    )


def translated(error: RuntimeError) -> PhiplugError:
    """Turn an error of Candle's into the contract's."""
    if "memory" in str(error).lower():
        return OutOfMemory(f"candle: {error}", hint="lower --ctx-size, or use a smaller model")
    return BackendFailed(f"candle: {error}")


def _repack(model: CandleModel) -> None:
    """Multiply every matrix once by one token and once by several: Candle repacks a matrix at its first product."""
    for tokens in ([0], [0] * TILED):
        model.rewind(0, 0)
        if len(tokens) <= model.info.context_length:
            model.forward([Step(0, tokens, len(tokens))]).logits()
    model.rewind(0, 0)


def _device(options: LoadOptions) -> str:
    about = _native.about()
    devices = [*(name for name in ("cuda", "metal") if about[name]), "cpu"]
    device = options.device or devices[0]
    if device.partition(":")[0] not in devices:
        raise UnsupportedParameter(
            "device", f"this build of Candle computes on {' and '.join(devices)}, not on {device!r}"
        )
    if options.gpu_layers not in ((None, -1, 0) if device == "cpu" else (None, -1)):
        raise UnsupportedParameter(
            "gpu_layers", f"Candle computes all layers on one device, here {device}", hint="choose it with --device"
        )
    return device


def _threads(asked: int | None) -> int:
    """Start Candle's threads, or find them started; raises UnsupportedParameter if there are not as many as asked."""
    pools = _native.start(asked or _cores())
    if asked is not None and pools != (asked, asked):
        raise UnsupportedParameter(
            "threads",
            f"Candle has {max(pools)} since this process first used it, and keeps to that",
            hint="leave it out, or start another process",
        )
    return pools[0]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
