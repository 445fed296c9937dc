"""How often a device's draw in float32 is the host's, counted: `python -m bench.guessed_draws --draws 100000`.

Rows are normal, from flat to peaked, and the parameters go through what people use. A wrong draw is classified: two
candidates that float32 cannot tell apart, an id at the edge of the nucleus or of min_p, or neither, which is a fault.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiplug.sampling import Row, Sampler
from phiplug.sampling.noise import noise, request_key
from phiplug.types import SamplingParams

PROMPT = (1, 2, 3)
PARAMETERS = (
    {},
    {"temperature": 0.7, "top_p": 0.9, "repeat_penalty": 1.0},
    {"temperature": 1.0, "top_p": 1.0, "repeat_penalty": 1.0},
    {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repeat_penalty": 1.0},
    {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05},
    {"temperature": 1.0, "top_p": 0.5, "frequency_penalty": 0.5, "presence_penalty": 0.2},
)
SCALES = (0.5, 1.0, 2.0, 3.0, 4.0)  # standard deviations of the logits
POOL = 40  # rows that are kept and turned, since making one takes longer than drawing from it


def excuse(params: SamplingParams, sampled: list[int], row: NDArray[np.float32], drawn: tuple[int, int]) -> str:
    """Say why two ids may be drawn from one row: "tie", "edge", or "" where they may not.

    Args:
        params: how both were drawn.
        sampled: the ids before them, behind the prompt.
        row: float32, (V,).
        drawn: the device's id and the host's.
    """
    unfiltered = Sampler(replace(params, top_p=1.0, min_p=0.0), PROMPT, sampled)
    ids, shares = unfiltered.probabilities(row)
    order = np.lexsort((ids, -shares))
    ids, shares = ids[order], shares[order]
    places = [int(np.flatnonzero(ids == token)[0]) for token in drawn if token in ids]
    if len(places) == len(drawn):
        assert params.seed is not None
        key = request_key(params.seed, PROMPT)
        z = -np.log(noise(key, len(PROMPT) + len(sampled), ids[places])) / shares[places]
        if abs(z[0] - z[1]) <= 1e-6 * z.min():
            return "tie"
    before = np.concatenate([[0.0], np.cumsum(shares)])
    for place in places:
        if params.top_p < 1.0 and min(abs(before[place : place + 2] - params.top_p)) <= 1e-4:
            return "edge"
        if params.min_p > 0.0 and abs(shares[place] / shares[0] - params.min_p) <= 1e-6:
            return "edge"
    return ""


def draws(xp: Any, width: int, count: int) -> Iterator[str]:
    """Yield "right" or what excuses a wrong draw, for so many draws with one array module."""
    source = np.random.default_rng(width)
    pool = [(source.normal(size=width) * SCALES[turn % len(SCALES)]).astype(np.float32) for turn in range(POOL)]
    buffer = Row(width)
    for turn in range(count):
        row = np.roll(pool[turn % POOL], int(source.integers(width)))
        params = SamplingParams(**PARAMETERS[turn % len(PARAMETERS)], seed=int(source.integers(2**63)))
        sampled = source.integers(width, size=int(source.integers(80))).tolist()
        sampler = Sampler(params, PROMPT, sampled, row=buffer)
        draw = sampler.ahead(width)
        assert draw is not None
        there, here = int(draw(xp, xp.array(row))), sampler(row)
        yield "right" if there == here else excuse(params, sampled, row, (there, here)) or "fault"


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="for each width")
    parser.add_argument("--widths", type=int, nargs="+", default=[49_152, 128_256])
    parser.add_argument("--module", choices=("mlx", "numpy"), default="mlx")
    asked = parser.parse_args()
    xp: Any = np
    if asked.module == "mlx":
        import mlx.core as xp
    for width in asked.widths:
        found: Counter[str] = Counter()
        for turn, what in enumerate(draws(xp, width, asked.draws), start=1):
            found[what] += 1
            if turn % 10_000 == 0 or turn == asked.draws:
                shown = ", ".join(f"{count} {what}" for what, count in found.most_common())
                print(
                    f"V {width}, {asked.module}: {turn} draws: {shown}; {found['right'] / turn:.4%} right", flush=True
                )


if __name__ == "__main__":
    main()
