"""phiplug on MLX beside mlx-lm's own loop, on the same weights in the same process: `make bench-mlx`.

mlx-lm samples on the device and queues the next pass before it reads the token of this one; phiplug brings each row to
the host, where every backend's rows are sampled alike, with lookahead while the device goes on from a guess. The ratios
are what either costs, on Metal, CUDA or the CPU: docs/decisions/lookahead.md. `python -m bench.lookahead` prints more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bench.pairs import Benchmark, paired
from phiplug.engine import Engine
from phiplug.errors import ModelError
from phiplug.load import load

pytest.importorskip("mlx.core", exc_type=ImportError)
pytest.importorskip("mlx_lm")
from bench.lookahead import SAMPLINGS, Letters, ours, theirs, thin_model
from phiplug_mlx.devices import devices

REFERENCE = os.environ.get("PHIPLUG_MODEL", "smollm2")
TOKENS = {"cpu": {"thin": 32, "model": 12}}  # a CPU decodes ten in a second
MANY = 256


@pytest.fixture(scope="module", params=["thin", "model"])
def loaded(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, int]]:
    """A thin model of 32 layers with random weights, and one that people use; and how many tokens to decode."""
    count = TOKENS.get(devices()[0], {}).get(request.param, MANY)
    if request.param == "thin":
        engine = Engine(thin_model(devices()[0]), Letters(), backend="mlx")
        yield engine, count
        engine.close()
        return
    try:
        llm = load(REFERENCE, backend="mlx", ctx_size=2048, offline=True)
    except ModelError as error:
        pytest.skip(f"{REFERENCE} is not here: {error.message}")
    with llm:
        yield llm.engine, count


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_decoding(benchmark: Benchmark, loaded: tuple[Engine, int], sampling: str) -> None:
    engine, count = loaded
    how = SAMPLINGS[sampling]
    paired(
        benchmark,
        lambda: ours(engine, how, count, ahead=True),
        {
            "mlx-lm's generate_step": lambda: theirs(engine, how, count),
            "phiplug without lookahead": lambda: ours(engine, how, count, ahead=False),
        },
    )
