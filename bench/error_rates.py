"""Says how often a comparison is wrong: an engine against itself, and against itself with a planted slowdown.

    python -m bench.error_rates record FILE [--rounds 300] [--beside-spinning]
    python -m bench.error_rates report FILE

`record` decodes with SmolLM2 on llama.cpp, one thread: in each round, in a random order, twice as it is and twice with
a busy wait that makes each token 3% and 5% slower. `report` takes 100 comparisons of consecutive rounds from the file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time
from pathlib import Path

from phiplug import load
from phiplug.bench.intervals import of_pairs
from phiplug.spi import Step

TOKENS = 8
COMPARISONS, ROUNDS, MOST = 100, 10, 60
PRECISION = 0.02
SLOWER = {"as it is": 0.0, "again": 0.0, "3% slower": 0.03, "5% slower": 0.05}


def decode(model, ids, wait_s):
    """Return the seconds that some tokens take after the same prompt, each made longer by a busy wait."""
    model.rewind(0, len(ids))
    token = 1
    began = time.perf_counter()
    for _ in range(TOKENS):
        token = int(model.forward([Step(0, (token,))]).logits()[0].argmax())
        until = time.perf_counter() + wait_s
        while time.perf_counter() < until:
            pass
    return time.perf_counter() - began


def record(path, rounds):
    with load("smollm2", backend="llama-cpp", threads=1, ctx_size=512) as llm:
        model, ids = llm.engine.model, tuple(llm.encode("Once upon a time, in a village by the sea, there lived"))
        model.forward([Step(0, ids)]).logits()
        step_s = statistics.median(decode(model, ids, 0.0) for _ in range(20)) / TOKENS
        order = random.Random(0)
        found = {name: [] for name in SLOWER}
        for _ in range(rounds):
            for name in order.sample(list(SLOWER), len(SLOWER)):
                found[name].append(decode(model, ids, SLOWER[name] * step_s))
    path.write_text(json.dumps(found))


def report(path):
    found = json.loads(path.read_text())
    plain = found["as it is"]
    noise = statistics.quantiles(a / b for a, b in zip(plain, found["again"], strict=True))
    print(
        f"{len(plain)} rounds of {TOKENS} tokens; quartiles of the ratio of two equals {noise[0]:.3f}, {noise[2]:.3f}"
    )
    starts = random.Random(1)
    blocks = [starts.randrange(len(plain) - MOST) for _ in range(COMPARISONS)]
    for name, times in found.items():
        if name == "as it is":
            continue
        ratios = [theirs / ours for ours, theirs in zip(plain, times, strict=True)]
        fixed = sum(of_pairs(ratios[start : start + ROUNDS]).is_difference for start in blocks)
        stopped = [stop(ratios[start : start + MOST]) for start in blocks]
        called = sum(ratio.is_difference for ratio, _ in stopped)
        rounds = statistics.median(count for _, count in stopped)
        print(
            f"{name}: called a difference {fixed} of {COMPARISONS} times with {ROUNDS} rounds; "
            f"{called} with --precision {PRECISION:.0%} and at most {MOST} rounds (median {rounds:g})"
        )
        needed = [first_found(ratios[start : start + MOST]) for start in blocks]
        reached = [count for count in needed if count]
        if name != "again" and reached:
            print(f"  found with {statistics.median(reached):g} rounds at the median, {len(reached)} times with {MOST}")


def stop(ratios):
    """Return what a comparison says that goes on until it is precise, and after how many rounds."""
    for count in range(ROUNDS, len(ratios) + 1):
        found = of_pairs(ratios[:count])
        if found.precision <= PRECISION:
            break
    return found, count


def first_found(ratios):
    """Return with how many rounds, fixed beforehand, a difference is found, or None."""
    counts = range(8, len(ratios) + 1)
    return next((count for count in counts if of_pairs(ratios[:count]).is_difference), None)


def spin():
    while True:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["record", "report"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--beside-spinning", action="store_true")
    given = parser.parse_args()
    if given.what == "report":
        report(given.file)
        return
    beside = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    if given.beside_spinning:
        beside.start()
    record(given.file, given.rounds)


if __name__ == "__main__":
    main()
