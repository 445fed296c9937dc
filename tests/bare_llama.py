"""llama.cpp with nothing around it: what the engine is held to."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from pathlib import Path

import llama_cpp
import numpy as np

from phiplug_llama_cpp.bits import BF16, FLASH_ATTENTION


@llama_cpp.llama_log_callback
def quiet(level, text, data):
    """Say nothing."""


def model_parameters(api):
    """Return the defaults but for AMX, which some compilers break; see docs/decisions/amx.md."""
    parameters = api.llama_model_default_params()
    parameters.use_extra_bufts = b"AMX_INT8 = 1" not in api.llama_print_system_info()
    return parameters


class BareLoop:
    """`llama_decode` and an argmax on one sequence, with the cache of docs/decisions/bits.md."""

    def __init__(self, path: Path, *, context_length: int, threads: int = 1) -> None:
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_parameters(llama_cpp))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context_length, 512, 512
        params.n_threads = params.n_threads_batch = threads
        params.type_v, params.flash_attn_type = BF16, FLASH_ATTENTION
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def greedy(self, ids: list[int], count: int, stop_ids: Collection[int] = ()) -> list[int]:
        """Return at most `count` tokens after `ids`, the stop token left out."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        tokens, pending = [], ids
        while len(tokens) < count:
            array = (llama_cpp.llama_token * len(pending))(*pending)
            assert llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(pending))) == 0
            row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1), shape=(self.width,))
            token = int(row.argmax())
            if token in stop_ids:
                break
            tokens.append(token)
            pending = [token]
        return tokens

    def close(self) -> None:
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)
