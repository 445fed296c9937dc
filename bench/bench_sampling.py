"""A row of logits -> a token: phiplug beside llama.cpp's chain, mlx-lm's sampler and a full sort, on the CPU.

`python -m bench.bench_sampling` measures the default settings and each filter alone at four widths and on three kinds
of row, in one run and in turn, and prints one table: phiplug's median, and for each peer its median and by how much
phiplug is faster (the median of the ratios of the rounds). All have the same stages in phiplug's order, but for mlx-lm,
which has its own; with no filter "full sort" has nothing to sort.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.pairs import Row, compare
from bench.sampling_peers import PEERS, Draw
from phiplug.sampling import Sampler
from phiplug.types import SamplingParams

TURN = 5
WIDTHS = (32_064, 49_152, 128_256, 262_144)
PLAIN = SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0, seed=1)
DEFAULT = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.1, repeat_last_n=64, seed=1)
SETTINGS = {
    "default": DEFAULT,
    "llama.cpp's own": SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0, seed=1),
    "greedy": replace(PLAIN, temperature=0.0),
    "no filter": PLAIN,
    "temperature 0.8": replace(PLAIN, temperature=0.8),
    "repeat_penalty 1.1": replace(PLAIN, repeat_penalty=1.1),
    "top_k 40": replace(PLAIN, top_k=40),
    "top_p 0.95": replace(PLAIN, top_p=0.95),
    "min_p 0.05": replace(PLAIN, min_p=0.05),
}


def kinds(width: int) -> dict[str, np.ndarray]:
    """Return a row where a few tokens have nearly all the mass, one with a nucleus of 7% of them, and a flat one."""
    source = np.random.default_rng(width)
    bulk = source.normal(0, 2.5, width).astype(np.float32)
    peaked = bulk.copy()
    peaked[source.integers(0, width, 5)] = [24, 22, 21, 20, 19]
    return {"peaked": peaked, "medium": bulk, "flat": source.normal(0, 0.1, width).astype(np.float32)}


def rows(widths: tuple[int, ...] = WIDTHS, names: tuple[str, ...] = ("default",), rounds: int = 15) -> list[Row]:
    """Measure; phiplug is the reference of the ratios, so a peer's is below 1 where phiplug is faster."""
    measured = []
    for width in widths:
        history = np.random.default_rng(1).integers(0, width, 100).tolist()
        for kind, logits in kinds(width).items():
            for name in names:
                measured += compare(
                    f"sampling {width:,} {kind}, {name}", contestants(SETTINGS[name], logits, history), rounds=rounds
                )
    return measured


def contestants(params: SamplingParams, logits: np.ndarray, history: list[int]) -> dict[str, Callable[[], float]]:
    sampler = Sampler(params, [], history)
    draws: dict[str, Draw] = {"phiplug": lambda: sampler(logits)}
    draws |= {name: peer(params, logits, history) for name, peer in PEERS.items()}
    return {name: lambda draw=draw: seconds(draw) for name, draw in draws.items()}


def seconds(draw: Draw) -> float:
    """Return the seconds per draw of one turn: a few draws, since the first finds the caches full of another's data."""
    begun = time.perf_counter()
    for _ in range(TURN):
        draw()
    return (time.perf_counter() - begun) / TURN


def show(measured: list[Row]) -> None:
    table = Table("row", "phiplug", *PEERS, box=box.SIMPLE_HEAD, pad_edge=False)
    for index in range(0, len(measured), 1 + len(PEERS)):
        own, *peers = measured[index : index + 1 + len(PEERS)]
        cells = [f"{peer.seconds * 1e3:.3f} ms  {1 / peer.ratio:5.1f}x" for peer in peers]
        table.add_row(own.suite.removeprefix("sampling "), f"{own.seconds * 1e3:.3f} ms", *cells)
    Console(highlight=False, width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--settings", nargs="*", default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    show(rows(tuple(given.widths), tuple(given.settings), given.rounds))


if __name__ == "__main__":
    main()
