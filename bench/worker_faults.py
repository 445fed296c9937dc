"""Ends a worker by signals under load, over HTTP, and counts the answers that are the same as without a signal.

    python -m bench.worker_faults [--model smollm2] [--backend llama-cpp] [--times 20] [--threads 1]

It measures text and recovery, not speed. The pause is the longest time between two chunks of a stream; a part of it is
the new process, and the rest computes once more what the old one had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import time

import httpx
import uvicorn

from phiplug.load import choose_for, tokenizer_of
from phiplug.plugins import Plugins
from phiplug.server.app import make_app
from phiplug.server.catalog import Catalog, ServedModel
from phiplug.server.running import Address, config_of
from phiplug.server.service import Settings
from phiplug.server.worker import Load, Supervisor
from phiplug.server.worker.machine import ThisMachine
from phiplug.text.prompt import PromptEncoder

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
STREAMS, PROMPT, TOKENS = 3, 246, 20  # from below position 256 to beyond it
PORT = 8163


class Hastened(ThisMachine):
    """This machine, with a minute between two rounds: three deaths in a minute would open the circuit."""

    def __init__(self):
        self.skipped = 0.0

    def now(self):
        return super().now() + self.skipped


class Timed(Supervisor):
    """Notes when the worker's last process had loaded its model."""

    ready_at = 0.0

    def _begin_all(self, info):
        self.ready_at = time.perf_counter()
        super()._begin_all(info)


def body(index):
    return {
        "prompt": [40 + at % 200 for at in range(PROMPT + index)],  # ids that every vocabulary has
        "max_tokens": TOKENS,
        "temperature": 0.8,
        "top_p": 0.95,
        "seed": 3 + index,
        "ignore_eos": True,
        "stream": True,
    }


async def read(client, index, arrivals):
    """Return the text of an answer, or None where an error ended it, and its longest pause."""
    text, longest, last = "", 0.0, time.perf_counter()
    async with client.stream("POST", "/v1/completions", json=body(index)) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            data, now = json.loads(line[6:]), time.perf_counter()
            if "error" in data:
                return None, longest
            text += data["choices"][0]["text"]
            longest, last = max(longest, now - last), now
            arrivals.append(now)
    return text, longest


async def round_of(client, supervisor, with_signal=None, after=0):
    """Return what came of all streams, and how long the new process took; a signal comes after so many chunks."""
    arrivals, signalled = [], 0.0
    tasks = [asyncio.create_task(read(client, index, arrivals)) for index in range(STREAMS)]
    if with_signal is not None:
        while len(arrivals) < after:
            await asyncio.sleep(0.001)
        signalled = time.perf_counter()
        os.kill(supervisor.pid, with_signal)
    return await asyncio.gather(*tasks), supervisor.ready_at - signalled


async def play(supervisor, machine, times):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=300) as client:
        while supervisor.pid is None or not await answers(client):
            await asyncio.sleep(0.1)
        whole = [text for text, _ in (await round_of(client, supervisor))[0]]
        equal, seen = dict.fromkeys(SIGNALS, 0), {each: ([], []) for each in SIGNALS}
        for time_ in range(times):
            for each in SIGNALS:
                found, new = await round_of(client, supervisor, each, after=1 + time_ * STREAMS * TOKENS // (times + 4))
                equal[each] += sum(text == expected for (text, _), expected in zip(found, whole, strict=True))
                seen[each][0].extend(pause for _, pause in found)
                seen[each][1].append(max(new, 0.0))  # a quick stream may end first
                machine.skipped += 61
            print(report(equal, seen, time_ + 1), flush=True)


async def answers(client):
    try:
        return (await client.get("/health")).status_code == 200
    except httpx.TransportError:
        return False


def report(equal, seen, times):
    return "\n".join(
        f"{each.name}: {equal[each]} of {times * STREAMS} equal, {statistics.median(new):.2f} s at the median and"
        f" {max(new):.2f} s at most until the new process was ready, pauses of {statistics.median(pauses):.2f} s and"
        f" {max(pauses):.2f} s"
        for each, (pauses, new) in seen.items()
    )


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--backend", default="llama-cpp")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    plugins, machine = Plugins.installed(), Hastened()
    files, backend = choose_for(asked.model, plugins, backend=asked.backend)
    order = Load(files.reference, backend.name, slots=STREAMS, ctx_size=512, threads=asked.threads)
    supervisor, tokenizer = Timed(order, machine=machine), tokenizer_of(files, plugins)
    served = ServedModel("m", PromptEncoder(None, tokenizer, "m"), tokenizer, None, {backend.name: supervisor})
    server = uvicorn.Server(config_of(make_app(Catalog([served]), Settings()), Address(port=PORT)))
    await supervisor.start()
    serving = asyncio.create_task(server.serve())
    await play(supervisor, machine, asked.times)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
