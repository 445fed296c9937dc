"""phiplug on MLX beside mlx-lm's own loop, on the same weights in the same process: `make bench-mlx`.

mlx-lm samples on the device and queues the next pass before it reads the token of this one; phiplug brings each row to
the host, where every backend's rows are sampled alike. The ratio is what that costs: docs/decisions/host-sampling.md
says where it would change the design. On a Mac it is measured on Metal, elsewhere on CUDA or the CPU.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.pairs import Benchmark, paired
from phiplug.llm import LLM
from phiplug.load import load
from phiplug.types import Request, SamplingParams

mx = pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")
from mlx_lm.generate import generate_step  # noqa: E402
from mlx_lm.sample_utils import make_logits_processors, make_sampler  # noqa: E402

REFERENCE = os.environ.get("PHIPLUG_MODEL", "smollm2")
PROMPT = "Once upon a time"
TOKENS = {"cpu": 12, "metal": 256, "cuda": 256}  # a CPU decodes ten in a second
CTX = 2048
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
DEFAULT = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.1, repeat_last_n=64, seed=1)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with load(REFERENCE, backend="mlx", ctx_size=CTX) as loaded:
        yield loaded


def test_greedy_decoding(benchmark: Benchmark, llm: LLM) -> None:
    count = TOKENS[llm.info.device]
    paired(benchmark, lambda: ours(llm, GREEDY, count), {"mlx-lm's generate_step": lambda: theirs(llm, count)})


def test_decoding_with_default_sampling(benchmark: Benchmark, llm: LLM) -> None:
    count = TOKENS[llm.info.device]
    how = {
        "sampler": make_sampler(temp=0.8, top_p=0.95),
        "logits_processors": make_logits_processors(repetition_penalty=1.1, repetition_context_size=64),
    }
    paired(benchmark, lambda: ours(llm, DEFAULT, count), {"mlx-lm's generate_step": lambda: theirs(llm, count, **how)})


def ours(llm: LLM, sampling: SamplingParams, count: int) -> float:
    """Return seconds per token after the first, text and all."""
    request = Request(tuple(llm.encode(PROMPT)), sampling, max_tokens=count, ignore_stop_ids=True, reuse=False)
    return llm.submit(request).completion().timings.decode_s / (count - 1)


def theirs(llm: LLM, count: int, **how: Any) -> float:
    """Return seconds per token after the first, ids alone."""
    model: Any = llm.engine.model  # mlx-lm's loop wants the module inside
    prompt = mx.array(llm.encode(PROMPT))
    steps = itertools.islice(generate_step(prompt, model.module, max_tokens=count, **how), count)
    times = [time.perf_counter() for _ in steps]
    return (times[-1] - times[0]) / (count - 1)
