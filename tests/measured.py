"""Runs of made-up numbers, for the tests of what is said about them."""

from __future__ import annotations

from dataclasses import replace

from phiplug.bench.types import (
    Contender,
    Hardware,
    Loaded,
    ModelIdentity,
    Row,
    Run,
    Sample,
    Workload,
)

DRAWS = tuple(range(8 * 100))  # with eight seeds at a hundred positions

MODEL = ModelIdentity("tiny", "gguf", "a" * 64, 1000, 2000, 4.0, 1000, "Q4_0")
WORK = Workload(prompt_tokens=10, gen_tokens=5, sha256="b" * 64)
HARDWARE = Hardware(
    id="0123456789ab",
    cpu="Imaginary 9000",
    physical_cores=2,
    logical_cores=4,
    memory=2**33,
    gpus=(),
    system="Linux",
    release="6",
    machine="x86_64",
    python="CPython 3.11.7",
    phiplug="0.1.0",
    copy_bytes_per_s=4e5,
    metadata={"rack": "B7"},
)
LOADED = Loaded("cpu", "Q4_0", "1.0", 2, {"features": "AVX2"}, 0.5, "b" * 64, DRAWS, 0.0)


def sample(step_s=0.01, prefill_s=0.1):
    """A round whose tokens came `step_s` apart."""
    arrivals = tuple(prefill_s + step_s * index for index in range(WORK.gen_tokens))
    return Sample(
        prefill_s=prefill_s,
        ttft_s=prefill_s,
        decode_s=step_s * (WORK.gen_tokens - 1),
        wall_s=arrivals[-1],
        arrivals_s=(arrivals,),
        output="c" * 16,
    )


def row(backend="a", steps=(0.01,) * 8, *, loaded=LOADED, **contender):
    """A row of so many rounds, each with its seconds between tokens."""
    return Row(Contender(backend, **contender), loaded, tuple(map(sample, steps)), peak_memory=5_000_000)


def run(*rows, **changes):
    """A run of these rows."""
    made = Run(
        started="2026-01-01T00:00:00+00:00",
        model=MODEL,
        workload=WORK,
        hardware=HARDWARE,
        rows=rows,
        rounds=len(rows[0].samples),
    )
    return replace(made, **changes)
