"""Computes llama.cpp's logits through its C interface, with a float32 cache.

By default llama.cpp rounds keys and values to float16, which alone moves the logits of the tiny models by 4e-3 of their
range. With float32 what is left is arithmetic, so a wrong rotation or window shows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import llama_cpp as api
import numpy as np
from bare_llama import model_parameters

F32 = 0  # GGML_TYPE_F32
FLASH_OFF = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
_QUIET = api.llama_log_callback(lambda level, text, data: None)  # kept for as long as the library may call it


class ReferenceLlama:
    """One sequence; the ids that it holds are counted by the caller's calls."""

    def __init__(self, path: Path, context: int) -> None:
        api.llama_backend_init()
        api.llama_log_set(_QUIET, ctypes.c_void_p(0))
        self._weights = api.llama_model_load_from_file(str(path).encode(), model_parameters(api))
        assert self._weights, f"llama.cpp cannot load {path}"
        parameters = api.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = context
        parameters.type_k = parameters.type_v = F32
        parameters.flash_attn_type = FLASH_OFF
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.swa_full = True
        self._context = api.llama_init_from_model(self._weights, parameters)
        self._memory = api.llama_get_memory(self._context)
        self._width = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._weights))
        self._held = 0

    def feed(self, tokens: Sequence[int]) -> np.ndarray:
        """Append tokens; a row for each of them, float32."""
        batch = api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.logits[index] = token, self._held + index, 1
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        assert api.llama_decode(self._context, batch) == 0
        self._held += len(tokens)
        rows = [api.llama_get_logits_ith(self._context, index) for index in range(len(tokens))]
        logits = np.stack([np.ctypeslib.as_array(row, shape=(self._width,)) for row in rows])
        api.llama_batch_free(batch)
        return logits

    def rewind(self, length: int) -> None:
        api.llama_memory_seq_rm(self._memory, 0, length, -1)
        self._held = length

    def close(self) -> None:
        api.llama_free(self._context)
        api.llama_model_free(self._weights)
