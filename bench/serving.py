"""Asks several OpenAI-compatible servers in turn, and says tokens per second, time to first token and gaps of each.

    python -m bench.serving load NAME=URL ... [--clients 1,4,8,16] [--rounds 3] [--temperature 0.8] [--top-p 0.95]
    python -m bench.serving long NAME=URL ...       one prompt of some 1,500 tokens beside four streams
    python -m bench.serving shared NAME=URL ...     eight clients with one system prompt of some 1,000 tokens

Each NAME is the model's too where the server has several. The servers run, and are loaded with the same model, slots
and threads; nothing is started here. Rounds go from server to server, so that all of them meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import statistics
import time
from dataclasses import dataclass, field

import httpx

TOKENS = 96
SAMPLING = {"temperature": 0.8, "top_p": 0.95}
PROMPTS = itertools.count(1)  # no two alike, so that no server has computed one before
WORDS = " ".join(f"Item {number}: the bell was heard at {number * 7 % 24} o'clock." for number in range(400))
LONG, SHARED = WORDS[:3900], WORDS[:2600]  # some 1,500 and 1,000 tokens of SmolLM2's


@dataclass
class Answer:
    """What came of one stream: when each piece came, in seconds, and the token counts at its end."""

    asked: float
    pieces: list[float] = field(default_factory=list)
    usage: dict = field(default_factory=dict)

    @property
    def ttft(self):
        return self.pieces[0] - self.asked

    @property
    def tokens(self):
        """As many as the server says, or pieces where it says nothing: llama_cpp.server sends one for each token."""
        return self.usage.get("completion_tokens", len(self.pieces))


def body_of(prompt, *, tokens=TOKENS, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    return {
        "messages": [*messages, {"role": "user", "content": prompt}],
        "max_tokens": tokens,
        **SAMPLING,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def story():
    return f"{next(PROMPTS)}: write a long story about the sea."


async def ask(client, body):
    answer = Answer(time.perf_counter())
    async with client.stream("POST", "/v1/chat/completions", json=body) as stream:
        if stream.status_code != 200:
            raise SystemExit(f"{client.base_url}: {(await stream.aread()).decode()}")
        async for line in stream.aiter_lines():
            if not line.startswith("data: {"):
                continue
            data = json.loads(line[6:])
            answer.usage = data.get("usage") or answer.usage
            if any(choice["delta"].get("content") for choice in data["choices"]):
                answer.pieces.append(time.perf_counter())
    return answer


async def load(client, clients):
    """Return tokens per second of all, and the times to first token, where so many ask at once."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(ask(client, body_of(story())) for _ in range(clients)))
    tokens = sum(answer.tokens for answer in answers)
    return tokens / (time.perf_counter() - began), [answer.ttft for answer in answers]


async def long(client, _):
    """Return the longest gap of four streams beside a long prompt, and that prompt's time to first token."""
    streams = [asyncio.create_task(ask(client, body_of(story(), tokens=200))) for _ in range(4)]
    await asyncio.sleep(2)
    prompt = await ask(client, body_of(f"{next(PROMPTS)}: sum this up. {LONG}", tokens=8))
    gaps = [
        later - earlier
        for answer in await asyncio.gather(*streams)
        for earlier, later in itertools.pairwise(answer.pieces)
        if later > prompt.asked and earlier < prompt.pieces[0]
    ]
    return max(gaps, default=0.0), [prompt.ttft], prompt.usage["prompt_tokens"]


async def shared(client, clients):
    """Return the time until all have their first token, and how many tokens of each prompt were not computed again."""
    system = f"{next(PROMPTS)} {SHARED}"
    answers = await asyncio.gather(*(ask(client, body_of(story(), tokens=8, system=system)) for _ in range(clients)))
    cached = [(answer.usage.get("prompt_tokens_details") or {}).get("cached_tokens") for answer in answers]
    return max(answer.ttft for answer in answers), cached, answers[0].usage["prompt_tokens"]


def report(scenario, found):
    """Print a line for each server and number of clients, over the rounds."""
    for (clients, name), rounds in found.items():
        if scenario == "load":
            ttfts = sorted(ttft for _, each in rounds for ttft in each)
            speeds = [speed for speed, _ in rounds]
            print(
                f"{clients:3} clients, {name}: {statistics.median(speeds):.1f} tok/s ({min(speeds):.1f} to"
                f" {max(speeds):.1f}); first token after {statistics.median(ttfts):.3f} s at the median,"
                f" {ttfts[math.ceil(0.95 * len(ttfts)) - 1]:.3f} s at the 95th percentile"
            )
        elif scenario == "long":
            gaps, ttfts = [each[0] for each in rounds], [each[1][0] for each in rounds]
            print(
                f"{name}: {rounds[0][2]} tokens beside 4 streams: their longest gaps {_list(gaps)} s,"
                f" its first token after {_list(ttfts)} s"
            )
        else:
            print(
                f"{clients} clients, {name}: prompts of {rounds[0][2]} tokens, the last first token after"
                f" {_list(each[0] for each in rounds)} s, cached {[each[1] for each in rounds]}"
            )


def _list(numbers):
    return ", ".join(f"{number:.2f}" for number in numbers)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=["load", "long", "shared"])
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    parser.add_argument("--clients", default="1,4,8,16")
    parser.add_argument("--rounds", type=int, default=3)
    for name, value in SAMPLING.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    asked = parser.parse_args()
    SAMPLING.update(temperature=asked.temperature, top_p=asked.top_p)
    servers = dict(each.split("=", 1) for each in asked.servers)
    play = {"load": load, "long": long, "shared": shared}[asked.scenario]
    levels = [int(each) for each in asked.clients.split(",")] if asked.scenario == "load" else [8]
    found = {(clients, name): [] for clients in levels for name in servers}
    clients_of = {name: httpx.AsyncClient(base_url=url, timeout=300) for name, url in servers.items()}
    for name in servers:
        await ask(clients_of[name], body_of(story(), tokens=8))  # warms up
    for _, level, name in itertools.product(range(asked.rounds), levels, servers):
        found[level, name].append(await play(clients_of[name], level))
    report(asked.scenario, found)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except httpx.ConnectError as error:
        raise SystemExit(f"{error.request.url}: {error}") from None
