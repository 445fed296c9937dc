"""Lookahead changes no token: answers are equal with and without, however often guesses are wrong."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest

from phiplug.engine import Engine
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.types import Constraint, Request, SamplingParams
from phiplug_toy import CORPUS, FORMAT
from phiplug_toy.model import load
from phiplug_toy.tokenizer import ByteTokenizer

PROMPTS = [b": Ice hockey is", b": The", b": A puck", b": assistant: "]
SAMPLING = {
    "greedy": {"temperature": 0.0, "repeat_penalty": 1.0},
    "default": {},
    "penalties": {"repeat_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.2, "penalize_prompt": True},
    "filters": {"top_k": 20, "top_p": 0.7, "min_p": 0.02, "logit_bias": {101: 2.0, 32: -1.0}},
    "cold": {"temperature": 0.3, "top_p": 0.1},
}
SCHEMA = {"type": "object", "properties": {"ab": {"type": "boolean"}}, "required": ["ab"]}
REST = {
    "plain": {},
    "stop strings": {"stop": ("e", "th")},
    "constraint": {"constraint": Constraint("regex", "[a-z ]{3,30}")},
    "form": {"constraint": Constraint("json_schema", json.dumps(SCHEMA))},
    "log-probabilities": {"logprobs": 2},
}


def engine(slots=1, wrong_every=0, on=True, **info):
    model = load(ModelFiles("toy", CORPUS, FORMAT), LoadOptions(slots=slots))
    model.info = dataclasses.replace(model.info, **info)
    model.wrong_every = wrong_every
    made = Engine(model, ByteTokenizer())
    made.scheduler.lookahead.is_on = on
    return made


def request(index):
    """One of many kinds of request; equal indices give equal requests."""
    chance = random.Random(index)
    sampling = SamplingParams(seed=index, **SAMPLING[chance.choice(list(SAMPLING))])
    rest = REST[chance.choice(list(REST))]
    ids = (256, *chance.choice(PROMPTS))
    return Request(ids, sampling, max_tokens=chance.choice((1, 2, 7, 24)), repeatable=chance.random() < 0.5, **rest)


def answers(made, requests, cancelled=None):
    """What each request got, with one reader that takes turns and goes away from those that are `cancelled`."""
    streams, found = [made.submit(each) for each in requests], [[] for _ in requests]
    cancelled = cancelled or {}
    open_ones = list(range(len(streams)))
    while open_ones:
        for index in [*open_ones]:
            chunk = next(streams[index], None)
            if chunk is not None:
                found[index].append((chunk.text, chunk.tokens, chunk.finish_reason, chunk.logprobs, chunk.constraint))
            if chunk is None or chunk.finish_reason or len(found[index]) == cancelled.get(index):
                streams[index].close()
                open_ones.remove(index)
    return found


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("independence", ["none", "decode", "all"])
@pytest.mark.parametrize("wrong_every", [0, 100, 3, 1])
def test_answers_are_equal_with_and_without(slots, independence, wrong_every):
    requests = [request(index) for index in range(200 if independence == "all" else 50)]
    cancelled = {index: 1 + index % 5 for index in range(0, len(requests), 7)}
    equal = 0
    for start in range(0, len(requests), 10):  # more than there are slots
        batch = requests[start : start + 10]
        gone = {index: cancelled[start + index] for index in range(10) if start + index in cancelled}
        known = [engine(slots, on=on, wrong_every=wrong_every, row_independence=independence) for on in (False, True)]
        without, with_guesses = (answers(made, batch, gone) for made in known)
        equal += sum(a == b for a, b in zip(without, with_guesses, strict=True))
    assert equal == len(requests)
