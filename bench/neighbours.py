"""Counts the answers that are the same alone and beside neighbours, and the choices that are those of lone requests.

    python -m bench.neighbours toy
    python -m bench.neighbours llama-cpp --model smollm2 --threads 2

Half of the requests are greedy and half have a seed; prompts and answers reach across 256 and 512 tokens. Each is first
computed alone, then beside 1, 3 and 7 others, which end before it does or are closed. It measures no time.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace

from phiplug import LLM, load
from phiplug.types import Request, SamplingParams

TEXT = "The history of ice hockey begins on frozen ponds, and nobody knows who made the first puck out of what. "
GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0)
LENGTHS = (40, 120, 250, 300, 508)
CHOICES = 4


def requests(llm: LLM, count: int, lengths: tuple[int, ...], max_tokens: int) -> Iterator[Request]:
    """Yield requests for stretches of a text; the first is drawn by a seed, the next is greedy, and so on."""
    ids = llm.tokenizer.encode(TEXT * 20)
    for index, length in zip(range(count), itertools.cycle(lengths), strict=False):
        sampling = replace(GREEDY, seed=index) if index % 2 else SamplingParams(seed=index)
        prompt = tuple(ids[index : index + length])
        yield Request(prompt, sampling, max_tokens=max_tokens, repeatable=True, ignore_stop_ids=True)


def answer(llm: LLM, asked: Request) -> tuple[int, ...]:
    return llm.engine.submit(asked).completion().tokens


def beside(llm: LLM, asked: Request, others: list[Request]) -> tuple[int, ...]:
    """Return the tokens of one request, while others run that are closed when it ends."""
    streams = [llm.engine.submit(other) for other in others]
    try:
        return answer(llm, asked)
    finally:
        for stream in streams:
            stream.close()


def same_choices(llm: LLM, asked: Request, seed: int) -> int:
    """Return how many of a request's choices are what a lone request with their seed brings."""
    drawn = replace(asked, sampling=SamplingParams(seed=seed))
    together = [stream.completion().tokens for stream in llm.engine.choices(drawn, CHOICES)]
    lone = [replace(drawn, sampling=SamplingParams(seed=seed + index), reuse=False) for index in range(CHOICES)]
    return sum(answer(llm, each) == tokens for each, tokens in zip(lone, together, strict=True))


def main() -> None:
    """Print a line for each number of neighbours, and one for choices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend")
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--count", type=int, default=80)
    options = parser.parse_args()
    with load(options.model, backend=options.backend, threads=options.threads, ctx_size=640, slots=8) as llm:
        asked = list(requests(llm, options.count, LENGTHS, max_tokens=12))
        alone = [answer(llm, each) for each in asked]
        for neighbours in (1, 3, 7):
            others = itertools.cycle(requests(llm, 5, (30, 9, 70), max_tokens=20))
            found = [beside(llm, each, list(itertools.islice(others, neighbours))) for each in asked]
            equal = sum(one == other for one, other in zip(alone, found, strict=True))
            print(f"beside {neighbours}: {equal} of {len(asked)} equal", flush=True)
        equal = sum(same_choices(llm, each, seed) for seed, each in enumerate(asked[::CHOICES]))
        print(f"choices: {equal} of {len(asked[::CHOICES]) * CHOICES} equal")


if __name__ == "__main__":
    main()
