"""On MLX, too, lookahead changes no token: a tiny model answers alike with and without."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiny import byte_tokens, write_llama

from phiplug.engine import Engine
from phiplug.load import tokenizer_of
from phiplug.plugins import Plugins
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.types import Constraint, Request, SamplingParams

pytestmark = pytest.mark.usefixtures("mlx")

KINDS = {
    "greedy": ({"temperature": 0.0, "repeat_penalty": 1.0}, {}),
    "default": ({}, {}),
    "penalties": ({"repeat_penalty": 1.3, "frequency_penalty": 0.4, "penalize_prompt": True}, {}),
    "filters": ({"top_k": 20, "top_p": 0.7, "min_p": 0.02, "logit_bias": {101: 2.0}}, {}),
    "constraint": ({}, {"constraint": Constraint("regex", "[a-z ]{3,30}")}),
    "stop strings": ({}, {"stop": ("e", "a")}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = write_llama(tmp_path_factory.mktemp("lookahead") / "tiny.gguf", byte_tokens())
    return ModelFiles(str(path), path, "gguf")


@pytest.fixture(params=[1, 4])
def made(request, files):
    from phiplug_mlx.model import load

    model = load(files, LoadOptions(slots=request.param))
    engine = Engine(model, tokenizer_of(files, Plugins.installed()))
    yield engine
    engine.close()


class Wrong:
    """A draw that is one id off."""

    def __init__(self, draw, width):
        self._draw, self._width = draw, width

    def __call__(self, xp, row):
        return (self._draw(xp, row) + 1) % self._width


def answers(engine, requests, gone):
    streams, found = [engine.submit(each) for each in requests], [[] for _ in requests]
    live = list(range(len(streams)))
    while live:
        for index in [*live]:
            chunk = next(streams[index], None)
            found[index] += chunk.tokens if chunk else ()
            if chunk is None or chunk.finish_reason or len(found[index]) >= gone.get(index, 99):
                streams[index].close()
                live.remove(index)
    return found


@pytest.mark.parametrize("wrong_every", [0, 100, 4])
def test_answers_are_equal_with_and_without(made, wrong_every, monkeypatch):
    model = made.model
    guess, count = model.guess, SimpleNamespace(drawn=0)

    def sometimes_wrong(asked, draws):
        count.drawn += 1
        is_wrong = wrong_every and count.drawn % wrong_every == 0
        return guess(asked, [Wrong(each, model.info.vocab_size) if each and is_wrong else each for each in draws])

    monkeypatch.setattr(model, "guess", sometimes_wrong)
    requests, slots = [], model.info.slots
    for index in range(34 if slots == 1 else 36):
        sampling, rest = KINDS[[*KINDS][index % len(KINDS)]]
        sampling = SamplingParams(seed=index, **sampling)
        repeatable = slots == 1 or index >= 24
        ids = tuple(range(60 + index % 5, 90 - index % 7))
        requests.append(Request(ids, sampling, max_tokens=3 + index % 9, repeatable=repeatable, reuse=False, **rest))
    cancelled = {index: 1 + index % 5 for index in range(0, len(requests), 7)}
    both = []
    for is_on in (False, True):
        made.scheduler.lookahead.is_on = is_on
        found = []
        for start in range(0, len(requests), slots):
            gone = {index: cancelled[start + index] for index in range(slots) if start + index in cancelled}
            found += answers(made, requests[start : start + slots], gone)
        both.append(found)
    assert both[0] == both[1]
    assert count.drawn > 20
