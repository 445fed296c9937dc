"""What a constraint costs: its mask and the masking of a row for each token, compiling, and decoding beside a free run.

SmolLM2's vocabulary has 49,152 tokens. `PHIPLUG_VOCABULARIES=path/to/llama.cpp/models` adds two larger ones, which
llama.cpp's source carries. Masks are measured in CPU time, since they wait for nothing.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.pairs import Benchmark, paired
from phiplug.gguf import read_header
from phiplug.llm import LLM, PromptOptions
from phiplug.load import load
from phiplug.spi import Tokenizer
from phiplug.text.constraint import Grammars
from phiplug.text.tokenizer import tokenizer_of
from phiplug.types import Constraint, Request, SamplingParams

VOCABULARIES = {"49k": None, "128k": "ggml-vocab-llama-bpe.gguf", "256k": "ggml-vocab-command-r.gguf"}
TEXT = '{"name": "Ada Lovelace", "born": 1815, "tags": ["mathematics", "poetry"], "home": {"city": "London"}}'
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "born": {"type": "integer", "minimum": 0, "maximum": 2100},
        "tags": {"type": "array", "items": {"type": "string"}},
        "home": {"type": "object", "properties": {"city": {"enum": ["London", "Paris"]}}, "required": ["city"]},
    },
    "required": ["name", "born", "tags", "home"],
}
DRAWN = Constraint("json_schema", json.dumps(SCHEMA), force=False)
LONG = Constraint("json_schema", '{"properties": {"text": {"minLength": 900}}, "required": ["text"]}', force=False)
NEW_TOKENS = 64


@pytest.fixture(params=VOCABULARIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    name = VOCABULARIES[request.param]
    if name is None:
        with load("smollm2", backend="llama-cpp", threads=1) as llm:
            return llm.tokenizer
    folder = os.environ.get("PHIPLUG_VOCABULARIES")
    if not folder:
        pytest.skip("PHIPLUG_VOCABULARIES names no folder of llama.cpp's vocabularies")
    return tokenizer_of(read_header(Path(folder) / name))


def test_mask_and_application(benchmark: Benchmark, tokenizer: Tokenizer) -> None:
    """One document; `extra_info` has the milliseconds of a token."""
    grammars = Grammars(tokenizer, tokenizer.vocab_size)
    ids = tokenizer.encode(TEXT, parse_special=False)
    row = np.random.default_rng(1).normal(0, 3, tokenizer.vocab_size).astype(np.float32)
    taken: list[float] = []

    def document() -> None:
        guide = grammars.guide(DRAWN)
        for token in ids:
            begun = time.thread_time()
            np.putmask(row, guide.forbidden(), np.float32(-np.inf))
            taken.append(time.thread_time() - begun)
            guide.accept(token)

    benchmark.pedantic(document, rounds=50, warmup_rounds=1)
    milliseconds = 1e3 * np.array(taken)
    benchmark.extra_info["median_ms"] = float(np.median(milliseconds))
    benchmark.extra_info["p99.9_ms"] = float(np.percentile(milliseconds, 99.9))


def test_another_schema(benchmark: Benchmark, tokenizer: Tokenizer) -> None:
    grammars = Grammars(tokenizer, tokenizer.vocab_size)
    grammars.guide(DRAWN)
    fresh = (replace(DRAWN, source=json.dumps(SCHEMA | {"title": str(index)})) for index in range(100))
    benchmark.pedantic(lambda: grammars.guide(next(fresh)), rounds=50)


def test_the_first_constraint_of_a_model(benchmark: Benchmark, tokenizer: Tokenizer) -> None:
    benchmark.pedantic(lambda: Grammars(tokenizer, tokenizer.vocab_size).guide(DRAWN), rounds=3)


def test_decoding(benchmark: Benchmark) -> None:
    """Every token drawn, beside a run without a constraint; seconds per token."""
    with load("smollm2", backend="llama-cpp", threads=1) as llm:
        paired(benchmark, lambda: seconds(llm, LONG), {"no constraint": lambda: seconds(llm, None)}, rounds=16)


def seconds(llm: LLM, constraint: Constraint | None) -> float:
    """Return the seconds of wall time that one token took."""
    prompt = tuple(llm.encode("Write a text.", PromptOptions(raw=True)))
    request = Request(
        prompt, SamplingParams(seed=1), NEW_TOKENS, constraint=constraint, ignore_stop_ids=constraint is None
    )
    return llm.engine.submit(request).completion().timings.decode_s / (NEW_TOKENS - 1)
