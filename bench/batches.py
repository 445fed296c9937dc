"""Measures a batch beside the scheduler alone, in pairs that alternate, and its memory over many lines.

    python bench/batches.py speed [MODEL] [--pairs 5] [--lines 48] [--tokens 24] [--slots 8]
    python bench/batches.py memory [--lines 20000]

`speed` loads the model once, with one thread. Each half of a pair has prompts of its own, equally long, so that neither
finds the other's in a slot; both are sorted alike and draw as many tokens. The batch reads a file and writes one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from phiplug.batch.asking import Asking, Terms
from phiplug.batch.conduct import Job, conduct, here
from phiplug.batch.output import Output
from phiplug.batch.source import Source
from phiplug.batch.tasks import TaskReader
from phiplug.load import load

MODES = ("speed", "memory")


class Nobody:
    """Watches nothing."""

    def look(self, run, tally):
        """Do nothing."""


class Rss:
    """Notes the memory of this process at every thousandth row."""

    def __init__(self):
        self.found = {}

    def look(self, _, tally):
        """Note it."""
        if tally.rows % 1000 == 0 and tally.rows not in self.found:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.found[tally.rows] = pages * 4096 / 1e6


def lines(mark, count, tokens):
    topics = ["the sea", "a red door", "two old friends", "bread"]
    return [
        {
            "custom_id": f"{mark}-{at}",
            "prompt": f"{mark} Write about {topics[at % 4]}, number {at:04}.",
            "max_tokens": tokens,
            "ignore_eos": True,
        }
        for at in range(count)
    ]


def job_of(folder, asked, name):
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in asked), encoding="utf-8")
    return Job(Source(str(path)), Terms(names=(name,)))


def batch(llm, asked, watch):
    """Return the seconds that a batch takes from its file to its output."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = job_of(folder, asked, llm.files.reference)
        started = time.perf_counter()
        with Output(str(folder / "out.jsonl")) as output:
            tally = conduct(job, here(job, llm), output, watch)
        seconds = time.perf_counter() - started
    assert (tally.rows, tally.errors) == (len(asked), 0)
    return seconds


def alone(llm, asked):
    """Return the seconds that the scheduler takes for the same requests, prepared before."""
    with tempfile.TemporaryDirectory() as name:
        job = job_of(Path(name), asked, llm.files.reference)
        asking = Asking(llm, job.terms)
        with job.source.lines() as read:
            works = [asking.prepare(task) for task in TaskReader().read(read)]
    requests = sorted((work.requests[0] for work in works), key=lambda request: request.prompt_ids)
    started = time.perf_counter()
    tokens = sum(len(each.tokens) for each in llm.engine.completions(requests))
    seconds = time.perf_counter() - started
    assert tokens == sum(line["max_tokens"] for line in asked)
    return seconds


def speed(args):
    with load(args.model, slots=args.slots, threads=1, ctx_size=args.ctx_size) as llm:
        alone(llm, lines("warm", args.slots, 4))
        ratios = []
        for pair in range(args.pairs):
            halves = {"a": lambda mark: alone(llm, lines(mark, args.lines, args.tokens)),
                      "b": lambda mark: batch(llm, lines(mark, args.lines, args.tokens), Nobody())}  # fmt: skip
            order = "ab" if pair % 2 == 0 else "ba"
            took = {half: halves[half](f"{half}{pair}") for half in order}
            ratios.append(took["a"] / took["b"])
            rate = args.lines * args.tokens / took["b"]
            print(
                f"pair {pair}: alone {took['a']:.2f} s, batch {took['b']:.2f} s ({rate:.1f} tokens/s), {ratios[-1]:.3f}"
            )
        print(
            f"{llm.backend}, {args.slots} slots: the batch has {statistics.median(ratios):.3f} of the scheduler's speed"
        )
        print(f"the least {min(ratios):.3f}, the most {max(ratios):.3f}, {args.pairs} pairs")


def memory(args):
    with load("toy", backend="toy", slots=args.slots) as llm:
        watch = Rss()
        seconds = batch(llm, lines("m", args.lines, 2), watch)
    for rows in sorted(watch.found):
        if rows in (1000, args.lines) or rows % 5000 == 0:
            print(f"{rows} rows: {watch.found[rows]:.1f} MB")
    print(f"{args.lines} lines in {seconds:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MODES)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--lines", type=int)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--ctx-size", type=int, default=512)
    args = parser.parse_args()
    args.lines = args.lines or (20_000 if args.what == "memory" else 48)
    {"speed": speed, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
