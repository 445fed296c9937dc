"""A request that must repeat gets the same ids alone and beside neighbours that come and go, on real weights."""

from __future__ import annotations

import itertools

import pytest

from phiplug import load
from phiplug.types import Request, SamplingParams

TEXT = "The history of ice hockey begins on frozen ponds, and nobody knows who made the first puck out of what. "
GREEDY = {"temperature": 0.0, "repeat_penalty": 1.0}


def requests(llm, count, lengths):
    ids = llm.tokenizer.encode(TEXT * 20)
    for index, length in zip(range(count), itertools.cycle(lengths), strict=False):
        sampling = SamplingParams(seed=index, **(GREEDY if index % 2 else {}))
        yield Request(
            tuple(ids[index : index + length]), sampling, max_tokens=12, repeatable=True, ignore_stop_ids=True
        )


def noisy(llm, asked, stranger):
    """Read one stream while others come and go."""
    stream = llm.engine.submit(asked)
    others, tokens = [], []
    for turn, chunk in enumerate(stream):
        tokens += chunk.tokens
        if turn % 3 == 0 and len(others) < 7:
            others.append(llm.engine.submit(next(stranger)))
        if turn % 4 == 3 and others:
            others.pop(0).close()
    for other in others:
        other.close()
    return tuple(tokens)


@pytest.mark.parametrize("threads", [1, 2])
def test_answers_across_256_are_the_same_alone_and_beside_others(smollm2, threads):
    with load(smollm2, backend="llama-cpp", threads=threads, ctx_size=640, slots=8) as llm:
        asked = list(requests(llm, 4, [40, 250, 300, 508]))
        alone = [llm.engine.submit(each).completion().tokens for each in asked]
        strangers = itertools.cycle(requests(llm, 5, [30, 9, 70]))
        assert [noisy(llm, each, strangers) for each in asked] == alone
        fresh = [llm.engine.submit(each).completion().tokens for each in reversed(asked)]
        assert fresh[::-1] == alone
