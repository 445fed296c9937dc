"""Several requests at once on llama.cpp: beside a bare batched loop, and a stream beside a long prompt.

The bare loop is `llama_decode` on one token of each sequence and an argmax of each row, as small as Python allows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import llama_cpp
import numpy as np
import pytest

from bench.bench_llama_cpp import DEFAULT, GREEDY, PROMPT, REFERENCE, BareLoop, decode
from bench.pairs import Benchmark, paired
from phiplug.llm import LLM
from phiplug.load import load
from phiplug.types import Request, SamplingParams

STREAMS = 8
CTX = 2048  # tokens of a slot
NEW_TOKENS = 24


class BareBatch(BareLoop):
    """`STREAMS` sequences, side by side in one batch."""

    def fill(self, ids: list[int]) -> list[int]:
        """Compute the prompt once for each sequence; return the likeliest next ids."""
        llama_cpp.llama_memory_clear(self.memory, True)
        return [self.together([(slot, token, at) for at, token in enumerate(ids)])[-1] for slot in range(STREAMS)]

    def together(self, fed: list[tuple[int, int, int]]) -> list[int]:
        """Append (sequence, token, position) triples in one pass; return the argmax of each row."""
        batch = llama_cpp.llama_batch_init(len(fed), 0, 1)
        batch.n_tokens = len(fed)
        for index, (slot, token, position) in enumerate(fed):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position, 1
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, slot
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        rows = [llama_cpp.llama_get_logits_ith(self.context, index) for index in range(len(fed))]
        found = [int(np.ctypeslib.as_array(row, shape=(self.vocab_size,)).argmax()) for row in rows]
        llama_cpp.llama_batch_free(batch)
        return found

    def generate_together(self, ids: list[int], count: int) -> float:
        """Return seconds per pass after the first token of each sequence, greedy."""
        tokens = self.fill(ids)
        started = time.perf_counter()
        for position in range(len(ids), len(ids) + count - 1):
            tokens = self.together([(slot, token, position) for slot, token in enumerate(tokens)])
        return (time.perf_counter() - started) / (count - 1)


class Engines(NamedTuple):
    """The model with `STREAMS` slots, and bare."""

    llm: LLM
    bare: BareBatch


@pytest.fixture(scope="module", params=[1, 2], ids=lambda threads: f"{threads}-threads")
def engines(request: pytest.FixtureRequest) -> Iterator[Engines]:
    """Load the model twice, for a number of threads."""
    with load(REFERENCE, backend="llama-cpp", threads=request.param, ctx_size=CTX, slots=STREAMS) as llm:
        yield Engines(llm, BareBatch(str(llm.files.path), request.param, slots=STREAMS, context=CTX))


def together(llm: LLM, sampling: SamplingParams) -> float:
    """Return phiplug's seconds per pass over `STREAMS` streams: those of the last to begin, which ends first."""
    ids = tuple(llm.encode(PROMPT))
    last = Request(ids, sampling, max_tokens=NEW_TOKENS, ignore_stop_ids=True, reuse=False)
    others = [llm.submit(replace(last, max_tokens=2 * NEW_TOKENS)) for _ in range(STREAMS - 1)]
    seconds = llm.submit(last).completion().timings.decode_s / (NEW_TOKENS - 1)
    for stream in others:
        stream.close()
    return seconds


def test_streams_together_greedy(benchmark: Benchmark, engines: Engines) -> None:
    ids = engines.llm.encode(PROMPT)
    peers = {"a bare batch and argmax": lambda: engines.bare.generate_together(ids, NEW_TOKENS)}
    paired(benchmark, lambda: together(engines.llm, GREEDY), peers)


def test_streams_together_with_default_sampling(benchmark: Benchmark, engines: Engines) -> None:
    ids = engines.llm.encode(PROMPT)
    peers = {"a bare batch and argmax": lambda: engines.bare.generate_together(ids, NEW_TOKENS)}
    paired(benchmark, lambda: together(engines.llm, DEFAULT), peers)


@pytest.mark.parametrize("sampling", [GREEDY, DEFAULT], ids=["greedy", "default"])
def test_one_stream_on_a_model_of_many_slots(benchmark: Benchmark, engines: Engines, sampling: SamplingParams) -> None:
    ids = engines.llm.encode(PROMPT)
    peers = {"bare llama_decode and argmax": lambda: engines.bare.generate(ids, NEW_TOKENS)}
    paired(benchmark, lambda: decode(engines.llm, sampling), peers)


def test_a_stream_beside_a_long_prompt(benchmark: Benchmark, engines: Engines) -> None:
    """Its longest wait for a token, beside the time that the prompt's last chunk takes alone."""
    llm, prompts = engines.llm, long_prompts(engines.llm)
    peers = {"the last chunk alone": lambda: last_chunk(llm, next(prompts))}
    paired(benchmark, lambda: longest_wait(llm, next(prompts)), peers, rounds=3)


def long_prompts(llm: LLM) -> Iterator[tuple[int, ...]]:
    """Yield prompts of two chunks that no slot holds yet."""
    source = np.random.default_rng(0)
    while True:
        yield tuple(source.integers(100, 40_000, 2 * llm.info.chunk).tolist())


def last_chunk(llm: LLM, prompt: tuple[int, ...]) -> float:
    """Return the seconds that the last chunk of a prompt takes alone, after those before it."""
    whole = Request(prompt, GREEDY, max_tokens=1, ignore_stop_ids=True)
    before = replace(whole, prompt_ids=prompt[: -llm.info.chunk], reuse=False)
    llm.submit(before).completion()
    answer = llm.submit(whole).completion()
    assert answer.usage.cached_tokens == len(before.prompt_ids)
    return answer.timings.prefill_s


def longest_wait(llm: LLM, prompt: tuple[int, ...]) -> float:
    """Return the longest time between two tokens of a stream while a prompt is computed beside it."""
    stream = llm.submit(Request(tuple(llm.encode(PROMPT)), GREEDY, max_tokens=12, ignore_stop_ids=True))
    next(stream)
    other = llm.submit(Request(prompt, GREEDY, max_tokens=1, ignore_stop_ids=True, reuse=False))
    times = [time.perf_counter() for _ in stream]
    other.close()
    return max(after - before for before, after in itertools.pairwise(times))
