"""Measures a batch beside the scheduler alone, in pairs that alternate, and its memory over many lines.

    python bench/batches.py speed [MODEL] [--pairs 5] [--lines 48] [--tokens 24] [--slots 8]
    python bench/batches.py ray [MODEL] [--pairs 3] [--lines 128] [--tokens 12] [--slots 8]
    python bench/batches.py memory [--lines 20000]

`speed` loads the model once, with one thread. Each half of a pair has prompts of its own, equally long, so that neither
finds the other's in a slot; both are sorted alike and draw as many tokens. The batch reads a file and writes one.
`ray` alternates the scheduler alone with one actor of a Ray cluster on this machine, each from its 50th answer on.
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

MODES = ("speed", "ray", "memory")
SKIPPED = 50  # answers before the clock of `ray` starts


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


def requests_of(llm, asked):
    """Return the requests of lines, sorted as a batch sorts them."""
    with tempfile.TemporaryDirectory() as name:
        job = job_of(Path(name), asked, llm.files.reference)
        asking = Asking(llm, job.terms)
        with job.source.lines() as read:
            works = [asking.prepare(task) for task in TaskReader().read(read)]
    return sorted((work.requests[0] for work in works), key=lambda request: request.prompt_ids)


def alone(llm, asked):
    """Return the seconds that the scheduler takes for the same requests, prepared before."""
    requests = requests_of(llm, asked)
    started = time.perf_counter()
    tokens = sum(len(each.tokens) for each in llm.engine.completions(requests))
    seconds = time.perf_counter() - started
    assert tokens == sum(line["max_tokens"] for line in asked)
    return seconds


def rate_of(counts):
    """Return the tokens per second of answers, given one by one as their numbers of tokens, from a later one on."""
    tokens, started = 0, None
    for at, count in enumerate(counts):
        if at >= SKIPPED:
            tokens += count
        if at == SKIPPED - 1:
            started = time.perf_counter()
    return tokens / (time.perf_counter() - started)


def rows_of(spread, asked, name):
    """Yield how many tokens each row has that a cluster's actors compute."""
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(Path(folder), asked, name)
        with job.source.lines() as read:
            for row in spread.over(TaskReader().read(read)).rows():
                if row is not None:
                    yield row["response"]["body"]["usage"]["completion_tokens"]


def on_ray(args):
    from phiplug.batch.answerer import Order
    from phiplug.batch.spread import Spread, connect
    from phiplug.server.worker import Load

    engine = Load(args.model, "llama-cpp", ctx_size=args.ctx_size, slots=args.slots, threads=1)
    order = Order(engine, Terms(names=(args.model,)))
    ratios = []
    with (
        load(args.model, slots=args.slots, threads=1, ctx_size=args.ctx_size, backend="llama-cpp") as llm,
        Spread(connect(None), order, 1, cpus=0.5) as spread,
    ):
        spread.identities()
        for pair in range(args.pairs):
            halves = {
                "a": lambda asked: rate_of(
                    len(each.tokens) for each in llm.engine.completions(requests_of(llm, asked))
                ),
                "b": lambda asked: rate_of(rows_of(spread, asked, args.model)),
            }
            order_of = "ab" if pair % 2 == 0 else "ba"
            rates = {half: halves[half](lines(f"{half}{pair}", args.lines, args.tokens)) for half in order_of}
            ratios.append(rates["b"] / rates["a"])
            print(f"pair {pair}: alone {rates['a']:.1f} tokens/s, one actor {rates['b']:.1f}, {ratios[-1]:.3f}")
    least, most = min(ratios), max(ratios)
    print(f"one actor has {statistics.median(ratios):.3f} of the scheduler's speed ({least:.3f} to {most:.3f})")


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
    args.lines = args.lines or {"memory": 20_000, "ray": 128, "speed": 48}[args.what]
    {"speed": speed, "ray": on_ray, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
