"""Through phiplug against mlx-lm's own loop, on the same weights in the same process: `make bench-mlx`.

mlx-lm samples on the device and queues the next pass before it reads the token of this one; phiplug brings each row to
the host, where every backend's rows are sampled alike. The ratio is what that costs: docs/decisions/host-sampling.md
says where it would change the design. On a Mac it is measured on Metal, elsewhere on CUDA or the CPU.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from bench.__main__ import show
from bench.pairs import Row, compare
from phiplug.llm import LLM
from phiplug.load import load
from phiplug.types import Request, SamplingParams

REFERENCE = "smollm2"
PROMPT = "Once upon a time"
TOKENS = {"cpu": 12, "metal": 256, "cuda": 256}  # a CPU decodes ten in a second
CTX = 2048
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
DEFAULT = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.1, repeat_last_n=64, seed=1)


def rows(reference: str = REFERENCE, rounds: int = 7) -> list[Row]:
    """Compare decoding, greedy and at the default settings."""
    with load(reference, backend="mlx", ctx_size=CTX) as llm:
        count, suite = TOKENS[llm.info.device], f"{llm.info.device}, {llm.info.quantization}"
        sampler = make_sampler(temp=0.8, top_p=0.95)
        penalty = make_logits_processors(repetition_penalty=1.1, repetition_context_size=64)
        greedy = {
            "mlx-lm generate_step": lambda: theirs(llm, count),
            "phiplug": lambda: ours(llm, GREEDY, count),
        }
        default = {
            "mlx-lm generate_step": lambda: theirs(llm, count, sampler=sampler, logits_processors=penalty),
            "phiplug": lambda: ours(llm, DEFAULT, count),
        }
        return [
            *compare(f"{suite}: greedy", greedy, rounds=rounds),
            *compare(f"{suite}: temperature 0.8, top_p 0.95, penalty 1.1", default, rounds=rounds),
        ]


def ours(llm: LLM, sampling: SamplingParams, count: int) -> float:
    """Return seconds per token after the first, text and all."""
    request = Request(tuple(llm.encode(PROMPT)), sampling, max_tokens=count, ignore_stop_ids=True, reuse="none")
    return llm.submit(request).completion().timings.decode_s / (count - 1)


def theirs(llm: LLM, count: int, **how: Any) -> float:
    """Return seconds per token after the first, ids alone."""
    model: Any = llm.engine.model  # mlx-lm's loop wants the module inside
    prompt = mx.array(llm.encode(PROMPT))
    steps = itertools.islice(generate_step(prompt, model.module, max_tokens=count, **how), count)
    times = [time.perf_counter() for _ in steps]
    return (times[-1] - times[0]) / (count - 1)


if __name__ == "__main__":
    show(rows(*sys.argv[1:2]))
