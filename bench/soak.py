"""Keeps a server busy with many clients for minutes, and says what memory, descriptors and threads are left over.

    python -m bench.soak [--minutes 10] [--clients 64] [--model toy] [--backend toy] [--beside-spinning 0]

`make soak` runs it. Every answer is 200, or 429 with `Retry-After`; every tenth client goes before its answer is over.
Processes that spin beside it show whether a starved worker is taken for a hung one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
import time
from collections import Counter

import httpx
import psutil

PORT = 8164
URL = f"http://127.0.0.1:{PORT}"
QUEUE = 16  # fewer than clients, so that some are refused
PARTS = 4
MB = 1 << 20


def body(number):
    return {
        "prompt": f"Request {number % 97}: the puck slides over ",
        "max_tokens": 8 + number % 24,
        "temperature": 0.8,
        "seed": number,
        "ignore_eos": True,
        "stream": bool(number % 2),
    }


async def ask(client, number, tally):
    async with client.stream("POST", "/v1/completions", json=body(number)) as answer:
        if answer.status_code == 429 and answer.headers["retry-after"]:
            tally["refused"] += 1
            await asyncio.sleep(0.1)
            return
        assert answer.status_code == 200, (answer.status_code, await answer.aread())
        if number % 10 == 1:
            await anext(answer.aiter_lines())
            tally["left"] += 1
            return
        text = (await answer.aread()).decode()
    assert text.endswith("data: [DONE]\n\n" if number % 2 else "}"), text
    assert '"error"' not in text, text
    tally["answered"] += 1


async def work(client, numbers, until, tally):
    for number in numbers:
        if time.monotonic() > until:
            return
        await ask(client, number, tally)


def footprint(server):
    """Return the resident memory, descriptors and threads of the server's process and of its worker's."""
    processes = [server, *server.children()]
    return [(each.memory_info().rss / MB, each.num_fds(), each.num_threads()) for each in processes]


async def quiet():
    """Wait until the server answers and nothing is open; return what it says of itself."""
    while True:
        try:
            metrics = httpx.get(f"{URL}/metrics").text
        except httpx.TransportError:
            metrics = ""
        lines = [line for line in metrics.splitlines() if line.startswith("phiplug_open_requests{")]
        if lines and all(line.endswith(" 0.0") for line in lines):
            return metrics
        await asyncio.sleep(0.1)


async def soak(asked, server):
    tally, numbers, marks = Counter(), itertools.count(), []
    await quiet()
    for _ in range(PARTS + 1):  # the first part warms up: caches fill, and allocators take what they keep
        until = time.monotonic() + asked.minutes * 60 / (PARTS + 1)
        limits = httpx.Limits(max_connections=asked.clients)
        async with httpx.AsyncClient(base_url=URL, timeout=300, limits=limits) as client:
            await asyncio.gather(*(work(client, numbers, until, tally) for _ in range(asked.clients)))
        metrics = await quiet()
        await asyncio.sleep(1)  # the server closes what its clients have closed
        marks.append((sum(tally.values()), footprint(server)))
        print(dict(tally), marks[-1][1], flush=True)
    thousands = (marks[-1][0] - marks[0][0]) / 1000
    for name, (first, *before), (last, *after) in zip(("server", "worker"), marks[0][1], marks[-1][1], strict=True):
        print(f"{name}: {(last - first) / thousands:+.3f} MB in 1,000 requests; descriptors, threads {before}, {after}")
    print(next(line for line in metrics.splitlines() if line.startswith("phiplug_worker_restarts{")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--model", default="toy")
    parser.add_argument("--backend", default="toy")
    parser.add_argument("--beside-spinning", type=int, default=0, metavar="PROCESSES")
    asked = parser.parse_args()
    program = [sys.executable, "-P", "-c", "from phiplug.cli import main; main()"]
    options = ["-m", asked.model, "-b", asked.backend, "--port", str(PORT), "--queue", str(QUEUE)]
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(asked.beside_spinning)]
    process = subprocess.Popen([*program, "serve", *options], stderr=subprocess.DEVNULL)
    try:
        asyncio.run(soak(asked, psutil.Process(process.pid)))
    finally:
        for each in (process, *spinning):
            each.terminate()
            each.wait()


if __name__ == "__main__":
    main()
