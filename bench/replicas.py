"""Measures what stands between a client and a model: one stream after another, by turns through each address.

    python bench/replicas.py direct=http://127.0.0.1:8080 nginx=http://127.0.0.1:8000 [--requests 60] [--tokens 50]

All serve the same model. What is given: until the first piece of text, and until the end, in ms, medians, and their
distances from the first address.
"""

from __future__ import annotations

import argparse
import statistics
import time

import httpx

WARM = 5  # requests through each address before any counts


def stream(client, seed, tokens):
    """Return how many ms pass until the first text, and until the end."""
    said = [{"role": "user", "content": f"Tell me of {seed}."}]
    body = {"messages": said, "seed": seed, "max_tokens": tokens, "ignore_eos": True, "stream": True}
    started, first = time.perf_counter(), None
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if first is None and '"content":"' in line and '"content":""' not in line:
                first = time.perf_counter()
    assert first is not None
    return 1000 * (first - started), 1000 * (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("addresses", nargs="+", metavar="NAME=URL")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=50)
    args = parser.parse_args()
    named = [each.partition("=")[::2] for each in args.addresses]
    clients = {name: httpx.Client(base_url=url, timeout=60) for name, url in named}
    found = {name: [] for name in clients}
    for seed in range(WARM + args.requests):
        for name, client in clients.items():
            times = stream(client, seed, args.tokens)
            if seed >= WARM:
                found[name].append(times)
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    base = next(iter(medians.values()))
    for name, (first, end) in medians.items():
        added = f"added {first - base[0]:.1f} and {end - base[1]:.1f}"
        print(f"{name}: first text after {first:.1f} ms, the end after {end:.1f} ms; {added}")


if __name__ == "__main__":
    main()
