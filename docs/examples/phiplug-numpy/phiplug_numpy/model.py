"""Keeps the contract of `phiplug.spi` with plain NumPy.

A pass is computed when it is read, or before the model is touched again; each step on its own, so that a slot gives the
same bits alone and beside others. What is computed is written in `transformer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phiplug.checks import context_length
from phiplug.deferred import DeferredPass, DeferredPasses
from phiplug.errors import BackendFailed, OutOfMemory, UnsupportedParameter
from phiplug.gguf import read_header
from phiplug.gguf.hyperparameters import trained_context
from phiplug.spi import LoadOptions, ModelFiles, ModelInfo, Step
from phiplug_numpy.weights import read_transformer, vocabulary

if TYPE_CHECKING:
    from phiplug.spi import Logits
    from phiplug_numpy.transformer import Transformer

CHUNK = 128  # tokens of a prompt at a time: enough to multiply matrices, and the attention scores stay small


class NumpyModel:
    """A `phiplug.spi.Model` with one cache for each slot."""

    def __init__(self, transformer: Transformer, info: ModelInfo) -> None:
        self.info = info
        self._transformer: Transformer | None = transformer
        self._caches = [transformer.new_cache() for _ in range(info.slots)]
        self._passes = DeferredPasses(self._compute)

    def forward(self, steps: Sequence[Step]) -> DeferredPass:
        """Note what is asked; it is done when the pass is read, or before the model is touched again."""
        return self._passes.ask(steps)

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most the first `length` tokens of `slot`; return how many were kept."""
        self._passes.settle()
        cache = self._caches[slot]
        cache.length = min(cache.length, length)
        return cache.length

    def copy(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`; return how many it holds."""
        self._passes.settle()
        kept = min(length, self._caches[source].length)
        if source != target:
            self._caches[target].copy_from(self._caches[source], kept)
        return self.rewind(target, kept)

    def close(self) -> None:
        """Let go of the weights, the caches and the pending pass."""
        self._passes.close()
        self._transformer, self._caches = None, []

    def _compute(self, steps: Sequence[Step]) -> Logits:
        """Compute the steps, one after the other."""
        transformer = self._transformer
        if transformer is None:
            raise BackendFailed("the model was closed")
        try:
            # Weights that overflow give inf or NaN, and the core says so; NumPy's warnings would say it worse.
            with np.errstate(all="ignore"):
                rows = [transformer.forward(s.tokens, self._caches[s.slot], s.rows) for s in steps]
                return np.concatenate(rows)
        except MemoryError as error:
            raise OutOfMemory(f"numpy: {error}", hint="lower --ctx-size, or use a smaller model") from None


def load(files: ModelFiles, options: LoadOptions) -> NumpyModel:
    """Read a GGUF and unpack its weights, which takes 4 bytes for each of them.

    Raises:
        ModelNotFound, ModelCorrupt, ModelUnsupported: the file is missing, damaged, or of a kind that is not read here.
        UnsupportedParameter: an option asks for what NumPy cannot do.
        OutOfMemory: the weights do not fit.
    """
    _refuse_what_numpy_cannot(options)
    header = read_header(files.path)
    context = context_length(options.ctx_size, trained_context(header))
    try:
        transformer = read_transformer(header, context)
    except MemoryError as error:
        raise OutOfMemory(f"numpy: {error}", hint="use a smaller model") from None
    info = ModelInfo(
        vocab_size=vocabulary(header),
        context_length=context,
        slots=options.slots,
        device="cpu",
        quantization=f"F32, from {header.quantization}",
        version=np.__version__,
        chunk=CHUNK,
        features=frozenset({"copy"}),
    )
    return NumpyModel(transformer, info)


def _refuse_what_numpy_cannot(options: LoadOptions) -> None:
    if options.device not in (None, "cpu"):
        raise UnsupportedParameter("device", f"numpy computes on the cpu, not on {options.device!r}")
    if options.gpu_layers not in (None, 0):
        raise UnsupportedParameter("gpu_layers", "numpy computes on the cpu alone", hint="leave it out")
    if options.threads is not None:
        hint = "leave it out, and set OPENBLAS_NUM_THREADS or OMP_NUM_THREADS"
        raise UnsupportedParameter("threads", "the library that multiplies NumPy's matrices decides", hint=hint)
