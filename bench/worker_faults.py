"""Ends a server's worker by signals under load, and counts the answers that are the same as without a signal.

    python -m bench.worker_faults [--model smollm2] [--backend llama-cpp] [--times 20] [--threads 1]

It measures text and recovery, not speed: the pause is the longest time between two chunks of a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import time

from phiplug.server.ports import Work
from phiplug.server.worker import Load, Supervisor
from phiplug.server.worker.machine import ThisMachine
from phiplug.types import Request, SamplingParams

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
SEEDED = SamplingParams(temperature=0.8, top_p=0.95, repeat_penalty=1.0, seed=3)
STREAMS, PROMPT, TOKENS = 3, 246, 20  # from below position 256 to beyond it


def works():
    for index in range(STREAMS):
        request = Request(
            tuple(range(1000, 1000 + PROMPT + index)), SEEDED, max_tokens=TOKENS, ignore_stop_ids=True, repeatable=True
        )
        yield Work(f"request-{index}", request.choice(index))


async def read(events, arrivals):
    text, longest, last = [], 0.0, time.perf_counter()
    async for event in events:
        now = time.perf_counter()
        text.append(event.chunk.text)
        longest, last = max(longest, now - last), now
        arrivals.append(now)
    return "".join(text), longest


async def round_of(supervisor, with_signal=None, after=0):
    arrivals = []
    tasks = [asyncio.create_task(read(await supervisor.submit(each), arrivals)) for each in works()]
    if with_signal is not None:
        while len(arrivals) < after:
            await asyncio.sleep(0.001)
        os.kill(supervisor.pid, with_signal)
    return await asyncio.gather(*tasks, return_exceptions=True)


class Hastened(ThisMachine):
    """This machine, with a minute between two rounds: three deaths in a minute would open the circuit."""

    def __init__(self):
        self.skipped = 0.0

    def now(self):
        return super().now() + self.skipped


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--backend", default="llama-cpp")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    machine = Hastened()
    order = Load(asked.model, asked.backend, slots=STREAMS, ctx_size=512, threads=asked.threads)
    supervisor = Supervisor(order, machine=machine)
    await supervisor.start()
    whole = [text for text, _ in await round_of(supervisor)]
    equal, pauses = dict.fromkeys(SIGNALS, 0), {each: [] for each in SIGNALS}
    for time_ in range(asked.times):
        for each in SIGNALS:
            found = await round_of(supervisor, each, after=1 + time_ * STREAMS * TOKENS // (asked.times + 4))
            for one, expected in zip(found, whole, strict=True):
                if not isinstance(one, Exception):
                    equal[each] += one[0] == expected
                    pauses[each].append(one[1])
            machine.skipped += 61
        print(report(equal, pauses, time_ + 1), flush=True)
    await supervisor.close()


def report(equal, pauses, times):
    return "; ".join(
        f"{each.name} {equal[each]} of {times * STREAMS} equal, pause {statistics.median(pauses[each]):.2f} s at the"
        f" median, {max(pauses[each]):.2f} s at most"
        for each in SIGNALS
    )


if __name__ == "__main__":
    asyncio.run(main())
