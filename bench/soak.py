"""Keeps a worker busy with many clients for minutes, and says what memory, descriptors and threads are left over.

    python -m bench.soak [--minutes 10] [--clients 64] [--model toy] [--backend toy]

`make soak` runs it. Every tenth client goes away before its answer is over.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter

import psutil

from phiplug.errors import ModelBusy
from phiplug.server.ports import Work
from phiplug.server.worker import Load, Supervisor
from phiplug.types import Request, SamplingParams

SLOTS = 8
MB = 1 << 20


def work(number):
    prompt = tuple(f"Request {number % 97}: the puck slides over ".encode())
    sampling = SamplingParams(temperature=0.8, seed=number)
    return Work(f"request-{number}", Request(prompt, sampling, max_tokens=8 + number % 24, ignore_stop_ids=True))


async def client(supervisor, numbers, until, tally):
    for number in numbers:
        if time.monotonic() > until:
            return
        try:
            events = await supervisor.submit(work(number))
        except ModelBusy:
            tally["refused"] += 1
            await asyncio.sleep(0.1)
            continue
        chunks = 0
        async for event in events:
            chunks += 1
            if number % 10 == 0 and chunks == 3:
                await events.aclose()
                tally["left"] += 1
            elif event.chunk.finish_reason:
                tally["answered"] += 1


def footprint(pid):
    processes = psutil.Process(), psutil.Process(pid)
    return [(each.memory_info().rss / MB, each.num_fds(), each.num_threads()) for each in processes]


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--model", default="toy")
    parser.add_argument("--backend", default="toy")
    asked = parser.parse_args()
    supervisor = Supervisor(Load(asked.model, asked.backend, slots=SLOTS))
    await supervisor.start()
    tally, numbers, parts = Counter(), iter(range(10**9)), 4
    marks = []
    for _ in range(parts + 1):  # the first part warms up: caches fill, and allocators take what they keep
        until = time.monotonic() + asked.minutes * 60 / (parts + 1)
        await asyncio.gather(*(client(supervisor, numbers, until, tally) for _ in range(asked.clients)))
        marks.append((sum(tally.values()), footprint(supervisor.pid)))
        print(marks[-1], supervisor.status, flush=True)
    thousands = (marks[-1][0] - marks[0][0]) / 1000
    for index, name in enumerate(("supervisor", "worker")):
        (first, *_), (last, *_) = marks[0][1][index], marks[-1][1][index]
        print(f"{name}: {(last - first) / thousands:+.3f} MB in 1,000 requests")
        assert marks[0][1][index][1:] == marks[-1][1][index][1:], "descriptors or threads are left over"
    print(dict(tally), "open at the end:", supervisor.status.open, "restarts:", supervisor.status.restarts)
    await supervisor.close()


if __name__ == "__main__":
    asyncio.run(main())
