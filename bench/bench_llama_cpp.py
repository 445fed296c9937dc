"""phiplug on llama.cpp beside the bare engine and llama-cpp-python's own API: same file, threads, prompt and context.

The bare loop is `llama_decode` and an argmax, as small as Python allows; what phiplug takes longer is phiplug's cost.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
import pytest

from bench.pairs import Benchmark, paired
from phiplug.llm import LLM
from phiplug.load import load
from phiplug.types import Request, SamplingParams
from phiplug_llama_cpp.bits import BF16, FLASH_ATTENTION

REFERENCE = os.environ.get("PHIPLUG_MODEL", "smollm2")
PROMPT = "Write a haiku about ice hockey."
NEW_TOKENS = 64
PROMPT_TOKENS = 256
CTX = 4096
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
DEFAULT = SamplingParams(seed=1)


def without_amx(defaults: Callable[[], Any] = llama_cpp.llama_model_default_params) -> Any:  # Any: ctypes
    """Return llama.cpp's defaults for loading weights, but for AMX: docs/decisions/amx.md."""
    weights = defaults()
    weights.use_extra_bufts = b"AMX_INT8 = 1" not in llama_cpp.llama_print_system_info()
    return weights


class BareLoop:
    """llama.cpp with nothing around it, on one sequence; the context has room for `slots` of them."""

    def __init__(self, path: str, threads: int, *, slots: int = 1, context: int = CTX) -> None:
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        weights = without_amx()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), weights)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = slots * context, 512, 512
        params.n_seq_max, params.kv_unified = slots, False
        params.n_threads = params.n_threads_batch = threads
        if not llama_cpp.llama_supports_gpu_offload():  # phiplug's cells on a CPU: docs/decisions/bits.md
            params.type_v, params.flash_attn_type = BF16, FLASH_ATTENTION
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def decode(self, ids: list[int]) -> None:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError("llama_decode failed")

    def argmax(self) -> int:
        row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1), shape=(self.vocab_size,))
        return int(row.argmax())

    def generate(self, ids: list[int], count: int) -> float:
        """Return seconds per token after the first, greedy."""
        llama_cpp.llama_memory_clear(self.memory, True)
        self.decode(ids)
        token = self.argmax()
        started = time.perf_counter()
        for _ in range(count - 1):
            self.decode([token])
            token = self.argmax()
        return (time.perf_counter() - started) / (count - 1)

    def prefill(self, ids: list[int]) -> float:
        """Return seconds per token of the prompt."""
        llama_cpp.llama_memory_clear(self.memory, True)
        started = time.perf_counter()
        self.decode(ids)
        self.argmax()
        return (time.perf_counter() - started) / len(ids)


class Engines(NamedTuple):
    """The same model, loaded by three programs."""

    llm: LLM
    bare: BareLoop
    llama_cpp_python: llama_cpp.Llama


@llama_cpp.llama_log_callback
def quiet(level: int, text: bytes, data: object) -> None:
    """Say nothing."""


@pytest.fixture(scope="module", params=[1, 2], ids=lambda threads: f"{threads}-threads")
def engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    """Load the model three times, for a number of threads."""
    threads = request.param
    with load(REFERENCE, backend="llama-cpp", threads=threads, ctx_size=CTX) as llm:
        path = str(llm.files.path)
        with pytest.MonkeyPatch.context() as patch:  # Llama has no argument for it
            patch.setattr(llama_cpp.llama_cpp, "llama_model_default_params", without_amx)
            peer = llama_cpp.Llama(
                path, n_ctx=CTX, n_threads=threads, n_threads_batch=threads, n_gpu_layers=-1, verbose=False
            )
        yield Engines(llm, BareLoop(path, threads), peer)


def test_greedy_decoding(benchmark: Benchmark, engines: Engines) -> None:
    ids = engines.llm.tokenizer.encode(PROMPT)
    peers = {"bare llama_decode and argmax": lambda: engines.bare.generate(ids, NEW_TOKENS)}
    paired(benchmark, lambda: decode(engines.llm, GREEDY), peers)


def test_decoding_with_default_sampling(benchmark: Benchmark, engines: Engines) -> None:
    ids = engines.llm.tokenizer.encode(PROMPT)
    peers = {
        "bare llama_decode and argmax": lambda: engines.bare.generate(ids, NEW_TOKENS),
        "llama-cpp-python": lambda: decode_by_llama_cpp_python(engines.llama_cpp_python, ids),
    }
    paired(benchmark, lambda: decode(engines.llm, DEFAULT), peers)


def test_prefill(benchmark: Benchmark, engines: Engines) -> None:
    ids = (engines.llm.tokenizer.encode(PROMPT) * 20)[:PROMPT_TOKENS]
    peers = {"bare llama_decode": lambda: engines.bare.prefill(ids)}
    paired(benchmark, lambda: prefill(engines.llm, ids), peers)


def decode(llm: LLM, sampling: SamplingParams) -> float:
    """Return phiplug's seconds per token after the first."""
    ids = tuple(llm.tokenizer.encode(PROMPT))
    request = Request(ids, sampling, max_tokens=NEW_TOKENS, ignore_stop_ids=True, reuse=False)
    return llm.submit(request).completion().timings.decode_s / (NEW_TOKENS - 1)


def prefill(llm: LLM, ids: list[int]) -> float:
    """Return phiplug's seconds per token of the prompt."""
    request = Request(tuple(ids), GREEDY, max_tokens=1, ignore_stop_ids=True, reuse=False)
    return llm.submit(request).completion().timings.prefill_s / len(ids)


def decode_by_llama_cpp_python(peer: llama_cpp.Llama, ids: list[int]) -> float:
    """Return seconds per token of llama-cpp-python's streaming completion, stop tokens kept out of the way."""
    peer.reset()
    never = {peer.token_eos(): -100.0}
    stream = peer.create_completion(
        ids, max_tokens=NEW_TOKENS, stream=True, seed=1, logit_bias=never, repeat_penalty=1.1
    )
    times = [time.perf_counter() for _ in stream]
    return (times[-1] - times[0]) / (len(times) - 1)
